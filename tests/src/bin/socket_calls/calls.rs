//! The calls that read from a socket and write to it, by name.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::ptr;

use crate::{compat, io_uring};

/// Reads available bytes from a socket with the call `how`.
pub(crate) fn receive(how: &str, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (at, length) = (buffer.as_mut_ptr(), buffer.len());
    let mut few = pieces(at, length, 3);
    let mut header = message(&mut few);
    // SAFETY: the buffer has `length` bytes and lives until the call returns, and so do the iovecs and headers for it.
    let result = unsafe {
        match how {
            "read" => libc::read(fd, at.cast(), length),
            "recvfrom" => libc::recv(fd, at.cast(), length, 0),
            "recvfrom after a peek" => {
                done(libc::recv(fd, at.cast(), length, libc::MSG_PEEK))?;
                libc::recv(fd, at.cast(), length, 0)
            }
            "readv" => libc::readv(fd, few.as_ptr(), count(&few)),
            "preadv2" => libc::preadv2(fd, few.as_ptr(), count(&few), -1, 0),
            "recvmsg" => libc::recvmsg(fd, &raw mut header, 0),
            "recvmmsg" => {
                let mut messages = [libc::mmsghdr { msg_hdr: header, msg_len: 0 }; 2];
                let received = libc::recvmmsg(fd, messages.as_mut_ptr(), 2, libc::MSG_WAITFORONE, ptr::null_mut());
                if received < 1 { -1 } else { messages[0].msg_len as isize }
            }
            "splice" => {
                let (mut out, into) = pipe()?;
                let moved = libc::splice(fd, ptr::null_mut(), into.as_raw_fd(), ptr::null_mut(), length, 0);
                out.read_exact(&mut buffer[..done(moved)?])?;
                moved
            }
            "io_uring" => io_uring::operate(io_uring::RECV, fd, at, length)?,
            "32-bit read" => return compat::read(fd, buffer),
            _ => return Err(unknown(how)),
        }
    };
    done(result)
}

/// Writes all of `bytes` to a socket with the call `how`.
pub(crate) fn send(how: &str, fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    let (at, length) = (bytes.as_ptr(), bytes.len());
    let many = if how == "writev of many" { length } else { 3 };
    let mut pieces = pieces(at.cast_mut(), length, many);
    let mut header = message(&mut pieces);
    // SAFETY: as in `receive`. The bytes are only read, although the types of iovecs and headers are mutable.
    let result = unsafe {
        match how {
            "write" => libc::write(fd, at.cast(), length),
            "sendto" => libc::send(fd, at.cast(), length, 0),
            "writev" | "writev of many" => libc::writev(fd, pieces.as_ptr(), count(&pieces)),
            "pwritev2" => libc::pwritev2(fd, pieces.as_ptr(), count(&pieces), -1, 0),
            "sendmsg" => libc::sendmsg(fd, &raw const header, 0),
            "sendmmsg" => {
                header.msg_iovlen = 1;
                let rest = libc::msghdr { msg_iov: header.msg_iov.add(1), msg_iovlen: 2, ..header };
                let mut messages = [header, rest].map(|msg_hdr| libc::mmsghdr { msg_hdr, msg_len: 0 });
                let sent = libc::sendmmsg(fd, messages.as_mut_ptr(), 2, 0);
                if sent == 2 { messages.iter().map(|message| message.msg_len as isize).sum() } else { -1 }
            }
            "splice" => {
                let (out, mut into) = pipe()?;
                into.write_all(bytes)?;
                libc::splice(out.as_raw_fd(), ptr::null_mut(), fd, ptr::null_mut(), length, 0)
            }
            "io_uring" => io_uring::operate(io_uring::SEND, fd, at.cast_mut(), length)?,
            "32-bit write" => compat::write(fd, bytes)?,
            _ => return Err(unknown(how)),
        }
    };
    if done(result)? == length { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Splits a buffer into `parts` iovecs, all but the last of one byte.
fn pieces(at: *mut u8, length: usize, parts: usize) -> Vec<libc::iovec> {
    let piece = |part: usize| libc::iovec {
        iov_base: at.wrapping_add(part).cast(),
        iov_len: if part + 1 == parts { length - part } else { 1 },
    };
    (0..parts).map(piece).collect()
}

fn message(pieces: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: a msghdr of zeros has no address, no control data and no buffers.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (pieces.as_mut_ptr(), pieces.len());
    header
}

fn count(pieces: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(pieces.len()).unwrap_or(libc::c_int::MAX)
}

fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two new descriptors, which nothing else owns.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])))
    }
}

fn done(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn unknown(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("unknown call {how}"))
}
