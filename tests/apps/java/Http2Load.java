import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Sends requests for /items/N with the JDK's HttpClient, which upgrades its connections to HTTP/2. Arguments: URL, how many, how many at
 * once, over how many connections. Prints how many nanoseconds each took.
 */
public final class Http2Load {
    private static long send(HttpClient client, String url, int number) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/items/" + number)).build();
        long begin = System.nanoTime();
        int status = client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode();
        if (status != 200) {
            throw new IllegalStateException("status " + status);
        }
        return System.nanoTime() - begin;
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        int requests = Integer.parseInt(arguments[1]);
        int streams = Integer.parseInt(arguments[2]);
        int connections = Integer.parseInt(arguments[3]);
        AtomicInteger next = new AtomicInteger();
        List<Callable<List<Long>>> workers = new ArrayList<>();
        List<Long> took = new ArrayList<>();
        for (int connection = 0; connection < connections; connection++) {
            HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).build();
            // The first request upgrades the connection. Others would open more connections until then.
            took.add(send(client, url, next.getAndIncrement()));
            for (int stream = 0; stream < streams / connections; stream++) {
                workers.add(() -> {
                    List<Long> mine = new ArrayList<>();
                    for (int number; (number = next.getAndIncrement()) < requests; ) {
                        mine.add(send(client, url, number));
                    }
                    return mine;
                });
            }
        }
        ExecutorService threads = Executors.newFixedThreadPool(streams);
        for (Future<List<Long>> worker : threads.invokeAll(workers)) {
            took.addAll(worker.get());
        }
        took.forEach(System.out::println);
        System.exit(0);
    }
}
