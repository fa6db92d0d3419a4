import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;

/**
 * Sends requests of many sizes, always the same ones. Arguments: library, URL without a path, number of requests, and the most bytes of a
 * body. Prints a digest of all responses.
 */
public class Varied {
    private static final String OWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    private static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private static long state = 6;

    /** As in the other languages. */
    private static int number() {
        state = (state * 1103515245 + 12345) & 0x7fffffff;
        return (int) (state >> 8);
    }

    /** As many of each order of magnitude. */
    private static int size(int most) {
        int power = 1 << number() % (31 - Integer.numberOfLeadingZeros(most));
        return power + number() % power;
    }

    private static byte[] byConnection(URI uri, byte[] body, boolean own, boolean chunked) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        if (own) {
            connection.setRequestProperty("Traceparent", OWN);
        }
        if (body != null) {
            connection.setDoOutput(true);
            if (chunked) {
                connection.setChunkedStreamingMode(9000);
            } else {
                connection.setFixedLengthStreamingMode(body.length);
            }
            connection.getOutputStream().write(body);
            connection.getOutputStream().close();
        }
        try (InputStream response = connection.getInputStream()) {
            return response.readAllBytes();
        }
    }

    private static byte[] byClient(URI uri, byte[] body, boolean own, boolean chunked) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(uri);
        if (own) {
            request.header("Traceparent", OWN);
        }
        if (body != null) {
            request.POST(
                chunked ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)) : BodyPublishers.ofByteArray(body));
        }
        return CLIENT.send(request.build(), BodyHandlers.ofByteArray()).body();
    }

    public static void main(String[] arguments) throws Exception {
        int count = Integer.parseInt(arguments[2]);
        int most = Integer.parseInt(arguments[3]);
        byte[] pattern = new byte[2 * most];
        for (int index = 0; index < pattern.length; index++) {
            pattern[index] = (byte) (index % 251);
        }
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int index = 0; index < count; index++) {
            int sent = size(most);
            int answer = size(most);
            int kind = number() % 8;
            byte[] body = kind > 2 ? Arrays.copyOf(pattern, sent) : null;
            boolean own = kind == 2 || kind == 7;
            URI uri = URI.create(arguments[1] + "/" + index + "?answer=" + answer);
            boolean byConnection = arguments[0].equals("connection");
            digest.update(byConnection ? byConnection(uri, body, own, kind == 6) : byClient(uri, body, own, kind == 6));
        }
        System.out.println(HexFormat.of().formatHex(digest.digest()));
    }
}
