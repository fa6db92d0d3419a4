package onlooker.weaver;

import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;

/** {@code void SSLSocketOutputRecord.deliver(byte[], int, int)}: encrypts and sends what the application writes. */
final class SocketWrite extends Send {
    private int write;

    SocketWrite(MethodVisitor next, int access, String descriptor) {
        super(next, access, descriptor);
    }

    @Override
    void begins() {
        load(Opcodes.ALOAD, 1);
        load(Opcodes.ILOAD, 2);
        load(Opcodes.ILOAD, 3);
        call("writes", "([BII)Ljava/lang/Object;");
        write = store(Type.getType(Object.class));
    }

    @Override
    void loadWrite() {
        load(Opcodes.ALOAD, write);
    }

    @Override
    void returns() {
        loadWrite();
        load(Opcodes.ALOAD, 0);
        call("wrote", "(Ljava/lang/Object;Ljava/lang/Object;)V");
    }
}
