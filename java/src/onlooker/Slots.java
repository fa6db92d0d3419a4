package onlooker;

import java.nio.ByteBuffer;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Memory with a fixed address, which plaintext is copied to. Arrays of the JVM have no fixed address.
 *
 * <p>A slot is used by one thread at a time, and only while it copies and calls {@link Native#observe}. So a few slots do for
 * any number of threads. If all of them are used, the plaintext is handed over by its length.
 */
final class Slots {
    /** The longest plaintext of a TLS record (RFC 8446 5.1). */
    static final int BYTES = 1 << 14;

    /** The last bytes of a record, which lie below the plaintext. */
    static final int TAG_BYTES = 16;

    private static final int STRIDE = TAG_BYTES + BYTES;
    private static final ByteBuffer[] VIEWS = views(Native.memory());
    private static final long ADDRESS = Native.address();

    /** A bit for each slot in use. */
    private static final AtomicInteger USED = new AtomicInteger();

    private Slots() {}

    private static ByteBuffer[] views(ByteBuffer memory) {
        ByteBuffer[] views = new ByteBuffer[Math.min(memory.capacity() / STRIDE, Integer.SIZE - 1)];
        for (int slot = 0; slot < views.length; slot++) {
            memory.limit((slot + 1) * STRIDE).position(slot * STRIDE);
            views[slot] = memory.slice();
        }
        return views;
    }

    /** Returns a free slot, or -1. */
    static int take() {
        while (true) {
            int used = USED.get();
            int slot = Integer.numberOfTrailingZeros(~used);
            if (slot >= VIEWS.length) {
                return -1;
            }
            if (USED.compareAndSet(used, used | 1 << slot)) {
                return slot;
            }
        }
    }

    static void free(int slot) {
        int used;
        do {
            used = USED.get();
        } while (!USED.compareAndSet(used, used & ~(1 << slot)));
    }

    /** The slot's memory, positioned where the plaintext begins. */
    static ByteBuffer plaintext(int slot) {
        ByteBuffer view = VIEWS[slot];
        view.limit(STRIDE).position(TAG_BYTES);
        return view;
    }

    /** The slot's memory, positioned where the tag begins. */
    static ByteBuffer tag(int slot) {
        ByteBuffer view = VIEWS[slot];
        view.limit(TAG_BYTES).position(0);
        return view;
    }

    /** The address of the slot's plaintext. */
    static long address(int slot) {
        return ADDRESS + (long) slot * STRIDE + TAG_BYTES;
    }
}
