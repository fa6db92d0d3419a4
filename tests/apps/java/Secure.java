import java.io.FileInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.Arrays;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** What the programs that use TLS have in common. */
class Secure {
    private static final char[] PASSWORD = "changeit".toCharArray();

    /** The certificate, which is its own authority, is in the file KEYSTORE. */
    static SSLContext context() throws GeneralSecurityException, IOException {
        var store = KeyStore.getInstance("PKCS12");
        try (var file = new FileInputStream(System.getenv("KEYSTORE"))) {
            store.load(file, PASSWORD);
        }
        var keys = KeyManagerFactory.getInstance("SunX509");
        keys.init(store, PASSWORD);
        var trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    /** Waits until the agent has logged that the TLS of this JVM is read. The environment has the file of its log. */
    static void waitForAgent() throws IOException, InterruptedException {
        var line = "TLS is read pid=" + ProcessHandle.current().pid() + " library=\"JSSE\"";
        var log = Path.of(System.getenv("AGENT_LOG"));
        for (var looks = 0; !Files.readString(log).contains(line); looks++) {
            if (looks == 3000) {
                throw new IOException("the agent does not read the TLS of the client");
            }
            Thread.sleep(10);
        }
    }

    /** For the path `/r/BYTES/NUMBER`: the client's port, a line end, and so many bytes. */
    static byte[] answer(int port, String path) {
        var head = (port + "\n").getBytes();
        var answer = Arrays.copyOf(head, head.length + Integer.parseInt(path.split("/")[2]));
        Arrays.fill(answer, head.length, answer.length, (byte) 'x');
        return answer;
    }
}
