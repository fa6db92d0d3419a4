package onlooker.weaver;

import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;

/** {@code int SSLSocketImpl.AppInputStream.read(byte[], int, int)} */
final class SocketRead extends Tapped {
    private final String owner;
    private final String outer;

    /** {@code outer} is the field with the socket. */
    SocketRead(MethodVisitor next, int access, String descriptor, String owner, String outer) {
        super(next, access, descriptor);
        this.owner = owner;
        this.outer = outer;
    }

    @Override
    void returns() {
        mv.visitInsn(Opcodes.DUP);
        load(Opcodes.ALOAD, 0);
        mv.visitFieldInsn(Opcodes.GETFIELD, owner, outer, "L" + Weaver.SOCKET + ";");
        mv.visitFieldInsn(Opcodes.GETFIELD, Weaver.SOCKET, "conContext", "L" + Weaver.CONTEXT + ";");
        mv.visitFieldInsn(Opcodes.GETFIELD, Weaver.CONTEXT, "outputRecord", "L" + Weaver.RECORD + ";");
        load(Opcodes.ALOAD, 1);
        load(Opcodes.ILOAD, 2);
        call("read", "(ILjava/lang/Object;[BI)V");
    }
}
