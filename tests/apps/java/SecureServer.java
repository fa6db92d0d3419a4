import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;

/** The JDK's HTTPS server, which uses engines. See {@link Secure#answer}. */
public class SecureServer {
    static Executor threads() throws ReflectiveOperationException {
        // Called by name, because JDKs before 21 don't have it.
        return "virtual".equals(System.getenv("THREADS"))
            ? (Executor) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null)
            : Executors.newFixedThreadPool(60);
    }

    public static void main(String[] arguments) throws Exception {
        var server = HttpsServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 128);
        server.setHttpsConfigurator(new HttpsConfigurator(Secure.context()));
        server.createContext("/r/", exchange -> {
            var body = Secure.answer(exchange.getRemoteAddress().getPort(), exchange.getRequestURI().getPath());
            exchange.getRequestBody().readAllBytes();
            exchange.sendResponseHeaders(200, body.length);
            try (var out = exchange.getResponseBody()) {
                out.write(body);
            }
        });
        server.setExecutor(threads());
        server.start();
        System.out.println("listening");
    }
}
