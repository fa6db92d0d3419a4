import java.io.IOException;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import javax.net.ssl.SSLSocket;

/** An HTTPS server with blocking sockets and a thread for each connection. Answers as SecureServer does. */
public class SecureSockets {
    static void serve(SSLSocket socket) {
        try (socket) {
            var in = new java.io.BufferedInputStream(socket.getInputStream());
            var out = socket.getOutputStream();
            while (true) {
                var head = new StringBuilder();
                while (head.indexOf("\r\n\r\n") < 0) {
                    var next = in.read();
                    if (next < 0) {
                        return;
                    }
                    head.append((char) next);
                }
                var length = 0;
                for (var line : head.toString().split("\r\n")) {
                    if (line.toLowerCase().startsWith("content-length:")) {
                        length = Integer.parseInt(line.substring(line.indexOf(':') + 1).trim());
                    }
                }
                in.readNBytes(length);
                var target = head.substring(head.indexOf(" ") + 1, head.indexOf(" HTTP/"));
                var body = Secure.answer(socket.getPort(), target);
                out.write(("HTTP/1.1 200 OK\r\nContent-Length: " + body.length + "\r\n\r\n")
                    .getBytes(StandardCharsets.US_ASCII));
                out.write(body);
            }
        } catch (IOException ended) {
            System.out.println(ended);
        }
    }

    public static void main(String[] arguments) throws Exception {
        var factory = Secure.context().getServerSocketFactory();
        var listener = factory.createServerSocket(
            Integer.parseInt(arguments[0]), 128, InetAddress.getByName("127.0.0.1"));
        var threads = Executors.newCachedThreadPool();
        System.out.println("listening");
        while (true) {
            var socket = (SSLSocket) listener.accept();
            threads.execute(() -> serve(socket));
        }
    }
}
