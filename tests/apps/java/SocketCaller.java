import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URL;
import java.util.concurrent.Executors;

/** Calls another service twice for each request, like Caller. Its server needs no module besides java.base. */
public class SocketCaller {
    static void call(String path) throws IOException {
        var connection = (HttpURLConnection) new URL(System.getenv("BACKEND_URL") + path).openConnection();
        try (var response = connection.getInputStream()) {
            response.readAllBytes();
        }
    }

    static void serve(Socket accepted) {
        try (var client = accepted) {
            var requests = new BufferedReader(new InputStreamReader(client.getInputStream()));
            for (var line = requests.readLine(); line != null; line = requests.readLine()) {
                var path = line.split(" ")[1];
                var number = path.substring(path.lastIndexOf('/') + 1);
                while (!requests.readLine().isEmpty()) {
                    // A header.
                }
                call("/a/" + number);
                call("/b/" + number);
                var response = "HTTP/1.1 200 OK\r\ncontent-length: " + number.length() + "\r\n\r\n" + number;
                client.getOutputStream().write(response.getBytes());
            }
        } catch (IOException error) {
            System.err.println(error);
        }
    }

    /** A thread for each connection. */
    public static void main(String[] arguments) throws IOException {
        var threads = Executors.newCachedThreadPool();
        var server = new ServerSocket(Integer.parseInt(arguments[0]), 128, InetAddress.getByName("127.0.0.1"));
        System.out.println("listening");
        while (true) {
            var client = server.accept();
            threads.execute(() -> serve(client));
        }
    }
}
