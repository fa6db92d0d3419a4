//! Writes many entries of a map with one system call. One call per entry costs four times as much.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::maps::MapData;

/// include/uapi/linux/bpf.h: `enum bpf_cmd`, since Linux 5.6.
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;

/// The part of `union bpf_attr` that these commands read.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Writes entries of a hash map from words to words. Returns the indices of those that could not be written.
pub(super) fn insert(map: &MapData, keys: &[u64], values: &[u64]) -> Vec<usize> {
    let pairs = keys.len().min(values.len());
    let (keys, values) = (&keys[..pairs], &values[..pairs]);
    each(pairs, |from| batch(BPF_MAP_UPDATE_BATCH, map.fd().as_fd(), &keys[from..], Some(&values[from..])))
}

/// Removes entries of a hash map. Keys that it does not have are skipped.
pub(super) fn remove(map: &MapData, keys: &[u64]) {
    each(keys.len(), |from| batch(BPF_MAP_DELETE_BATCH, map.fd().as_fd(), &keys[from..], None));
}

/// Continues behind each entry that fails, because the kernel stops there.
fn each(length: usize, mut batch: impl FnMut(usize) -> (usize, io::Result<()>)) -> Vec<usize> {
    let mut failed = Vec::new();
    let mut from = 0;
    while from < length {
        let (done, outcome) = batch(from);
        from += done;
        if outcome.is_err() {
            failed.push(from);
            from += 1;
        }
    }
    failed
}

/// Runs one command. Returns how many entries it processed, and whether it processed all.
fn batch(command: libc::c_int, map: BorrowedFd<'_>, keys: &[u64], values: Option<&[u64]>) -> (usize, io::Result<()>) {
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let mut attributes = Attributes {
        keys: keys.as_ptr().addr() as u64,
        values: values.map_or(0, |values| values.as_ptr().addr() as u64),
        count,
        map_fd: map.as_raw_fd().unsigned_abs(),
        ..Attributes::default()
    };
    // SAFETY: the attributes belong to the command and have the given size. The kernel reads `count` words of each slice,
    // which has as many, and writes only `count`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size_of::<Attributes>()) };
    if result == 0 {
        return (count as usize, Ok(()));
    }
    let error = io::Error::last_os_error();
    // The kernel sets the count only if the command began.
    let done = if attributes.count < count { attributes.count as usize } else { 0 };
    (done, Err(error))
}
