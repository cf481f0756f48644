package profiler;

import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.security.ProtectionDomain;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/** An honest agent: it counts what is loaded and samples the stacks of threads, as profilers do. */
public final class Agent {
    private static final AtomicLong loaded = new AtomicLong();
    private static final Map<String, Long> samples = new ConcurrentHashMap<>();

    private Agent() {}

    public static void premain(String options, Instrumentation inst) {
        inst.addTransformer(new ClassFileTransformer() {
            @Override
            public byte[] transform(ClassLoader loader, String name, Class<?> old, ProtectionDomain domain, byte[] code) {
                loaded.incrementAndGet();
                return null;
            }
        }, true);
        Thread t = new Thread(Agent::sample, "profiler");
        t.setDaemon(true);
        t.start();
    }

    private static void sample() {
        try {
            for (;; Thread.sleep(50)) {
                for (Map.Entry<Thread, StackTraceElement[]> e : Thread.getAllStackTraces().entrySet()) {
                    if (e.getValue().length > 0) samples.merge(e.getValue()[0].toString(), 1L, Long::sum);
                }
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
