import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;

/**
 * Sends requests to an HTTPS server: `SecureClient CLIENT THREADS URL ROUND...`. A round is `FIRST:COUNT:IN_FLIGHT:SENT:RECEIVED`,
 * the last two in bytes. Prints `answered NUMBER PORT` for each, with the port of its socket that the server saw.
 */
public class SecureClient {
    interface Client {
        byte[] post(URI uri, byte[] body) throws Exception;
    }

    static Client connections(SSLContext context) {
        return (uri, body) -> {
            var connection = (HttpsURLConnection) uri.toURL().openConnection();
            connection.setSSLSocketFactory(context.getSocketFactory());
            if (body.length > 0) {
                connection.setDoOutput(true);
                connection.setFixedLengthStreamingMode(body.length);
                try (var out = connection.getOutputStream()) {
                    out.write(body);
                }
            }
            try (var in = connection.getInputStream()) {
                return in.readAllBytes();
            }
        };
    }

    static Client httpClient(SSLContext context) {
        var client = HttpClient.newBuilder().sslContext(context).build();
        return (uri, body) -> {
            var request = HttpRequest.newBuilder(uri);
            if (body.length > 0) {
                request.POST(HttpRequest.BodyPublishers.ofByteArray(body));
            }
            return client.send(request.build(), BodyHandlers.ofByteArray()).body();
        };
    }

    static ExecutorService threads(String kind, int count) throws ReflectiveOperationException {
        if (kind.equals("platform")) {
            return Executors.newFixedThreadPool(count);
        }
        var factory = Class.forName("java.lang.Thread").getMethod("ofVirtual").invoke(null);
        var built = Class.forName("java.lang.Thread$Builder").getMethod("factory").invoke(factory);
        return Executors.newFixedThreadPool(count, (java.util.concurrent.ThreadFactory) built);
    }

    public static void main(String[] arguments) throws Exception {
        var context = Secure.context();
        Secure.waitForAgent();
        var client = arguments[0].equals("HttpClient") ? httpClient(context) : connections(context);
        for (var round = 3; round < arguments.length; round++) {
            var numbers = new ArrayList<Integer>();
            for (var number : arguments[round].split(":")) {
                numbers.add(Integer.parseInt(number));
            }
            var body = new byte[numbers.get(3)];
            var pool = threads(arguments[1], numbers.get(2));
            var answers = new ArrayList<Future<?>>();
            for (var count = 0; count < numbers.get(1); count++) {
                var number = numbers.get(0) + count;
                var uri = URI.create(arguments[2] + "/r/" + numbers.get(4) + "/" + number);
                answers.add(pool.submit(() -> {
                    var answer = client.post(uri, body);
                    var head = 0;
                    while (answer[head] != '\n') {
                        head++;
                    }
                    if (answer.length != head + 1 + numbers.get(4)) {
                        throw new IOException("cut short: " + answer.length);
                    }
                    System.out.println("answered " + number + " " + new String(answer, 0, head));
                    return null;
                }));
            }
            for (var answer : answers) {
                answer.get();
            }
            pool.shutdown();
        }
        System.exit(0);
    }
}
