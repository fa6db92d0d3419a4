package onlooker.weaver;

import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;

/** A method of {@code SSLSocketOutputRecord} that may write encrypted records to the socket's stream. */
class Send extends Tapped {
    private static final Type BYTES = Type.getType(byte[].class);

    /** The first of the local variables that hold the arguments of a call, or -1. */
    private int firstArgument = -1;

    Send(MethodVisitor next, int access, String descriptor) {
        super(next, access, descriptor);
    }

    /** Loads what {@code Tap.writes} returned, or null. */
    void loadWrite() {
        mv.visitInsn(Opcodes.ACONST_NULL);
    }

    @Override
    public void visitMethodInsn(int opcode, String owner, String method, String descriptor, boolean ofInterface) {
        if (owner.equals("java/io/OutputStream") && method.equals("write") && descriptor.equals("([BII)V")) {
            int length = store(Type.INT_TYPE);
            int at = store(Type.INT_TYPE);
            int bytes = store(BYTES);
            firstArgument = firstArgument < 0 ? length : firstArgument;
            loadWrite();
            load(Opcodes.ALOAD, 0);
            load(Opcodes.ALOAD, bytes);
            load(Opcodes.ILOAD, at);
            load(Opcodes.ILOAD, length);
            call("sends", "(Ljava/lang/Object;Ljava/lang/Object;[BII)V");
            load(Opcodes.ALOAD, bytes);
            load(Opcodes.ILOAD, at);
            load(Opcodes.ILOAD, length);
        }
        super.visitMethodInsn(opcode, owner, method, descriptor, ofInterface);
    }

    /** The arguments of a call are not kept beyond it. */
    @Override
    protected void updateNewLocals(Object[] newLocals) {
        for (int local = firstArgument; local >= 0 && local < newLocals.length; local++) {
            newLocals[local] = Opcodes.TOP;
        }
    }
}
