package onlooker.weaver;

import java.util.function.BiFunction;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.FieldVisitor;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;

/**
 * Adds calls of {@code onlooker.Tap} to methods of {@code sun.security.ssl}.
 *
 * <p>Reads of a socket are taken where the application calls them. Writes are taken in the socket's output record, which also
 * has the encrypted bytes. Engines are taken at both their methods. All of this is the same from Java 8, update 261, to 25.
 * A class that looks different is left as it is.
 */
public final class Weaver implements BiFunction<String, byte[], byte[]> {
    static final int API = Opcodes.ASM9;

    private static final String PACKAGE = "sun/security/ssl/";
    static final String SOCKET = PACKAGE + "SSLSocketImpl";
    static final String CONTEXT = PACKAGE + "TransportContext";
    static final String RECORD = PACKAGE + "OutputRecord";

    private static final String INPUT = SOCKET + "$AppInputStream";
    private static final String OUTPUT = PACKAGE + "SSLSocketOutputRecord";
    private static final String ENGINE = PACKAGE + "SSLEngineImpl";

    private static final String RESULT = "Ljavax/net/ssl/SSLEngineResult;";
    static final String BUFFER = "Ljava/nio/ByteBuffer;";

    /** The classes to be woven, which this loads. Null if this JVM has none of this kind. */
    public Class<?>[] targets() throws ClassNotFoundException {
        if (!hasField(SOCKET, "conContext", CONTEXT) || !hasField(CONTEXT, "outputRecord", RECORD)) {
            return null;
        }
        return new Class<?>[] {load(INPUT), load(OUTPUT), load(ENGINE)};
    }

    private static boolean hasField(String of, String name, String type) throws ClassNotFoundException {
        try {
            return load(of).getDeclaredField(name).getType() == load(type);
        } catch (NoSuchFieldException absent) {
            return false;
        }
    }

    private static Class<?> load(String name) throws ClassNotFoundException {
        return Class.forName(name.replace('/', '.'), false, null);
    }

    /** Returns the woven class, or null if it looks different than expected. */
    @Override
    public byte[] apply(String name, byte[] original) {
        ClassReader reader = new ClassReader(original);
        ClassWriter writer = new ClassWriter(reader, ClassWriter.COMPUTE_MAXS);
        Woven woven = new Woven(writer, name);
        reader.accept(woven, ClassReader.EXPAND_FRAMES);
        return woven.isComplete() ? writer.toByteArray() : null;
    }

    /** Weaves one class. */
    private static final class Woven extends ClassVisitor {
        private final String name;
        private String outer;
        private int methods;
        private boolean unexpected;

        Woven(ClassVisitor next, String name) {
            super(API, next);
            this.name = name;
        }

        boolean isComplete() {
            int expected = name.equals(ENGINE) ? 2 : 1;
            return methods == expected && !unexpected;
        }

        @Override
        public FieldVisitor visitField(int access, String field, String descriptor, String signature, Object value) {
            if (descriptor.equals("L" + SOCKET + ";")) {
                outer = field;
            }
            return super.visitField(access, field, descriptor, signature, value);
        }

        @Override
        public MethodVisitor visitMethod(
                int access, String method, String descriptor, String signature, String[] exceptions) {
            MethodVisitor next = super.visitMethod(access, method, descriptor, signature, exceptions);
            if ((access & (Opcodes.ACC_STATIC | Opcodes.ACC_ABSTRACT | Opcodes.ACC_NATIVE)) != 0) {
                return next;
            }
            String key = method + descriptor;
            MethodVisitor woven = null;
            if (name.equals(INPUT) && key.equals("read([BII)I") && outer != null) {
                woven = new SocketRead(next, access, descriptor, name, outer);
            } else if (name.equals(OUTPUT) && key.equals("deliver([BII)V")) {
                woven = new SocketWrite(next, access, descriptor);
            } else if (name.equals(ENGINE) && key.equals("wrap([" + BUFFER + "II" + BUFFER + ")" + RESULT)) {
                woven = new EngineMethod(next, access, descriptor, "wraps", "wrapped");
            } else if (name.equals(ENGINE) && key.equals("unwrap(" + BUFFER + "[" + BUFFER + "II)" + RESULT)) {
                woven = new EngineMethod(next, access, descriptor, "unwraps", "unwrapped");
            }
            if (woven != null) {
                methods++;
                return new Arguments(woven, Type.getArgumentsAndReturnSizes(descriptor) >> 2);
            }
            return name.equals(OUTPUT) ? new Send(next, access, descriptor) : next;
        }

        /** Notices a method that changes its arguments: what is woven reads them at the end. */
        private final class Arguments extends MethodVisitor {
            private final int locals;

            Arguments(MethodVisitor next, int locals) {
                super(API, next);
                this.locals = locals;
            }

            @Override
            public void visitVarInsn(int opcode, int local) {
                unexpected |= opcode >= Opcodes.ISTORE && opcode <= Opcodes.ASTORE && local < locals && changed();
                super.visitVarInsn(opcode, local);
            }

            @Override
            public void visitIincInsn(int local, int increment) {
                unexpected |= local < locals && changed();
                super.visitIincInsn(local, increment);
            }

            private boolean changed() {
                return !name.equals(OUTPUT);
            }
        }
    }
}
