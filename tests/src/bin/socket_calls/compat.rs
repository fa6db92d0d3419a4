//! System calls as 32-bit programs make them. A 64-bit program can make them with buffers below 4 GiB.

use std::io;
use std::os::fd::RawFd;

/// Reads available bytes. A kernel without 32-bit system calls ends the program with SIGSEGV.
#[cfg(target_arch = "x86_64")]
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    /// arch/x86/entry/syscalls/syscall_32.tbl
    const READ: u32 = 3;
    let low = low::Buffer::new(buffer.len())?;
    let read = usize::try_from(low.call(READ, fd)?).unwrap_or(0);
    buffer[..read].copy_from_slice(&low.bytes()[..read]);
    Ok(read)
}

/// Writes `bytes` and returns how many were written.
#[cfg(target_arch = "x86_64")]
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> io::Result<isize> {
    const WRITE: u32 = 4;
    let mut low = low::Buffer::new(bytes.len())?;
    low.bytes_mut().copy_from_slice(bytes);
    low.call(WRITE, fd)
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn read(_: RawFd, _: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn write(_: RawFd, _: &[u8]) -> io::Result<isize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_arch = "x86_64")]
mod low {
    use std::arch::asm;
    use std::io;
    use std::os::fd::RawFd;
    use std::ptr;

    /// Memory below 4 GiB.
    pub(super) struct Buffer {
        at: *mut u8,
        length: usize,
    }

    impl Buffer {
        pub(super) fn new(length: usize) -> io::Result<Self> {
            let (access, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT);
            // SAFETY: this creates a new mapping and replaces none.
            let at = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, -1, 0) };
            if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { at: at.cast(), length }) }
        }

        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: the memory is mapped, zeroed by the kernel, and owned by this value.
            unsafe { std::slice::from_raw_parts(self.at, self.length) }
        }

        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: as above, and the exclusive borrow of `self` excludes other references.
            unsafe { std::slice::from_raw_parts_mut(self.at, self.length) }
        }

        /// Performs read or write, by its system call number, on the whole buffer.
        pub(super) fn call(&self, number: u32, fd: RawFd) -> io::Result<isize> {
            let result: u64;
            // SAFETY: the call moves bytes between the descriptor and the buffer. LLVM reserves rbx, so it is restored. The
            // kernel may clear the registers that 32-bit programs don't have.
            unsafe {
                asm!(
                    "xchg rbx, {fd}",
                    "int 0x80",
                    "xchg rbx, {fd}",
                    fd = inout(reg) u64::from(fd.cast_unsigned()) => _,
                    inlateout("rax") u64::from(number) => result,
                    in("rcx") self.at,
                    in("rdx") self.length,
                    lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
                    options(nostack),
                );
            }
            match (result as u32).cast_signed() {
                error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
                moved => Ok(moved as isize),
            }
        }
    }

    impl Drop for Buffer {
        fn drop(&mut self) {
            // SAFETY: this is our mapping, and no borrow of it is left.
            unsafe { libc::munmap(self.at.cast(), self.length) };
        }
    }
}
