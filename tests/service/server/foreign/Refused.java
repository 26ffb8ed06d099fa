import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;

/** Posts a file again and again and prints the status of each response: java Refused.java URL FILE TIMES "Name: value"... */
public class Refused {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .POST(HttpRequest.BodyPublishers.ofFile(Path.of(arguments[1])));
        for (int i = 3; i < arguments.length; i++) {
            String[] field = arguments[i].split(": ", 2);
            request.header(field[0], field[1]);
        }
        for (int i = 0; i < Integer.parseInt(arguments[2]); i++) {
            try {
                System.out.println(client.send(request.build(), HttpResponse.BodyHandlers.ofString()).statusCode());
            } catch (java.io.IOException error) {
                System.out.println(error);
            }
        }
    }
}
