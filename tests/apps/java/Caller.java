import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URL;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Calls another service twice for each request, on the request's thread. */
public class Caller {
    static void call(String path) throws IOException {
        var connection = (HttpURLConnection) new URL(System.getenv("BACKEND_URL") + path).openConnection();
        try (var response = connection.getInputStream()) {
            response.readAllBytes();
        }
    }

    static void serve(HttpExchange exchange) throws IOException {
        var path = exchange.getRequestURI().getPath();
        var number = path.substring(path.lastIndexOf('/') + 1);
        call("/a/" + number);
        call("/b/" + number);
        var response = (number + "\n").getBytes();
        exchange.sendResponseHeaders(200, response.length);
        try (var body = exchange.getResponseBody()) {
            body.write(response);
        }
    }

    /** 20 platform threads, or, if THREADS is `virtual`, a virtual thread for each request. */
    static ExecutorService threads() throws ReflectiveOperationException {
        if ("virtual".equals(System.getenv("THREADS"))) {
            // Called by name, because JDKs before 21 don't have it.
            return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
        }
        return Executors.newFixedThreadPool(20);
    }

    public static void main(String[] arguments) throws IOException, ReflectiveOperationException {
        var port = Integer.parseInt(arguments[0]);
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 128);
        server.createContext("/r/", Caller::serve);
        server.setExecutor(threads());
        server.start();
        System.out.println("listening");
    }
}
