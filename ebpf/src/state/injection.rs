//! What is known of an enrolled connection's first request, while it is sent.

use super::shared::shared;

/// Values of `phase`: what the next byte is part of.
pub mod phase {
    pub const METHOD: u32 = 0;
    pub const TARGET: u32 = 1;
    /// The LF that ends the request line or a header line.
    pub const LINE_FEED: u32 = 2;
    pub const LINE_START: u32 = 3;
    /// A line that has begun like the name of a field of a trace context.
    pub const NAME: u32 = 4;
    /// The rest of any other line.
    pub const LINE: u32 = 5;
    /// The CR of the empty line was found: lines are added before it.
    pub const END: u32 = 6;
    /// The request has gone, with added lines or without.
    pub const DONE: u32 = 7;
}

shared! {
    /// The state of an enrolled connection, in its socket's local storage.
    struct InjectionState;
    /// An enrolled connection, in place in its socket's storage.
    pointer Injection;
    words {
        cookie, set_cookie: u64;
        /// The last eight bytes of the request line, the latest in the lowest byte.
        latest, set_latest: u64;
        /// Sequence number of the next byte, if no byte passed unseen.
        sequence, set_sequence: u32;
        /// One of [`phase`].
        phase, set_phase: u32;
        /// How many bytes of the line are the beginning of names of fields, and of which: a bit for each.
        matched, set_matched: u32;
        candidates, set_candidates: u32;
        /// The byte of the request line before `latest`.
        earlier, set_earlier: u32;
        /// Bytes of the header block so far.
        length, set_length: u32;
        /// 1 if the request has a trace context of its own.
        has_own, set_has_own: u32;
        /// 1 once the ids of the request are decided.
        is_decided, set_is_decided: u32;
        /// The callbacks that the socket had before it was enrolled.
        callbacks, set_callbacks: u32;
    }
    structs {}
}
