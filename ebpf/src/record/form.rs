//! The forms of records that carry bytes of a stream.
//!
//! A record begins with a [`Segment`]. It is written in place in the ring: on the stack it would take 192 bytes of the 512
//! that a program and the functions it calls share before Linux 6.13.

use onlooker_common::connection::role;
use onlooker_common::kind;
use onlooker_common::plaintext;
use onlooker_common::segment::{Segment, flag};

use crate::state::stream::{Place, Stream, bit};
use crate::state::tls::Plaintext;
use crate::state::unit::Unit;

/// What a record says about its operation. The rest comes from the stream's state.
///
/// It is filled as soon as values are known, so that they are on the stack once. It has no padding, because the verifier
/// wants every byte to be initialised.
#[repr(C)]
pub struct Moved {
    pub time: u64,
    /// When a send that waited for buffer space began; 0 if unknown.
    pub began: u64,
    pub position: u64,
    pub opposite: u64,
    /// See `Segment::peer`.
    pub peer: u64,
    pub unit: [u64; 2],
    pub unit_kind: u32,
    pub length: u32,
    pub flags: u32,
    /// Bytes that Onlooker added behind this record.
    pub added: u16,
    /// The same behind the operation's last record, if this is not the last.
    pub added_later: u16,
    pub tgid: u32,
    pub tid: u32,
    /// Bytes of the operation that are in the records before.
    pub before: u64,
}

impl Moved {
    /// `length` bytes at `place`, by the unit of work `unit` of the thread `tid`.
    #[inline(always)]
    pub fn new(length: u32, place: Place, unit: Unit, tgid: u32, tid: u32) -> Self {
        Self {
            time: 0,
            began: 0,
            position: place.position,
            opposite: place.opposite,
            peer: 0,
            unit: unit.words,
            unit_kind: unit.kind,
            length,
            flags: 0,
            added: place.added,
            added_later: 0,
            tgid,
            tid,
            before: 0,
        }
    }

    #[inline(always)]
    pub fn set_unit(&mut self, unit: Unit) {
        self.unit = unit.words;
        self.unit_kind = unit.kind;
    }
}

const _: () = assert!(size_of::<Moved>() == 88);

/// The header of a record with captured bytes.
///
/// # Safety
/// The type must be `repr(C)` and begin with a [`Segment`].
pub unsafe trait Header: 'static {
    /// One of `common::kind`.
    const KIND: u32;

    /// Writes what differs from a socket's segment.
    ///
    /// # Safety
    /// `header` must have room for it, and its Segment must be written. The stream must be of the kind that has this form.
    unsafe fn complete(header: *mut Self, stream: Stream);
}

// SAFETY: it is the Segment.
unsafe impl Header for Segment {
    const KIND: u32 = kind::SEGMENT;

    #[inline(always)]
    unsafe fn complete(_: *mut Self, _: Stream) {}
}

// SAFETY: it begins with the Segment.
unsafe impl Header for plaintext::Plaintext {
    const KIND: u32 = kind::PLAINTEXT;

    #[inline(always)]
    unsafe fn complete(header: *mut Self, stream: Stream) {
        // SAFETY: the caller's promise.
        unsafe {
            let plaintext = Plaintext::of_stream(stream);
            (*header).segment.cookie = plaintext.socket_cookie();
            (*header).stream.object = plaintext.object();
            (*header).stream.generation = plaintext.generation();
            (*header).stream.tgid = plaintext.tgid();
        }
    }
}

/// Writes the Segment that `header` begins with. What depends on the capture is written as 0.
///
/// # Safety
/// `header` must have room for an `H`. `moved` must point to a live value. The stream must be of the kind that has the form
/// `H`.
#[inline(always)]
pub unsafe fn write<H: Header>(header: *mut H, moved: *const Moved, stream: Stream) {
    let segment = header.cast::<Segment>();
    // SAFETY: the caller's promise. Every field is written.
    unsafe {
        (*segment).kind = H::KIND;
        (*segment).captured = 0;
        (*segment).time = (*moved).time;
        (*segment).began = (*moved).began;
        (*segment).cookie = stream.cookie();
        (*segment).position = (*moved).position;
        (*segment).opposite = (*moved).opposite;
        (*segment).length = (*moved).length;
        (*segment).run = stream.run();
        (*segment).flags = (*moved).flags;
        (*segment).role = stream.role();
        (*segment).tail_length = 0;
        (*segment).added = (*moved).added;
        (*segment)._pad = 0;
        (*segment).tgid = (*moved).tgid;
        (*segment).tid = (*moved).tid;
        (*segment).unit_kind = (*moved).unit_kind;
        (*segment).unit = (*moved).unit;
        let has_owner = (*moved).flags & flag::EGRESS != 0 || stream.is(bit::CORRECTED);
        if has_owner && stream.role() == role::CLIENT {
            (*segment).owner = *stream.owner().as_ptr();
        } else {
            (&raw mut (*segment).owner).write_bytes(0, 1);
        }
        (*segment).message = *stream.message().as_ptr();
        (*segment).peer = (*moved).peer;
        (&raw mut (*segment).tail).write_bytes(0, 1);
        H::complete(header, stream);
    }
}
