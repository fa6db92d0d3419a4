package onlooker;

import java.nio.ByteBuffer;

/** The functions of the native library. It registers them before any of them is called. */
final class Native {
    private Native() {}

    /**
     * Does nothing. The kernel program of Onlooker is attached to it, and reads the arguments.
     *
     * @param id the TLS object, see {@link Ids}
     * @param what bits of {@link Tap}
     * @param address where the plaintext is in memory, or 0 if its bytes are not handed over
     * @param length of the plaintext in bytes
     */
    static native void observe(long id, long what, long address, long length);

    /** The first byte of the code of {@link #observe}. It changes while a kernel program is attached there. */
    static native ByteBuffer code();

    /** The byte there without a kernel program. One may be attached before any Java code runs. */
    static native byte unobserved();

    /** The memory that plaintext is copied to. */
    static native ByteBuffer memory();

    /** The address of {@link #memory}. */
    static native long address();
}
