//! One io_uring operation, with a ring that is created for it and closed after it (include/uapi/linux/io_uring.h).

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// `IORING_OP_SEND` and `IORING_OP_RECV`.
pub(crate) const SEND: u8 = 26;
pub(crate) const RECV: u8 = 27;

const OFF_SQ_RING: libc::off_t = 0;
const OFF_CQ_RING: libc::off_t = 0x800_0000;
const OFF_SQES: libc::off_t = 0x1000_0000;
const ENTER_GETEVENTS: libc::c_uint = 1;

#[repr(C)]
#[derive(Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    unused: [u32; 8],
    sq: SubmissionOffsets,
    cq: CompletionOffsets,
}

#[repr(C)]
#[derive(Default)]
struct SubmissionOffsets {
    head: u32,
    tail: u32,
    unused: [u32; 4],
    array: u32,
    reserved: u32,
    user_address: u64,
}

#[repr(C)]
#[derive(Default)]
struct CompletionOffsets {
    unused: [u32; 5],
    cqes: u32,
    reserved: [u32; 2],
    user_address: u64,
}

#[repr(C)]
struct Submission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    rest: [u32; 9],
}

#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

const _: () = assert!(size_of::<Parameters>() == 120 && size_of::<Submission>() == 64 && size_of::<Completion>() == 16);

/// A mapped part of the ring.
struct Part(*mut u8, usize);

impl Part {
    fn map(ring: &OwnedFd, at: libc::off_t, length: usize) -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: this creates a new mapping and replaces none.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, ring.as_raw_fd(), at) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(mapped.cast(), length)) }
    }

    fn at<T>(&self, offset: u32) -> *mut T {
        self.0.wrapping_add(offset as usize).cast()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // SAFETY: this is our mapping, and no borrow of it is left.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

/// Performs `opcode` on the `length` bytes at `address` and waits for it. Returns how many bytes were moved.
///
/// # Safety
///
/// The memory must be valid for reading or writing, as the operation does.
pub(crate) unsafe fn operate(opcode: u8, fd: RawFd, address: *mut u8, length: usize) -> io::Result<isize> {
    let mut parameters = Parameters::default();
    // SAFETY: the parameters have the size that the kernel expects. The descriptor is new and owned by nothing else.
    let ring = unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters);
        let ring = RawFd::try_from(ring).ok().filter(|ring| *ring >= 0).ok_or_else(io::Error::last_os_error)?;
        OwnedFd::from_raw_fd(ring)
    };
    let Parameters { sq_entries, cq_entries, sq, cq, .. } = parameters;
    let submissions = Part::map(&ring, OFF_SQ_RING, sq.array as usize + sq_entries as usize * size_of::<u32>())?;
    let completions = Part::map(&ring, OFF_CQ_RING, cq.cqes as usize + cq_entries as usize * size_of::<Completion>())?;
    let entries = Part::map(&ring, OFF_SQES, sq_entries as usize * size_of::<Submission>())?;
    let length = u32::try_from(length).map_err(io::Error::other)?;
    let submission =
        Submission { opcode, flags: 0, ioprio: 0, fd, offset: 0, address: address as u64, length, rest: [0; 9] };
    // SAFETY: the kernel gave the offsets for these mappings. It reads the entry after the tail is stored.
    unsafe {
        entries.at::<Submission>(0).write(submission);
        submissions.at::<u32>(sq.array).write(0);
        (*submissions.at::<AtomicU32>(sq.tail)).store(1, Ordering::Release);
    }
    // SAFETY: submits one entry, whose memory the caller keeps valid, and waits for its completion.
    let entered = unsafe {
        libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 1, 1, ENTER_GETEVENTS, ptr::null::<u8>(), 0)
    };
    if entered < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: one operation is complete, so the first completion entry is written.
    match unsafe { completions.at::<Completion>(cq.cqes).read() }.result {
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        moved => Ok(moved as isize),
    }
}
