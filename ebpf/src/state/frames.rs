//! Where one direction of an HTTP/2 connection is: its frames (RFC 9113 4.1).

use super::shared::shared;

/// Values of `mode`.
pub mod mode {
    /// Where frames begin is unknown.
    pub const UNKNOWN: u32 = 0;
    /// A frame may have begun at `proposed`. Frames are counted from there, and bytes are captured as on any connection.
    pub const PROPOSED: u32 = 1;
    /// A frame begins at `boundary`.
    pub const FOLLOWED: u32 = 2;
}

shared! {
    /// The frames of a direction.
    struct FramesState;
    /// The frames of a direction, in place.
    pointer Frames;
    words {
        /// The bytes of the current header that have passed, `have` of them. A header has 9 bytes.
        header, set_header: u64;
        header_more, set_header_more: u64;
        /// Position at which the next frame begins. While its header passes, the position of its first byte.
        boundary, set_boundary: u64;
        /// Where a frame may have begun, and when it was proposed.
        proposed, set_proposed: u64;
        proposed_at, set_proposed_at: u64;
        /// Bytes of the frame's payload that are still to be captured.
        keep, set_keep: u32;
        have, set_have: u32;
        /// The highest number of a stream that a HEADERS frame opened.
        newest, set_newest: u32;
        /// One of [`mode`].
        mode, set_mode: u32;
    }
    structs {}
}

impl Frames {
    /// Where the bytes of the current header are.
    #[inline(always)]
    pub fn header_bytes(self) -> *mut u8 {
        // SAFETY: members of a live value.
        unsafe { (&raw mut (*self.as_ptr()).header).cast() }
    }

    /// A frame begins at `position`, and nothing of it has passed.
    #[inline(always)]
    pub fn begin_at(self, position: u64, mode: u32) {
        self.set_boundary(position);
        self.set_keep(0);
        self.set_have(0);
        self.set_mode(mode);
    }

    /// Bytes between `position` and the next frame. Negative within a header, or if frames were missed.
    #[inline(always)]
    pub fn payload_behind(self, position: u64) -> i64 {
        self.boundary().wrapping_sub(position).cast_signed()
    }

    /// Whether an operation at `position` continues where the frames are. A payload may have passed unseen.
    #[inline(always)]
    pub fn continues_at(self, position: u64) -> bool {
        let behind = self.payload_behind(position);
        if self.have() == 0 { behind >= 0 } else { behind == -i64::from(self.have()) }
    }
}
