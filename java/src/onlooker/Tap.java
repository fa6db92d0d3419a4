package onlooker;

import java.nio.ByteBuffer;
import javax.net.ssl.SSLEngineResult;

/**
 * What the woven methods of {@code sun.security.ssl} call. Hands plaintext over to {@link Native#observe}.
 *
 * <p>While no kernel program is attached there, each method returns after one look at a byte. None of them throws.
 *
 * <p>A TLS object is an engine, or the output record of a socket. Each write goes with the last bytes of the encrypted record
 * that holds its end or beginning (the AEAD tag). By them the kernel programs recognise the socket when it sends the record.
 */
public final class Tap {
    /** The plaintext is sent. Otherwise it was received. */
    static final long SEND = 1;

    /** The last bytes of an encrypted record lie below the plaintext. */
    static final long TAG = 2;

    /** The object is a client's, and nothing passed on it before. */
    static final long CLIENT_BEGINS = 4;

    /** The object is a server's, and nothing passed on it before. */
    static final long SERVER_BEGINS = 8;

    /** RFC 8446 5.1: the type of records with handshake messages that are not encrypted. */
    private static final byte HANDSHAKE = 22;

    /** RFC 8446 5.1: the type of records with application data. In TLS 1.3 all encrypted records have it. */
    private static final byte APPLICATION_DATA = 23;

    /** RFC 8446 4: the first messages of a handshake. */
    private static final byte CLIENT_HELLO = 1;

    private static final byte SERVER_HELLO = 2;

    /** TLS records have the version 3.x. Those of DTLS have another. */
    private static final byte TLS = 3;

    private static final int HEADER_BYTES = 5;

    /** Of a longer write, only so many bytes from its beginning are handed over, and the last ones. */
    private static final int LONGEST = 4 * Slots.BYTES;

    /** The last bytes of a long write are handed over when it returns. */
    private static final int LAST_BYTES = 256;

    private static final ByteBuffer CODE = Native.code();

    private static final byte UNOBSERVED = Native.unobserved();

    private Tap() {}

    private static boolean isOff() {
        return CODE.get(0) == UNOBSERVED;
    }

    /** The socket of {@code record} returned {@code length} bytes to the application, or -1. */
    public static void read(int length, Object record, byte[] into, int at) {
        if (length <= 0 || isOff()) {
            return;
        }
        try {
            Content content = new Content(into, at);
            handOver(Ids.of(record), 0, content, length, null, 0);
        } catch (Throwable ignored) {
            // The application must not notice.
        }
    }

    /** The application writes. Returns the write, or null if nobody observes it. */
    public static Object writes(byte[] from, int at, int length) {
        if (length <= 0 || isOff()) {
            return null;
        }
        try {
            return new Write(new Content(from, at), length);
        } catch (Throwable ignored) {
            return null;
        }
    }

    /** The encrypted record in {@code from} will be sent now. {@code write} is the write that it belongs to, or null. */
    public static void sends(Object write, Object record, byte[] from, int at, int length) {
        if (isOff()) {
            return;
        }
        try {
            ByteBuffer records = ByteBuffer.wrap(from);
            ByteBuffer tagged = isTagged(records, at, at + length) ? records : null;
            Write begun = (Write) write;
            if (begun != null && !begun.begun) {
                begun.begun = true;
                handOver(Ids.of(record), SEND, begun.content, begun.first(), tagged, at + length);
            } else if (tagged != null) {
                handOver(Ids.of(record), SEND, null, 0, tagged, at + length);
            } else {
                begins(record, records, at, at + length);
            }
        } catch (Throwable ignored) {
            // The application must not notice.
        }
    }

    /** The write has returned. */
    public static void wrote(Object write, Object record) {
        if (write == null) {
            return;
        }
        try {
            Write begun = (Write) write;
            if (begun.begun && begun.first() < begun.length) {
                handOver(Ids.of(record), SEND, begun.content, begun.length - begun.first(), null, 0);
            }
        } catch (Throwable ignored) {
            // The application must not notice.
        }
    }

    /** An engine will encrypt {@code from}. Returns where its buffers are positioned, or null if nobody observes it. */
    public static int[] wraps(ByteBuffer[] from, int first, int count, ByteBuffer into) {
        if (isOff()) {
            return null;
        }
        try {
            return positions(from, first, count, into);
        } catch (Throwable ignored) {
            return null;
        }
    }

    /** The engine has encrypted. */
    public static void wrapped(
            SSLEngineResult result, int[] before, Object engine, ByteBuffer[] from, int first, ByteBuffer into) {
        if (before == null) {
            return;
        }
        try {
            int end = into.position();
            boolean tagged = isTagged(into, before[before.length - 1], end);
            int length = result.bytesConsumed();
            if (tagged || length > 0) {
                Content content = new Content(from, first, before);
                handOver(Ids.of(engine), SEND, content, length, tagged ? into : null, end);
            } else {
                begins(engine, into, before[before.length - 1], end);
            }
        } catch (Throwable ignored) {
            // The application must not notice.
        }
    }

    /** An engine will decrypt {@code from}. Returns where its buffers are positioned, or null if nobody observes it. */
    public static int[] unwraps(ByteBuffer from, ByteBuffer[] into, int first, int count) {
        if (isOff()) {
            return null;
        }
        try {
            return positions(into, first, count, from);
        } catch (Throwable ignored) {
            return null;
        }
    }

    /** The engine has decrypted. */
    public static void unwrapped(
            SSLEngineResult result, int[] before, Object engine, ByteBuffer from, ByteBuffer[] into, int first) {
        if (before == null) {
            return;
        }
        try {
            int length = result.bytesProduced();
            boolean datagrams = from.get(before[before.length - 1] + 1) != TLS;
            if (length > 0 && !datagrams) {
                handOver(Ids.of(engine), 0, new Content(into, first, before), length, null, 0);
            }
        } catch (Throwable ignored) {
            // The application must not notice.
        }
    }

    /** The positions of {@code count} buffers, and behind them the position of one more. */
    private static int[] positions(ByteBuffer[] buffers, int first, int count, ByteBuffer other) {
        int[] positions = new int[count + 1];
        for (int i = 0; i < count; i++) {
            positions[i] = buffers[first + i].position();
        }
        positions[count] = other.position();
        return positions;
    }

    /** Whether a record between {@code begin} and {@code end} ends with a tag. */
    private static boolean isTagged(ByteBuffer records, int begin, int end) {
        return end - begin >= HEADER_BYTES + Slots.TAG_BYTES
                && records.get(begin) == APPLICATION_DATA
                && records.get(begin + 1) == TLS;
    }

    /** Notices the first record that an object sends. */
    private static void begins(Object object, ByteBuffer records, int begin, int end) {
        if (end - begin <= HEADER_BYTES || records.get(begin) != HANDSHAKE || records.get(begin + 1) != TLS) {
            return;
        }
        byte message = records.get(begin + HEADER_BYTES);
        if ((message == CLIENT_HELLO || message == SERVER_HELLO) && !Ids.isKnown(object)) {
            Native.observe(Ids.of(object), message == CLIENT_HELLO ? CLIENT_BEGINS : SERVER_BEGINS, 0, 0);
        }
    }

    /**
     * Hands over {@code length} bytes of plaintext, in pieces of one slot. What exceeds {@link #LONGEST} is handed over by its
     * length, except for the last bytes.
     *
     * @param tagged the buffer in which an encrypted record ends at {@code end}, or null
     */
    private static void handOver(long id, long what, Content content, int length, ByteBuffer tagged, int end) {
        int left = length;
        ByteBuffer tag = tagged;
        do {
            int passed = length - left;
            boolean skips = passed == LONGEST && left > LAST_BYTES;
            int piece = skips ? left - LAST_BYTES : Math.min(left, Slots.BYTES);
            int slot = skips ? -1 : Slots.take();
            if (slot < 0) {
                if (piece > 0) {
                    Native.observe(id, what, 0, piece);
                    if (content != null) {
                        content.skip(piece);
                    }
                }
            } else {
                try {
                    if (piece > 0) {
                        content.copy(Slots.plaintext(slot), piece);
                    }
                    long tagBit = 0;
                    if (tag != null) {
                        ByteBuffer last = tag.duplicate();
                        last.limit(end).position(end - Slots.TAG_BYTES);
                        Slots.tag(slot).put(last);
                        tagBit = TAG;
                    }
                    Native.observe(id, what | tagBit, Slots.address(slot), piece);
                } finally {
                    Slots.free(slot);
                }
            }
            tag = null;
            left -= piece;
        } while (left > 0);
    }

    /** A write of the application to a socket. */
    private static final class Write {
        final Content content;
        final int length;
        /** Whether its beginning was handed over. */
        boolean begun;

        Write(Content content, int length) {
            this.content = content;
            this.length = length;
        }

        /** How many bytes are handed over when the write begins: all, if they are sent at once. */
        int first() {
            return length <= Slots.BYTES ? length : length - LAST_BYTES;
        }
    }

    /** Plaintext in arrays or buffers, which is read from its beginning. */
    private static final class Content {
        private final ByteBuffer[] buffers;
        private final int first;
        private final int[] positions;
        private int next;
        private ByteBuffer current;

        Content(byte[] array, int at) {
            buffers = null;
            first = 0;
            positions = null;
            current = ByteBuffer.wrap(array);
            current.position(at);
        }

        /** {@code positions} says where the plaintext is in each buffer. It ends where the buffer is positioned now. */
        Content(ByteBuffer[] buffers, int first, int[] positions) {
            this.buffers = buffers;
            this.first = first;
            this.positions = positions;
            this.next = first;
        }

        void copy(ByteBuffer into, int length) {
            int left = length;
            while (left > 0) {
                ByteBuffer from = from();
                int piece = Math.min(left, from.remaining());
                int limit = from.limit();
                from.limit(from.position() + piece);
                into.put(from);
                from.limit(limit);
                left -= piece;
            }
        }

        void skip(int length) {
            int left = length;
            while (left > 0) {
                ByteBuffer from = from();
                int piece = Math.min(left, from.remaining());
                from.position(from.position() + piece);
                left -= piece;
            }
        }

        /** The buffer with the next byte. There is one, as long as fewer bytes were read than there are. */
        private ByteBuffer from() {
            while (current == null || (buffers != null && !current.hasRemaining())) {
                ByteBuffer buffer = buffers[next].duplicate();
                int begin = positions[next - first];
                buffer.limit(Math.max(begin, buffer.position())).position(begin);
                current = buffer;
                next++;
            }
            return current;
        }
    }
}
