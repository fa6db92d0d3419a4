package onlooker;

import java.lang.ref.Reference;
import java.lang.ref.ReferenceQueue;
import java.lang.ref.WeakReference;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/** Numbers TLS objects. A number is never used again, and an object does not live longer because it has one. */
final class Ids {
    /** How many dead objects a call forgets. More than one, so that they become fewer. */
    private static final int FORGOTTEN = 4;

    private static final AtomicLong LAST = new AtomicLong();
    private static final ConcurrentHashMap<Object, Long> KNOWN = new ConcurrentHashMap<>();
    private static final ReferenceQueue<Object> DEAD = new ReferenceQueue<>();

    private Ids() {}

    static boolean isKnown(Object object) {
        return KNOWN.containsKey(new Probe(object));
    }

    static long of(Object object) {
        for (int i = 0; i < FORGOTTEN; i++) {
            Reference<?> dead = DEAD.poll();
            if (dead == null) {
                break;
            }
            KNOWN.remove(dead);
        }
        Long known = KNOWN.get(new Probe(object));
        if (known == null) {
            Long id = LAST.incrementAndGet();
            known = KNOWN.putIfAbsent(new Key(object), id);
            if (known == null) {
                known = id;
            }
        }
        return known;
    }

    /** Equal to the key of the same object, and to itself when the object is dead. */
    private static final class Key extends WeakReference<Object> {
        private final int hash;

        Key(Object object) {
            super(object, DEAD);
            hash = System.identityHashCode(object);
        }

        @Override
        public int hashCode() {
            return hash;
        }

        @Override
        public boolean equals(Object other) {
            if (this == other) {
                return true;
            }
            Object object = get();
            if (object == null) {
                return false;
            }
            return other instanceof Key ? ((Key) other).get() == object : other instanceof Probe && other.equals(this);
        }
    }

    /** Finds a key without creating one. */
    private static final class Probe {
        private final Object object;

        Probe(Object object) {
            this.object = object;
        }

        @Override
        public int hashCode() {
            return System.identityHashCode(object);
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Key && ((Key) other).get() == object;
        }
    }
}
