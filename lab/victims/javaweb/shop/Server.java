package shop;

import com.sun.management.HotSpotDiagnosticMXBean;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayInputStream;
import java.io.FileWriter;
import java.io.IOException;
import java.io.InputStream;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Proxy;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.jar.JarEntry;
import java.util.jar.JarInputStream;

/**
 * A small web application with one flaw: POST /plugin takes a plug-in from whoever sends it, an archive of classes, and runs it
 * without ever writing it to a file. It is a target for tests: never run it elsewhere.
 */
public final class Server {
    private static final Path DATA = Path.of("/data");

    /** What serves requests. Plug-ins are meant to add pages of their own. */
    public static HttpServer http;

    /** Where pages come from; made at run time, as frameworks do with theirs. */
    interface Pages {
        String page(String item) throws IOException;
    }

    private static final Pages pages = (Pages) Proxy.newProxyInstance(Server.class.getClassLoader(), new Class<?>[] {Pages.class},
            (self, method, args) -> cached((String) args[0]));

    /** Loads the classes of a plug-in from memory. */
    static final class Plugin extends ClassLoader {
        private final Map<String, byte[]> files = new HashMap<>();
        private String main;

        Plugin(byte[] archive) throws IOException {
            super(Server.class.getClassLoader());
            try (JarInputStream in = new JarInputStream(new ByteArrayInputStream(archive))) {
                if (in.getManifest() == null) throw new IOException("no plug-in");
                main = in.getManifest().getMainAttributes().getValue("Main-Class");
                for (JarEntry e; (e = in.getNextJarEntry()) != null; ) files.put(e.getName(), in.readAllBytes());
            }
        }

        Object start() throws ReflectiveOperationException {
            return loadClass(main).getDeclaredConstructor().newInstance();
        }

        @Override
        protected Class<?> findClass(String name) throws ClassNotFoundException {
            byte[] b = files.get(name.replace('.', '/') + ".class");
            if (b == null) throw new ClassNotFoundException(name);
            return defineClass(name, b, 0, b.length);
        }

        @Override
        public InputStream getResourceAsStream(String name) {
            byte[] b = files.get(name);
            return b == null ? super.getResourceAsStream(name) : new ByteArrayInputStream(b);
        }
    }

    // What honest applications write: a cache.
    private static String cached(String item) throws IOException {
        Path path = DATA.resolve("cache/item-" + item + ".html");
        if (!Files.exists(path)) {
            Files.createDirectories(path.getParent());
            Files.writeString(path, "<!doctype html><title>Item " + item + "</title><p>Item " + item + "\n");
        }
        return Files.readString(path);
    }

    private static int answer(HttpExchange x, int status, String text) throws IOException {
        byte[] b = text.getBytes(StandardCharsets.UTF_8);
        x.sendResponseHeaders(status, b.length);
        x.getResponseBody().write(b);
        return status;
    }

    private static int page(HttpExchange x, URI uri) throws IOException {
        String item = "0";
        if (uri.getQuery() != null && uri.getQuery().matches("item=\\d{1,9}")) item = uri.getQuery().substring(5);
        return answer(x, 200, pages.page(item));
    }

    private static int serve(HttpExchange x, byte[] body) throws IOException {
        URI uri = x.getRequestURI();
        switch (x.getRequestMethod() + " " + uri.getPath()) {
            case "GET /healthz":
                return answer(x, 200, "ok\n");
            case "GET /":
                return page(x, uri);
            case "GET /debug/heap": // for its developers
                Path dump = DATA.resolve("heap-" + System.currentTimeMillis() + ".hprof");
                ManagementFactory.newPlatformMXBeanProxy(ManagementFactory.getPlatformMBeanServer(), "com.sun.management:type=HotSpotDiagnostic",
                        HotSpotDiagnosticMXBean.class).dumpHeap(dump.toString(), true);
                return answer(x, 200, dump + "\n");
            case "POST /plugin":
                try {
                    return answer(x, 200, new Plugin(body).start().getClass().getName() + " runs\n"); // the flaw
                } catch (IOException | ReflectiveOperationException | LinkageError | RuntimeException e) {
                    return answer(x, 400, "bad plug-in: " + e.getClass().getSimpleName() + "\n");
                }
            default:
                return answer(x, 404, "not found\n");
        }
    }

    private static void handle(HttpExchange x) throws IOException {
        Instant began = Instant.now();
        int status = 500;
        try (x) {
            status = serve(x, x.getRequestBody().readAllBytes());
        } finally {
            InetSocketAddress from = x.getRemoteAddress();
            System.out.println("{\"time\":\"" + began + "\",\"level\":\"info\",\"msg\":\"request\",\"remote\":\"" + from.getAddress().getHostAddress() + ":" + from.getPort()
                    + "\",\"method\":\"" + x.getRequestMethod() + "\",\"path\":\"" + x.getRequestURI().toString().replace("\\", "\\\\").replace("\"", "\\\"") + "\",\"status\":" + status + "}");
        }
    }

    /** Keeps a log and rotates it the way that leaves a deleted file open. */
    private static void rotate() {
        ArrayDeque<FileWriter> held = new ArrayDeque<>();
        try {
            for (;; Thread.sleep(2000)) {
                while (held.size() > 1) held.remove().close();
                FileWriter w = new FileWriter(DATA + "/app.log", true);
                w.write(Instant.now() + " rotation\n");
                w.flush();
                held.add(w);
                Files.delete(DATA.resolve("app.log"));
            }
        } catch (IOException | InterruptedException e) {
            System.err.println("no rotation: " + e);
        }
    }

    /** Native libraries come in the archive, and are unpacked to be loaded. */
    private static void unpack() throws IOException {
        Path lib = Files.createTempFile("libshop", ".so");
        try (InputStream in = Server.class.getResourceAsStream("/native/libshop.so")) {
            Files.write(lib, in.readAllBytes());
        }
        System.load(lib.toString());
    }

    private static void background(Runnable r) {
        Thread t = new Thread(r);
        t.setDaemon(true);
        t.start();
    }

    public static void main(String[] args) throws IOException {
        try {
            Files.writeString(DATA.resolve("javaweb.pid"), Long.toString(ProcessHandle.current().pid()));
        } catch (IOException e) {
            System.err.println("no pid file: " + e);
        }
        if (System.getenv("NATIVE") != null) unpack();
        if (System.getenv("BUSY") != null) background(Server::rotate);
        String listen = System.getenv().getOrDefault("LISTEN", "0.0.0.0:8080");
        int colon = listen.lastIndexOf(':');
        http = HttpServer.create(new InetSocketAddress(listen.substring(0, colon), Integer.parseInt(listen.substring(colon + 1))), 128);
        http.createContext("/", Server::handle);
        http.setExecutor(Executors.newFixedThreadPool(8));
        http.start();
    }
}
