import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URL;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Asks another service twice on behalf of each request, on the thread that has the request. */
public class Errands {
    static void ask(String path) throws IOException {
        var connection = (HttpURLConnection) new URL(System.getenv("ELSEWHERE_URL") + path).openConnection();
        try (var answer = connection.getInputStream()) {
            answer.readAllBytes();
        }
    }

    static void errands(HttpExchange exchange) throws IOException {
        var path = exchange.getRequestURI().getPath();
        var number = path.substring(path.lastIndexOf('/') + 1);
        ask("/a/" + number);
        ask("/b/" + number);
        var answer = (number + "\n").getBytes();
        exchange.sendResponseHeaders(200, answer.length);
        try (var body = exchange.getResponseBody()) {
            body.write(answer);
        }
    }

    /** 20 threads of the system, or, where the environment says so, a virtual one for each request. */
    static ExecutorService threads() throws ReflectiveOperationException {
        if ("virtual".equals(System.getenv("THREADS"))) {
            // By its name, because a JDK before 21 has none.
            return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
        }
        return Executors.newFixedThreadPool(20);
    }

    public static void main(String[] arguments) throws IOException, ReflectiveOperationException {
        var port = Integer.parseInt(arguments[0]);
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 128);
        server.createContext("/r/", Errands::errands);
        server.setExecutor(threads());
        server.start();
        System.out.println("listening");
    }
}
