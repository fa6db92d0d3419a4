import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.commons.ClassRemapper;
import org.objectweb.asm.commons.Remapper;

/**
 * Packs the weaver with those classes of ASM that it refers to, under a package name of Onlooker's own. A JVM may have another
 * version of ASM.
 *
 * <p>Arguments: the folder of compiled classes, and the archive to write.
 */
public final class Relocate {
    private static final String LIBRARY = "org/objectweb/asm/";
    private static final String RELOCATED = "onlooker/weaver/asm/";
    private static final String WEAVER = "onlooker/weaver/";

    public static void main(String[] arguments) throws IOException {
        Path compiled = Paths.get(arguments[0]);
        Map<String, byte[]> packed = new TreeMap<>();
        Deque<String> wanted = new ArrayDeque<>();
        wanted.add(WEAVER + "Weaver");
        while (!wanted.isEmpty()) {
            String name = wanted.remove();
            if (packed.containsKey(renamed(name))) {
                continue;
            }
            ClassReader reader = new ClassReader(content(compiled, name));
            ClassWriter writer = new ClassWriter(0);
            Remapper remapper = new Remapper() {
                @Override
                public String map(String referred) {
                    if (referred.startsWith(LIBRARY) || referred.startsWith(WEAVER)) {
                        wanted.add(referred);
                    }
                    return renamed(referred);
                }
            };
            reader.accept(new ClassRemapper(writer, remapper), ClassReader.SKIP_DEBUG);
            packed.put(renamed(name), writer.toByteArray());
        }
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(Paths.get(arguments[1])))) {
            zip.setLevel(9);
            for (Map.Entry<String, byte[]> one : packed.entrySet()) {
                ZipEntry entry = new ZipEntry(one.getKey() + ".class");
                // The same sources give the same archive.
                entry.setTime(0);
                zip.putNextEntry(entry);
                zip.write(one.getValue());
                zip.closeEntry();
            }
        }
    }

    private static String renamed(String name) {
        return name.startsWith(LIBRARY) ? RELOCATED + name.substring(LIBRARY.length()) : name;
    }

    private static byte[] content(Path compiled, String name) throws IOException {
        Path own = compiled.resolve(name + ".class");
        if (Files.exists(own)) {
            return Files.readAllBytes(own);
        }
        try (InputStream library = Relocate.class.getResourceAsStream("/" + name + ".class")) {
            if (library == null) {
                throw new IOException("class " + name + " is neither the weaver's nor ASM's");
            }
            ByteArrayOutputStream content = new ByteArrayOutputStream();
            byte[] chunk = new byte[1 << 14];
            for (int read = library.read(chunk); read > 0; read = library.read(chunk)) {
                content.write(chunk, 0, read);
            }
            return content.toByteArray();
        }
    }
}
