//! What is known of an enrolled connection's request, while it is sent.

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
    /// The request has gone, with added lines or without, and no further one is looked for.
    pub const DONE: u32 = 7;
    /// The value of `Content-Length`.
    pub const LENGTH: u32 = 8;
    /// The header block has gone. The next request begins behind the body.
    pub const BODY: u32 = 9;
}

/// Bits of `framing`: what the header block says of the end of the request.
pub mod framing {
    /// It has a `Content-Length`.
    pub const HAS_LENGTH: u32 = 1;
    /// It is not known where the request ends, or another protocol may follow.
    pub const IS_LAST: u32 = 1 << 1;
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
        /// Sequence number of the next byte, if no byte passed unseen. Within a body: that of the next request.
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
        /// 1 if the socket stays enrolled after its first request.
        stays, set_stays: u32;
        /// 1 from the second request on.
        is_later, set_is_later: u32;
        /// Bits of [`framing`], and the `Content-Length`.
        framing, set_framing: u32;
        body, set_body: u32;
    }
    structs {}
}

impl Injection {
    /// Whether the request may be the last one that is looked for.
    #[inline(always)]
    pub fn is_last(self) -> bool {
        self.stays() == 0 || self.framing() & framing::IS_LAST != 0
    }

    /// The next byte begins another request.
    #[inline(always)]
    pub fn begin_later(self) {
        self.set_phase(phase::METHOD);
        self.set_latest(0);
        self.set_earlier(0);
        self.set_length(0);
        self.set_has_own(0);
        self.set_is_decided(0);
        self.set_framing(0);
        self.set_body(0);
        self.set_is_later(1);
    }
}
