//! The walk from frame to frame over the operation in hand.
//!
//! It is kept with the thread, and not on the stack. The verifier tracks no values here, so one pass over the walk's code
//! covers every operation.

use super::shared::shared;

/// Values of `outcome`: why the walk stopped.
pub mod outcome {
    /// The operation is over.
    pub const DONE: u32 = 1;
    /// The segment is complete: it is full, or bytes are to be captured behind some that are not.
    pub const FULL: u32 = 2;
    /// The header of a HEADERS frame that opens a stream has passed.
    pub const OPENS: u32 = 3;
    /// The rest of the operation cannot be read, or has too many steps.
    pub const BLIND: u32 = 4;
}

/// Size of a `struct iovec`.
pub const VECTOR: u64 = 16;

shared! {
    /// The walk of a thread.
    struct WalkState;
    /// The walk of a thread, in place.
    pointer Walk;
    words {
        /// Position and address of the next byte.
        position, set_position: u64;
        at, set_at: u64;
        /// Bytes left in its buffer, and bytes of the buffer before it.
        piece, set_piece: u64;
        before, set_before: u64;
        /// Address of the next iovec, and how many are left.
        vectors, set_vectors: u64;
        vectors_left, set_vectors_left: u64;
        /// Where the segment begins: its buffer, or its first iovec with the number of iovecs from there, and the bytes of it
        /// that belong to earlier segments.
        first, set_first: u64;
        first_vectors, set_first_vectors: u64;
        first_before, set_first_before: u64;
        /// The same for the header that passed last.
        mark, set_mark: u64;
        mark_vectors, set_mark_vectors: u64;
        mark_before, set_mark_before: u64;
        /// Bytes of the operation that have not passed.
        left, set_left: u32;
        /// Bytes of the segment, and how many of its first bytes are to be captured.
        length, set_length: u32;
        captured, set_captured: u32;
        /// The most bytes that a segment captures.
        room, set_room: u32;
        /// 1 if the operation is in one buffer.
        single, set_single: u32;
        /// 1 if frames are only counted.
        counts_only, set_counts_only: u32;
        /// 1 if the direction carries requests.
        to_server, set_to_server: u32;
        /// The stream that was opened last. How many were opened in the operation, and in the segment.
        opened_stream, set_opened_stream: u32;
        opened, set_opened: u32;
        opened_here, set_opened_here: u32;
        /// Frames of the operation that may continue other requests.
        others, set_others: u32;
        /// One of [`outcome`].
        outcome, set_outcome: u32;
        /// Bytes that were written to the ring.
        recorded, set_recorded: u32;
        /// Bytes at the segment's end that the next one begins with.
        kept, set_kept: u32;
    }
    structs {}
}

impl Walk {
    /// Passes `bytes`, which are in one buffer.
    #[inline(always)]
    pub fn advance(self, bytes: u32) {
        let long = u64::from(bytes);
        self.set_position(self.position().wrapping_add(long));
        self.set_at(self.at().wrapping_add(long));
        self.set_piece(self.piece().wrapping_sub(long));
        self.set_before(self.before().wrapping_add(long));
        self.set_left(self.left().wrapping_sub(bytes));
        self.set_length(self.length().wrapping_add(bytes));
    }

    /// A header begins at the next byte.
    #[inline(always)]
    pub fn mark_here(self) {
        if self.single() != 0 {
            self.set_mark(self.at());
            self.set_mark_vectors(0);
            self.set_mark_before(0);
        } else {
            self.set_mark(self.vectors().wrapping_sub(VECTOR));
            self.set_mark_vectors(self.vectors_left().wrapping_add(1));
            self.set_mark_before(self.before());
        }
    }

    /// A segment begins where the last header began. `length` bytes of it have passed, and are to be captured.
    #[inline(always)]
    pub fn begin_at_mark(self, length: u32) {
        self.set_first(self.mark());
        self.set_first_vectors(self.mark_vectors());
        self.set_first_before(self.mark_before());
        self.set_length(length);
        self.set_captured(length);
        self.set_opened_here(0);
    }

    /// A segment begins at the next byte.
    #[inline(always)]
    pub fn begin_here(self) {
        if self.single() == 0 && self.piece() == 0 {
            // In the next iovec.
            self.set_mark(self.vectors());
            self.set_mark_vectors(self.vectors_left());
            self.set_mark_before(0);
        } else {
            self.mark_here();
        }
        self.begin_at_mark(0);
    }
}
