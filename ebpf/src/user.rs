//! The only reader of user memory.
//!
//! Every address read here was just used by the kernel to move the same bytes, so the page is there: a read that
//! faults would cost a microsecond.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::ptr;
use onlooker_common::event::TAIL_BYTES;
use onlooker_common::limits::BUFFERS;
use onlooker_common::loss::Loss;

use crate::maps::count;

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

/// Keeps the compiler from using what it knows of `value`: the verifier must see the bound where it is used.
#[inline(always)]
pub fn opaque(value: u64) -> u64 {
    // SAFETY: a read of a local.
    unsafe { core::ptr::read_volatile(&raw const value) }
}

#[inline(always)]
fn read<T: Default>(from: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: writes `size_of::<T>()` bytes into a local of that size; a bad address is an error.
    let read = unsafe { bpf_probe_read_user((&raw mut value).cast(), size_of::<T>() as u32, from as *mut _) };
    if read == 0 { Some(value) } else { None }
}

/// The iovecs of a msghdr: address and count.
#[inline(always)]
pub fn message_header(at: u64) -> Option<(u64, u64)> {
    match read::<MessageHeader>(at) {
        Some(header) => Some((header.iovecs, header.count)),
        None => {
            count(Loss::UserReadFailed);
            None
        }
    }
}

/// Reads `wanted` (1 to `N`) bytes from one buffer; gives how many were read: all or none.
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

/// Reads the last bytes of a buffer of `length`; gives how many of `into`, counted from its end, were read.
#[inline(always)]
pub fn tail(into: &mut [u8; TAIL_BYTES], from: u64, length: u64) -> u8 {
    if length < TAIL_BYTES as u64 {
        // Too short for one read of constant size: what is before the buffer may not be there.
        let mut read_bytes = 0;
        for i in 0..TAIL_BYTES as u64 - 1 {
            if i < length {
                let slot = TAIL_BYTES - 1 - i as usize;
                let Some(byte) = read::<u8>(from + length - 1 - i) else { break };
                into[slot & (TAIL_BYTES - 1)] = byte;
                read_bytes += 1;
            }
        }
        return read_bytes;
    }
    // SAFETY: writes all of `into`.
    let failed = unsafe {
        bpf_probe_read_user(into.as_mut_ptr().cast(), TAIL_BYTES as u32, (from + length - TAIL_BYTES as u64) as *mut _)
    };
    if failed == 0 {
        TAIL_BYTES as u8
    } else {
        count(Loss::UserReadFailed);
        0
    }
}

/// How far `gather` has come. It is kept in the record, behind the captured bytes: what the verifier reads back from
/// there it knows nothing about, so that one pass over the loop's body stands for all of them.
#[repr(C)]
struct Progress {
    captured: u64,
    passed: u64,
}

/// Gathers up to `wanted` bytes of the beginning, and the end, of an operation that moved `length` bytes through
/// `buffers` iovecs. Gives how many bytes of the beginning and of the tail were read.
///
/// `into` must have room for `2 * N` bytes, of which less than `N + 16` are used: that is how the verifier sees that no
/// write ends beyond it. `N` must be a power of two, and more than `wanted`.
#[inline(always)]
pub fn gather<const N: usize>(
    into: *mut u8,
    tail_into: &mut [u8; TAIL_BYTES],
    iovecs: u64,
    buffers: u64,
    length: u64,
    wanted: u64,
) -> (u32, u8) {
    // SAFETY: the last 16 of the 2 * N bytes, aligned as the record and N are; no capture reaches them.
    let progress = unsafe { into.add(2 * N - size_of::<Progress>()).cast::<Progress>() };
    // SAFETY: as above.
    let (get, set) = unsafe {
        (
            || (ptr::read_volatile(&raw const (*progress).captured), ptr::read_volatile(&raw const (*progress).passed)),
            |captured: u64, passed: u64| {
                ptr::write_volatile(&raw mut (*progress).captured, captured);
                ptr::write_volatile(&raw mut (*progress).passed, passed);
            },
        )
    };
    set(0, 0);
    for i in 0..u64::from(BUFFERS) {
        let (captured, passed) = get();
        if i >= buffers {
            return (captured as u32, 0);
        }
        let Some(iovec) = read::<IoVec>(iovecs + i * size_of::<IoVec>() as u64) else {
            count(Loss::UserReadFailed);
            return (captured as u32, 0);
        };
        if iovec.length == 0 {
            continue;
        }
        let left = length - passed;
        let here = if iovec.length < left { iovec.length } else { left };
        let mut captured = captured;
        // Contiguous so far, and still wanted.
        if captured == passed && captured < wanted {
            let room = wanted - captured;
            let take = if here < room { here } else { room };
            let offset = opaque(captured) & (N as u64 - 1);
            let take = opaque(take) & (N as u64 - 1);
            // SAFETY: offset and take are less than N, and `into` has 2 * N bytes.
            let failed =
                unsafe { bpf_probe_read_user(into.add(offset as usize).cast(), take as u32, iovec.base as *mut _) };
            if failed != 0 {
                count(Loss::UserReadFailed);
                return (captured as u32, 0);
            }
            captured += take;
        }
        set(captured, passed + here);
        if passed + here >= length {
            let tail_length = if captured < length { tail(tail_into, iovec.base, here) } else { 0 };
            return (captured as u32, tail_length);
        }
    }
    count(Loss::TooManyBuffers);
    (get().0 as u32, 0)
}
