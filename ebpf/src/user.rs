//! The only reader of user memory.
//!
//! A read that faults costs a microsecond. The addresses of data were just used by the kernel to move the same bytes, so their
//! pages are mapped. The addresses from which a unit of work follows are in use by the thread that makes the system call.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use onlooker_common::limits::BUFFERS;
use onlooker_common::losses::Loss;
use onlooker_common::segment::TAIL_BYTES;

use crate::maps::count;
use crate::verifier::opaque;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct IoVec {
    base: u64,
    length: u64,
}

/// The head of a `struct user_msghdr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct MessageHeader {
    name: u64,
    name_length: u64,
    iovecs: u64,
    count: u64,
}

#[inline(always)]
fn read<T: Copy>(from: u64) -> Option<T> {
    // Not zeroed first: the compiler would call a byte-by-byte loop for that.
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of the local, also if it fails. `T` is made of plain words, so any bytes are a value.
    unsafe {
        let failed = bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, from as *mut _);
        let value = value.assume_init();
        if failed == 0 { Some(value) } else { None }
    }
}

/// A value at an address that may be no good. A failure is not counted.
#[inline(always)]
pub fn peek<T: Copy>(at: u64) -> Option<T> {
    read(at)
}

/// A word of a process's own structs, from which its unit of work follows. The caller knows that the address is good.
#[inline(always)]
pub fn word<T: Copy>(at: u64) -> Option<T> {
    let word = read::<T>(at);
    if word.is_none() {
        count(Loss::UnitUnread);
    }
    word
}

/// Address and length of the `index`th of the buffers at `iovecs`. A failure is not counted.
#[inline(always)]
pub fn buffer(iovecs: u64, index: u64) -> Option<(u64, u64)> {
    read::<IoVec>(iovecs.wrapping_add(index * size_of::<IoVec>() as u64)).map(|iovec| (iovec.base, iovec.length))
}

/// Address and count of a msghdr's iovecs. A failure is not counted.
#[inline(always)]
pub fn peek_message_header(at: u64) -> Option<(u64, u64)> {
    read::<MessageHeader>(at).map(|header| (header.iovecs, header.count))
}

/// Address and count of a msghdr's iovecs.
#[inline(always)]
pub fn message_header(at: u64) -> Option<(u64, u64)> {
    let header = peek_message_header(at);
    if header.is_none() {
        count(Loss::UserReadFailed);
    }
    header
}

/// Reads `wanted` (1 to `N`) bytes from one buffer. Returns how many were read: all or none.
///
/// `N` must be a power of two.
#[inline(always)]
pub fn prefix<const N: usize>(into: *mut u8, from: u64, wanted: u64) -> u32 {
    let length = (opaque(wanted).wrapping_sub(1) & (N as u64 - 1)) + 1;
    // SAFETY: `into` has `N` bytes, and length is 1 to `N`.
    if unsafe { bpf_probe_read_user(into.cast(), length as u32, from as *mut _) } == 0 {
        length as u32
    } else {
        count(Loss::UserReadFailed);
        0
    }
}

/// Reads the last bytes of a buffer of `length` (1 or more) to the end of `into`. Returns how many were read.
///
/// `into` has `TAIL_BYTES`. As many must follow it in the same record: that is how the verifier knows that no write ends
/// beyond it.
#[inline(always)]
pub fn tail(into: *mut u8, from: u64, length: u64) -> u8 {
    const WHOLE: u64 = TAIL_BYTES as u64;
    let failed = if length < WHOLE {
        // The memory before the buffer may not be mapped.
        let short = opaque(length) & (WHOLE - 1);
        let at = opaque(WHOLE - length) & (WHOLE - 1);
        // SAFETY: ends where `into` ends.
        unsafe { bpf_probe_read_user(into.add(at as usize).cast(), short as u32, from as *mut _) }
    } else {
        // SAFETY: writes all of `into`.
        unsafe { bpf_probe_read_user(into.cast(), TAIL_BYTES as u32, (from + length - WHOLE) as *mut _) }
    };
    if failed != 0 {
        count(Loss::UserReadFailed);
        return 0;
    }
    if length < WHOLE { length as u8 } else { TAIL_BYTES as u8 }
}

/// Where a vectored operation is gathered.
#[repr(C)]
struct Gathering {
    /// Where the captured bytes go. The tail goes before them.
    into: *mut u8,
    progress: *mut Progress,
}

/// What is gathered, and the loop's progress. It is kept in the record, behind the captured bytes, because the verifier knows
/// no values there: one pass over the loop's body then covers all passes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Progress {
    iovecs: u64,
    /// Bytes of the record, and how many bytes of its beginning are wanted.
    length: u64,
    wanted: u64,
    captured: u64,
    /// Bytes of the record that were passed. Negative, as an `i64`, before the record's first byte.
    passed: u64,
    tail_length: u64,
}

/// Results of a `bpf_loop` callback: continue, or leave the loop.
pub const CONTINUE: i64 = 0;
pub const LEAVE: i64 = 1;

/// Gathers from the `index`th buffer.
extern "C" fn gather_one<const N: usize>(index: u32, gathering: *mut Gathering) -> i64 {
    // SAFETY: called by `gather` with its own struct. The progress is in the record that it fills.
    let (gathering, progress) = unsafe { (&*gathering, &mut *(*gathering).progress) };
    let Progress { captured, passed, iovecs, length, wanted, .. } = *progress;
    let Some(iovec) = read::<IoVec>(iovecs + u64::from(index) * size_of::<IoVec>() as u64) else {
        count(Loss::UserReadFailed);
        return LEAVE;
    };
    // Bytes of the buffer that are in the records before.
    let before = if (passed as i64) < 0 { passed.wrapping_neg() } else { 0 };
    let before = if before < iovec.length { before } else { iovec.length };
    let (base, available, passed) = (iovec.base + before, iovec.length - before, passed.wrapping_add(before));
    let left = length.wrapping_sub(passed);
    let here = if available < left { available } else { left };
    if here == 0 {
        progress.passed = passed;
        return CONTINUE;
    }
    let mut take = 0;
    // Contiguous so far, and more is wanted.
    if captured == passed && captured < wanted {
        let room = wanted - captured;
        take = if here < room { here } else { room };
        let at = opaque(captured) & (N as u64 - 1);
        let bounded = opaque(take) & (N as u64 - 1);
        // SAFETY: both are less than the room, and the record has twice the room.
        let failed =
            unsafe { bpf_probe_read_user(gathering.into.add(at as usize).cast(), bounded as u32, base as *mut _) };
        if failed != 0 {
            count(Loss::UserReadFailed);
            return LEAVE;
        }
    }
    progress.captured = captured + take;
    progress.passed = passed + here;
    if passed + here < length {
        return CONTINUE;
    }
    if captured + take < length {
        // SAFETY: see `gather`.
        progress.tail_length = u64::from(tail(unsafe { gathering.into.sub(TAIL_BYTES) }, base, here));
    }
    LEAVE
}

/// Gathers up to `wanted` bytes of the beginning of a record, and its tail. The record has `length` bytes of an operation,
/// after the first `before` bytes, which passed through `buffers` iovecs. Returns how many bytes of the beginning and of
/// the tail were read.
///
/// `into` must have room for `2 * N` bytes, of which less than `N` are used: that is how the verifier knows that no write
/// ends beyond it. `N` must be a power of two, and more than `wanted`. The tail goes directly before `into`: see [`tail`].
#[inline(always)]
pub fn gather<const N: usize>(
    into: *mut u8,
    iovecs: u64,
    buffers: u64,
    before: u64,
    length: u32,
    wanted: u32,
) -> (u32, u8) {
    // SAFETY: the last bytes of the 2 * N, aligned because the record and N are. No capture reaches them.
    let progress = unsafe { into.add(2 * N - size_of::<Progress>()).cast::<Progress>() };
    // SAFETY: as above.
    unsafe {
        let (length, wanted) = (u64::from(length), u64::from(wanted));
        progress.write(Progress { iovecs, length, wanted, captured: 0, passed: before.wrapping_neg(), tail_length: 0 });
    }
    let mut gathering = Gathering { into, progress };
    let most = if buffers < u64::from(BUFFERS) { buffers as u32 } else { BUFFERS };
    // SAFETY: the callback takes the index and a Gathering.
    unsafe { bpf_loop(most, gather_one::<N> as *mut c_void, (&raw mut gathering).cast(), 0) };
    // SAFETY: as above.
    let Progress { captured, tail_length, .. } = unsafe { progress.read_volatile() };
    (captured as u32, tail_length as u8)
}
