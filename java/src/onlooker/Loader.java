package onlooker;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import java.util.function.BiFunction;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/**
 * Loads the weaver and its library from memory. They are needed at the beginning, and when another agent weaves the same
 * classes again. The application does not see them.
 */
final class Loader extends ClassLoader {
    private static final int CHUNK = 1 << 14;

    private static BiFunction<String, byte[], byte[]> weaver;

    private final Map<String, byte[]> classes;

    private Loader(Map<String, byte[]> classes) {
        super(null);
        this.classes = classes;
    }

    /** Called by the native library with the archive of the weaver. Returns the classes that are to be woven, or null. */
    @SuppressWarnings("unchecked")
    static Class<?>[] start(byte[] archive) {
        try {
            Class<?> found = new Loader(read(archive)).loadClass("onlooker.weaver.Weaver");
            weaver = (BiFunction<String, byte[], byte[]>) found.getDeclaredConstructor().newInstance();
            // Initialises what the woven methods use.
            Class.forName(Tap.class.getName());
            Class.forName(Slots.class.getName());
            Class.forName(Ids.class.getName());
            return (Class<?>[]) found.getMethod("targets").invoke(weaver);
        } catch (Throwable ignored) {
            return null;
        }
    }

    /** Called by the native library when a class is loaded that is to be woven. Returns null to leave it as it is. */
    static byte[] weave(String name, byte[] original) {
        try {
            return weaver.apply(name, original);
        } catch (Throwable ignored) {
            return null;
        }
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        byte[] code = classes.get(name.replace('.', '/') + ".class");
        if (code == null) {
            throw new ClassNotFoundException(name);
        }
        return defineClass(name, code, 0, code.length);
    }

    private static Map<String, byte[]> read(byte[] archive) throws IOException {
        Map<String, byte[]> classes = new HashMap<>();
        ZipInputStream zip = new ZipInputStream(new ByteArrayInputStream(archive));
        byte[] chunk = new byte[CHUNK];
        for (ZipEntry entry = zip.getNextEntry(); entry != null; entry = zip.getNextEntry()) {
            ByteArrayOutputStream content = new ByteArrayOutputStream();
            for (int read = zip.read(chunk); read > 0; read = zip.read(chunk)) {
                content.write(chunk, 0, read);
            }
            classes.put(entry.getName(), content.toByteArray());
        }
        return classes;
    }
}
