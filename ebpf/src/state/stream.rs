//! What is remembered of a stream, whether its bytes are a socket's or a TLS library's plaintext.

use onlooker_common::owner::{MessageIds, Owner};

use core::ptr;

use super::frames::{Frames, FramesState, mode};
use super::owner::{SharedIds, SharedOwner};
use super::shared::shared;
use crate::atomic;
use crate::state::unit::Unit;

/// Bits of a stream's `flags`.
pub mod bit {
    /// Cookie, role and positions are known.
    pub const IDENTIFIED: u16 = 1;
    /// The stream has been followed from its first byte.
    pub const FROM_START: u16 = 1 << 1;
    /// The agent has the connection's addresses.
    pub const ANNOUNCED: u16 = 1 << 2;
    /// Client: a message was sent.
    pub const SENT: u16 = 1 << 3;
    /// The role CLIENT is a guess, because no listener is known for the port. What is read may be requests.
    pub const GUESSED: u16 = 1 << 4;
    /// TCP, and this is the first operation. (A value kept in registers until the operation's end would double the states
    /// that the verifier has to check before it; a bit in memory does not.)
    pub const NEW: u16 = 1 << 5;
    /// Client: several units wrote to the connection without waiting for each other's responses. A response may be any one's.
    pub const SHARED: u16 = 1 << 6;
    /// TLS was seen on the connection: what passes is encrypted.
    pub const CIPHERTEXT: u16 = 1 << 7;
    /// The header of a handshake's record was read alone. The message follows.
    pub const HANDSHAKE_FOLLOWS: u16 = 1 << 8;
    /// Client, in a process with tasks of tokio: the task that opened the connection wrote to it, or several tasks did.
    pub const MIXED: u16 = 1 << 9;
    /// Client, in such a process: it is unknown which task opened the connection, or wrote to it before.
    pub const UNOPENED: u16 = 1 << 10;
    /// Client, in such a process: the owner of the message became known after the message was sent.
    pub const CORRECTED: u16 = 1 << 11;
    /// Client: owner and ids of the message that is being sent are decided.
    pub const DECIDED: u16 = 1 << 12;
    /// Client: the ids of the message are sent with it.
    pub const SENDS_CONTEXT: u16 = 1 << 13;
    /// Server: the header block of the request may go on.
    pub const HEAD_OPEN: u16 = 1 << 14;
    /// TCP: both ends number messages alike.
    pub const NUMBERED: u16 = 1 << 15;
}

/// The trace of the message is not known here.
pub const TRACE_UNKNOWN: u32 = 1 << 31;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    #[inline(always)]
    pub fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    /// The value that `last` has after an operation in this direction. 0 means that there was none.
    #[inline(always)]
    fn mark(self) -> u8 {
        match self {
            Self::Ingress => 1,
            Self::Egress => 2,
        }
    }
}

/// Where in its stream an operation is.
#[derive(Clone, Copy)]
pub struct Place {
    /// Position of its first byte.
    pub position: u64,
    /// Position that the other direction has reached.
    pub opposite: u64,
    /// Bytes that Onlooker added behind those of the operation.
    pub added: u16,
}

shared! {
    /// The state of a stream.
    struct StreamState;
    /// A stream, in place.
    pointer Stream;
    words {
        /// The cookie of its socket.
        cookie, set_cookie: u64;
        /// Position of the next byte that will be received.
        next_received, set_next_received: u64;
        /// Position of the next byte that will be sent.
        next_sent, set_next_sent: u64;
        message_position, set_message_position: u64;
        /// Server: 1 while a request was read and its response has not begun.
        in_flight, set_in_flight: u64;
        /// Client: 1 while its owner is counted as waiting for the response.
        awaited, set_awaited: u64;
        /// A random word that the upper halves of its trace ids are combined with.
        id_mask, set_id_mask: u64;
        /// The state of the generator of its ids.
        id_seed, set_id_seed: u64;
        /// The unit of work that used it last: its two words.
        unit, set_unit: u64;
        unit_more, set_unit_more: u64;
        /// Client: the first word of the unit that wrote the message; 0 if it is unknown. Server, of HTTP/2: of the unit that read the
        /// client's preface.
        writer, set_writer: u64;
        /// The thread that read or wrote the first byte of the message.
        thread, set_thread: u32;
        run, set_run: u32;
        /// Bytes of this run that were captured.
        captured, set_captured: u32;
        /// One of `common::unit`: the kind of the unit that used it last.
        unit_kind, set_unit_kind: u32;
        /// The process that used it last.
        tgid, set_tgid: u32;
        /// The process that counts the request in flight.
        counted_by, set_counted_by: u32;
        flags, set_flags: u16;
        /// One of `common::connection::role`.
        role, set_role: u8;
        /// Direction of the last operation.
        last, set_last: u8;
        /// 1 if the thread does not prove whose work the unit that used it last does.
        in_loop, set_in_loop: u32;
        /// 1 once HTTP/2 frames were looked for. It stays, because the threads of both directions would change it.
        framed, set_framed: u32;
        /// Client: flags of the message's trace, bits of `common::injection::trace_flag`, or [`TRACE_UNKNOWN`].
        trace_flags, set_trace_flags: u32;
    }
    structs {
        /// Client: the message's owner. Before the first message: the request that the connection was opened for.
        owner: Owner as SharedOwner;
        /// The ids of the current request: read by a server, sent by a client.
        message: MessageIds as SharedIds;
        /// HTTP/2 frames in both directions.
        received_frames: FramesState as Frames;
        sent_frames: FramesState as Frames;
    }
}

impl Stream {
    /// Notes the unit of work that uses it now.
    #[inline(always)]
    pub fn used_by(self, kind: u32, words: [u64; 2]) {
        self.set_unit_kind(kind);
        self.set_unit(words[0]);
        self.set_unit_more(words[1]);
    }

    /// The unit of work that uses it now. Read from memory, because the verifier would check everything that follows once for
    /// each way in which the unit can be found.
    #[inline(always)]
    pub fn current_unit(self) -> Unit {
        let state = self.as_ptr();
        // SAFETY: members of a live value.
        unsafe {
            Unit {
                kind: ptr::read_volatile(&raw const (*state).unit_kind),
                words: [
                    ptr::read_volatile(&raw const (*state).unit),
                    ptr::read_volatile(&raw const (*state).unit_more),
                ],
            }
        }
    }

    #[inline(always)]
    pub fn is(self, bit: u16) -> bool {
        self.flags() & bit != 0
    }

    #[inline(always)]
    pub fn set(self, bit: u16) {
        self.set_flags(self.flags() | bit);
    }

    #[inline(always)]
    pub fn clear(self, bit: u16) {
        self.set_flags(self.flags() & !bit);
    }

    /// Position of the next byte in `direction`.
    #[inline(always)]
    pub fn next(self, direction: Direction) -> u64 {
        match direction {
            Direction::Ingress => self.next_received(),
            Direction::Egress => self.next_sent(),
        }
    }

    #[inline(always)]
    pub fn set_next(self, direction: Direction, position: u64) {
        match direction {
            Direction::Ingress => self.set_next_received(position),
            Direction::Egress => self.set_next_sent(position),
        }
    }

    /// The HTTP/2 frames in `direction`.
    #[inline(always)]
    pub fn frames(self, direction: Direction) -> Frames {
        match direction {
            Direction::Ingress => self.received_frames(),
            Direction::Egress => self.sent_frames(),
        }
    }

    /// Whether the connection is known to be HTTP/2.
    #[inline(always)]
    pub fn has_frames(self) -> bool {
        self.framed() != 0
            && (self.received_frames().mode() == mode::FOLLOWED || self.sent_frames().mode() == mode::FOLLOWED)
    }

    /// Client: whether a message that is sent now answers to nothing that is still being sent: bytes were received since the last one.
    #[inline(always)]
    pub fn is_answered(self) -> bool {
        self.last() == Direction::Ingress.mark() && !self.is(bit::DECIDED)
    }

    /// Notes the direction of an operation. Returns whether a run begins with it.
    #[inline(always)]
    pub fn turn(self, direction: Direction) -> bool {
        let last = self.last();
        let begins = last != direction.mark();
        if begins {
            if last != 0 {
                self.set_run(self.run().wrapping_add(1));
            }
            self.set_last(direction.mark());
        }
        begins
    }

    /// Sets `in_flight`. Returns whether the value is new. A reset does this while another thread responds.
    #[inline(always)]
    pub fn exchange_in_flight(self, in_flight: bool) -> bool {
        let now = u64::from(in_flight);
        // SAFETY: a live, aligned word of the state.
        unsafe { atomic::swap(&raw mut (*self.as_ptr()).in_flight, now) != now }
    }

    /// Sets `awaited`. Returns whether the value is new. A reset does this while another thread uses the connection.
    #[inline(always)]
    pub fn exchange_awaited(self, awaited: bool) -> bool {
        let now = u64::from(awaited);
        // SAFETY: a live, aligned word of the state.
        unsafe { atomic::swap(&raw mut (*self.as_ptr()).awaited, now) != now }
    }
}
