package onlooker.weaver;

import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;

/**
 * {@code SSLEngineResult SSLEngineImpl.wrap(ByteBuffer[], int, int, ByteBuffer)} and
 * {@code unwrap(ByteBuffer, ByteBuffer[], int, int)}.
 */
final class EngineMethod extends Tapped {
    private final Type[] arguments;
    private final String before;
    private final String after;
    private int positions;

    /** {@code before} and {@code after} are the methods of Tap to call. */
    EngineMethod(MethodVisitor next, int access, String descriptor, String before, String after) {
        super(next, access, descriptor);
        this.arguments = Type.getArgumentTypes(descriptor);
        this.before = before;
        this.after = after;
    }

    @Override
    void begins() {
        for (int i = 0; i < arguments.length; i++) {
            load(arguments[i].getOpcode(Opcodes.ILOAD), i + 1);
        }
        call(before, Type.getMethodDescriptor(Type.getType(int[].class), arguments));
        positions = store(Type.getType(int[].class));
    }

    @Override
    void returns() {
        mv.visitInsn(Opcodes.DUP);
        load(Opcodes.ALOAD, positions);
        load(Opcodes.ALOAD, 0);
        StringBuilder descriptor = new StringBuilder("(Ljavax/net/ssl/SSLEngineResult;[ILjava/lang/Object;");
        boolean wasInt = false;
        for (int i = 0; i < arguments.length; i++) {
            boolean isInt = arguments[i] == Type.INT_TYPE;
            // Of the two numbers, the second is not needed: how many buffers there are.
            if (!(isInt && wasInt)) {
                load(arguments[i].getOpcode(Opcodes.ILOAD), i + 1);
                descriptor.append(arguments[i].getDescriptor());
            }
            wasInt = isInt;
        }
        call(after, descriptor.append(")V").toString());
    }
}
