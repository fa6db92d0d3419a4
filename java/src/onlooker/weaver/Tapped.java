package onlooker.weaver;

import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;
import org.objectweb.asm.commons.LocalVariablesSorter;

/** A method to which calls of {@code onlooker.Tap} are added. */
abstract class Tapped extends LocalVariablesSorter {
    private static final String TAP = "onlooker/Tap";

    Tapped(MethodVisitor next, int access, String descriptor) {
        super(Weaver.API, access, descriptor, next);
    }

    /** Adds what comes before the method's own code. */
    void begins() {}

    /** Adds what comes before each return. The result is on the stack. */
    void returns() {}

    final void call(String method, String descriptor) {
        mv.visitMethodInsn(Opcodes.INVOKESTATIC, TAP, method, descriptor, false);
    }

    /** Loads a local variable, numbered as it will be. */
    final void load(int opcode, int local) {
        mv.visitVarInsn(opcode, local);
    }

    /** Stores into a new local variable. */
    final int store(Type type) {
        int local = newLocal(type);
        mv.visitVarInsn(type.getOpcode(Opcodes.ISTORE), local);
        return local;
    }

    @Override
    public void visitCode() {
        super.visitCode();
        begins();
    }

    @Override
    public void visitInsn(int opcode) {
        if (opcode >= Opcodes.IRETURN && opcode <= Opcodes.RETURN) {
            returns();
        }
        super.visitInsn(opcode);
    }
}
