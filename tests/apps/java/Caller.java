import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URL;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

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

    static ExecutorService virtual() throws ReflectiveOperationException {
        // Called by name, because JDKs before 21 don't have it.
        return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
    }

    /**
     * 20 platform threads, or, if THREADS is `virtual`, a virtual thread for each request. If it is `mixed`, these take turns.
     */
    static Executor threads() throws ReflectiveOperationException {
        var platform = Executors.newFixedThreadPool(20);
        var threads = System.getenv().getOrDefault("THREADS", "platform");
        if (threads.equals("platform")) {
            return platform;
        }
        var virtual = virtual();
        var count = new AtomicInteger();
        return threads.equals("virtual")
            ? virtual
            : task -> (count.getAndIncrement() % 2 == 0 ? virtual : platform).execute(task);
    }

    /** Keeps the garbage collector busy, and keeps some objects alive meanwhile. */
    static void litter() {
        var kept = new byte[1000][];
        for (var count = 0; ; count++) {
            kept[count % kept.length] = new byte[10_000];
        }
    }

    public static void main(String[] arguments) throws IOException, ReflectiveOperationException {
        var port = Integer.parseInt(arguments[0]);
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 128);
        server.createContext("/r/", Caller::serve);
        server.setExecutor(threads());
        server.start();
        if (System.getenv("GARBAGE") != null) {
            var litter = new Thread(Caller::litter);
            litter.setDaemon(true);
            litter.start();
        }
        System.out.println("listening");
    }
}
