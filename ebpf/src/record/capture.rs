//! Writes an operation to the ring, with as many of its bytes as are wanted.
//!
//! One record holds up to `RECORD_CAPTURE` bytes. A longer capture becomes several records, each of which looks like an
//! operation of its own. So a run of short messages is captured whole at a cost per byte that is near that of the copy.
//!
//! Records are written by global functions: the verifier checks each once, by itself. If they were inlined, the verifier would
//! check them again for every path that leads to them.

use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use onlooker_common::limits::RECORD_CAPTURE;
use onlooker_common::losses::Loss;
use onlooker_common::plaintext::Plaintext;
use onlooker_common::segment::{Segment, TAIL_BYTES, flag};

use crate::emit;
use crate::maps::count;
use crate::record::arguments::Bytes;
use crate::record::form::{self, Header, Moved};
use crate::state::stream::{Stream, StreamState};
use crate::state::tls::PlaintextState;
use crate::user::{self, CONTINUE, LEAVE};

/// A form in which operations are recorded.
pub trait Form: Header {
    /// Writes one record, by a global function. Returns how many bytes were captured, or [`NO_ROOM`].
    ///
    /// # Safety
    /// The pointers must point to live values, and the stream must be of the kind that has this form.
    unsafe fn capture(moved: *const Moved, stream: *mut StreamState, source: Bytes, wanted: u32) -> u32;

    /// The same for an operation that takes several records.
    ///
    /// # Safety
    /// As for [`Form::capture`].
    unsafe fn capture_several(moved: *mut Moved, stream: *mut StreamState, source: *mut Bytes, wanted: u32) -> u32;
}

impl Form for Segment {
    #[inline(always)]
    unsafe fn capture(moved: *const Moved, stream: *mut StreamState, source: Bytes, wanted: u32) -> u32 {
        capture_segment(moved, stream, source.at, source.buffers, wanted)
    }

    #[inline(always)]
    unsafe fn capture_several(moved: *mut Moved, stream: *mut StreamState, source: *mut Bytes, wanted: u32) -> u32 {
        capture_several(moved, stream, source, wanted)
    }
}

impl Form for Plaintext {
    #[inline(always)]
    unsafe fn capture(moved: *const Moved, stream: *mut StreamState, source: Bytes, wanted: u32) -> u32 {
        // The state of an object begins with its stream.
        match source.buffers {
            0 => capture_plaintext(moved, stream.cast(), source.at, wanted),
            buffers => capture_buffers_of_plaintext(moved, stream.cast(), source.at, buffers, wanted),
        }
    }

    #[inline(always)]
    unsafe fn capture_several(moved: *mut Moved, stream: *mut StreamState, source: *mut Bytes, wanted: u32) -> u32 {
        capture_several_of_plaintext(moved, stream.cast(), source, wanted)
    }
}

/// Records an operation with up to `wanted` of its first bytes. Returns how many were captured, or `None` if the ring was
/// full. The stream must be of the kind that has the form `F`.
#[inline(always)]
pub fn operation<F: Form>(moved: &mut Moved, stream: Stream, mut source: Bytes, wanted: u32) -> Option<u32> {
    let most = if source.buffers == 0 { RECORD_CAPTURE } else { VECTOR_CAPTURE - 1 };
    // SAFETY: live values.
    let captured = unsafe {
        if wanted > most && !source.is_nowhere() {
            F::capture_several(moved, stream.as_ptr(), &raw mut source, wanted)
        } else {
            F::capture(moved, stream.as_ptr(), source, wanted)
        }
    };
    if captured == NO_ROOM { None } else { Some(captured) }
}

/// More than can be captured.
pub const NO_ROOM: u32 = u32::MAX;

/// A vectored operation uses half the room of a record: see `user::gather`.
pub const VECTOR_CAPTURE: u32 = RECORD_CAPTURE / 2;

/// The most records of one operation: more than `RUN_CAPTURE` needs.
const RECORDS: u32 = 16_384;

/// What is left of an operation that takes several records.
#[repr(C)]
struct Rest {
    moved: *mut Moved,
    stream: *mut StreamState,
    source: *mut Bytes,
    /// Bytes that are not recorded yet, and how many of them are wanted.
    length: u32,
    wanted: u32,
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn capture_several(moved: *mut Moved, stream: *mut StreamState, source: *mut Bytes, wanted: u32) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    unsafe { several::<Segment>(moved, stream, source, wanted) }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn capture_several_of_plaintext(
    moved: *mut Moved,
    plaintext: *mut PlaintextState,
    source: *mut Bytes,
    wanted: u32,
) -> u32 {
    // SAFETY: as above. The state of an object begins with its stream.
    unsafe { several::<Plaintext>(moved, plaintext.cast(), source, wanted) }
}

/// # Safety
/// The pointers must be null, or as for [`Form::capture_several`].
#[inline(always)]
unsafe fn several<F: Form>(moved: *mut Moved, stream: *mut StreamState, source: *mut Bytes, wanted: u32) -> u32 {
    if moved.is_null() || stream.is_null() || source.is_null() {
        return NO_ROOM;
    }
    // SAFETY: live values of the caller. The callback takes the index and a Rest.
    unsafe {
        (*moved).added_later = (*moved).added;
        (*moved).added = 0;
        let mut rest = Rest { moved, stream, source, length: (*moved).length, wanted };
        bpf_loop(RECORDS, one_of_several::<F> as *mut c_void, (&raw mut rest).cast(), 0);
        // The callback changes it.
        match (&raw const (*rest.moved).before).read_volatile() {
            0 => NO_ROOM,
            captured => captured as u32,
        }
    }
}

/// Writes the next record of an operation. `before` counts what was captured, also behind the last record.
extern "C" fn one_of_several<F: Form>(_index: u32, rest: *mut Rest) -> i64 {
    // SAFETY: called by `several` with its own struct, which points to live values.
    let (rest, moved, source) = unsafe { (&mut *rest, &mut *(*rest).moved, &mut *(*rest).source) };
    // See `Capture::vector`.
    let most = if source.buffers == 0 { RECORD_CAPTURE } else { VECTOR_CAPTURE - 1 };
    let is_last = rest.wanted <= most;
    let wanted = at_most(rest.wanted, most);
    moved.length = if is_last { rest.length } else { wanted };
    if is_last {
        moved.added = moved.added_later;
    }
    // SAFETY: live values.
    if unsafe { F::capture(moved, rest.stream, *source, wanted) } == NO_ROOM {
        if moved.before > 0 {
            count(Loss::RingFullSegment);
        }
        return LEAVE;
    }
    rest.wanted -= wanted;
    rest.length -= wanted;
    if source.buffers == 0 {
        source.at += u64::from(wanted);
    }
    moved.before += u64::from(wanted);
    moved.position += u64::from(wanted);
    // Only the first record begins a run, and only its first byte passed when the operation began.
    moved.flags &= !flag::BEGINS;
    moved.began = 0;
    if is_last { LEAVE } else { CONTINUE }
}

/// Records one segment with up to `wanted` of its first bytes. Returns how many were captured, or [`NO_ROOM`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn capture_segment(
    moved: *const Moved,
    stream: *mut StreamState,
    at: u64,
    buffers: u64,
    wanted: u32,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return NO_ROOM };
    if moved.is_null() {
        return NO_ROOM;
    }
    // SAFETY: a live value of the caller.
    let record = unsafe { Capture::<Segment>::new(moved, stream) };
    record.write(Bytes { at, buffers }, wanted).unwrap_or(NO_ROOM)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn capture_plaintext(moved: *const Moved, plaintext: *mut PlaintextState, at: u64, wanted: u32) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows. The state begins with its stream.
    let Some(stream) = (unsafe { Stream::new(plaintext.cast()) }) else { return NO_ROOM };
    if moved.is_null() {
        return NO_ROOM;
    }
    // SAFETY: a live value of the caller.
    let record = unsafe { Capture::<Plaintext>::new(moved, stream) };
    if at == 0 { record.without_bytes() } else { record.buffer(at, wanted) }.unwrap_or(NO_ROOM)
}

/// The same for plaintext in several buffers, at iovecs or what looks like them. It is apart: few libraries take them.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn capture_buffers_of_plaintext(
    moved: *const Moved,
    plaintext: *mut PlaintextState,
    at: u64,
    buffers: u64,
    wanted: u32,
) -> u32 {
    // SAFETY: as above.
    let Some(stream) = (unsafe { Stream::new(plaintext.cast()) }) else { return NO_ROOM };
    if moved.is_null() {
        return NO_ROOM;
    }
    // SAFETY: a live value of the caller.
    let record = unsafe { Capture::<Plaintext>::new(moved, stream) };
    if at == 0 { record.without_bytes() } else { record.vector(at, buffers, wanted) }.unwrap_or(NO_ROOM)
}

/// Records an operation with up to `wanted` (1 to `N`) bytes of one buffer, in the calling function.
///
/// # Safety
/// As for [`Form::capture`].
#[inline(always)]
pub unsafe fn here<F: Form, const N: usize>(moved: *const Moved, stream: Stream, at: u64, wanted: u32) -> Option<u32> {
    // SAFETY: the caller's promise.
    let record = unsafe { Capture::<F>::new(moved, stream) };
    if at == 0 { record.without_bytes() } else { record.buffer_class::<N>(at, wanted) }
}

/// A record that is to be written with the header `H`.
struct Capture<H> {
    moved: *const Moved,
    stream: Stream,
    length: u32,
    /// One in eight records checks how much is waiting in the ring, chosen by bits of the clock that are as good as random.
    look: bool,
    form: PhantomData<H>,
}

// `user::gather` writes the tail before the captured bytes.
const _: () = assert!(core::mem::offset_of!(Segment, tail) + TAIL_BYTES == size_of::<Segment>());

/// A record with room for `N` captured bytes.
#[repr(C)]
struct Record<H, const N: usize> {
    header: H,
    payload: MaybeUninit<[u8; N]>,
}

impl<H: Header> Capture<H> {
    /// # Safety
    /// `moved` must point to a live value.
    #[inline(always)]
    unsafe fn new(moved: *const Moved, stream: Stream) -> Self {
        // SAFETY: the caller's promise.
        let (length, time) = unsafe { ((*moved).length, (*moved).time) };
        Self { moved, stream, length, look: time & 0x70 == 0, form: PhantomData }
    }

    #[inline(always)]
    fn write(&self, source: Bytes, wanted: u32) -> Option<u32> {
        match (source.at, source.buffers) {
            (0, _) => self.without_bytes(),
            (at, 0) => self.buffer(at, wanted),
            (at, buffers) => self.vector(at, buffers, wanted),
        }
    }

    #[inline(always)]
    fn without_bytes(&self) -> Option<u32> {
        let mut entry = emit::reserve::<H>()?;
        // SAFETY: the entry has room for the header.
        unsafe { form::write(entry.as_mut_ptr(), self.moved, self.stream) };
        emit::submit(entry, self.look);
        Some(0)
    }

    /// The verifier wants to know a record's size, so there are size classes.
    #[inline(always)]
    fn buffer(&self, from: u64, wanted: u32) -> Option<u32> {
        match wanted {
            0..=64 => self.buffer_class::<64>(from, wanted),
            65..=256 => self.buffer_class::<256>(from, wanted),
            257..=1024 => self.buffer_class::<1024>(from, wanted),
            _ => self.buffer_class::<{ RECORD_CAPTURE as usize }>(from, wanted),
        }
    }

    #[inline(always)]
    fn buffer_class<const N: usize>(&self, from: u64, wanted: u32) -> Option<u32> {
        let mut entry = emit::reserve::<Record<H, N>>()?;
        let record = entry.as_mut_ptr();
        // SAFETY: the record has room for N bytes, and its header is written. Bytes beyond `captured` are never read.
        let captured = unsafe {
            let header = &raw mut (*record).header;
            form::write(header, self.moved, self.stream);
            let captured = user::prefix::<N>((&raw mut (*record).payload).cast(), from, u64::from(wanted));
            let segment = header.cast::<Segment>();
            (*segment).captured = captured;
            if captured < self.length {
                (*segment).tail_length = user::tail((&raw mut (*segment).tail).cast(), from, u64::from(self.length));
            }
            captured
        };
        emit::submit(entry, self.look);
        Some(captured)
    }

    #[inline(always)]
    fn vector(&self, iovecs: u64, count: u64, wanted: u32) -> Option<u32> {
        // The verifier wants less than the class holds. The usual budgets are classes, so one of their bytes is left to
        // the tail.
        match wanted {
            0..=256 => self.vector_class::<256, 512>(iovecs, count, at_most(wanted, 255)),
            257..=1024 => self.vector_class::<1024, 2048>(iovecs, count, at_most(wanted, 1023)),
            _ => {
                const LARGEST: usize = VECTOR_CAPTURE as usize;
                self.vector_class::<LARGEST, { 2 * LARGEST }>(iovecs, count, at_most(wanted, VECTOR_CAPTURE - 1))
            }
        }
    }

    /// `ROOM` is twice `N`: see `user::gather`.
    #[inline(always)]
    fn vector_class<const N: usize, const ROOM: usize>(&self, iovecs: u64, count: u64, wanted: u32) -> Option<u32> {
        let mut entry = emit::reserve::<Record<H, ROOM>>()?;
        let record = entry.as_mut_ptr();
        // SAFETY: as in `buffer_class`, with twice the room.
        let captured = unsafe {
            let header = &raw mut (*record).header;
            form::write(header, self.moved, self.stream);
            let segment = header.cast::<Segment>();
            let (captured, tail) = user::gather::<N>(
                (&raw mut (*record).payload).cast(),
                iovecs,
                count,
                (*self.moved).before,
                self.length,
                wanted,
            );
            if size_of::<H>() > size_of::<Segment>() {
                // The tail is at the end of the header, where a plaintext has the name of its stream.
                let tail = (&raw const (*record).payload).cast::<[u8; TAIL_BYTES]>().sub(1).read_unaligned();
                form::write(header, self.moved, self.stream);
                (*segment).tail = tail;
            }
            (*segment).captured = captured;
            (*segment).tail_length = tail;
            captured
        };
        emit::submit(entry, self.look);
        Some(captured)
    }
}

#[inline(always)]
fn at_most(wanted: u32, most: u32) -> u32 {
    if wanted < most { wanted } else { most }
}
