//! Socket options that the standard library does not offer.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Connects a stream socket of `protocol`, 0 for TCP. A receive buffer must be set before connecting, because that announces
/// the window.
pub(crate) fn connect(
    address: SocketAddrV4,
    protocol: libc::c_int,
    receive_buffer: Option<libc::c_int>,
) -> io::Result<TcpStream> {
    // SAFETY: socket takes any three integers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and owned by nothing else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if let Some(bytes) = receive_buffer {
        set(&socket, libc::SO_RCVBUF, &bytes)?;
    }
    let peer = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: the descriptor is open, and the address is a `sockaddr_in` of the given length.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), (&raw const peer).cast(), length_of(&peer)?) };
    if connected == 0 { Ok(socket.into()) } else { Err(io::Error::last_os_error()) }
}

/// Makes closing the socket send a reset instead of a FIN. Data that was not read yet is discarded on both sides.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    set(stream, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
}

fn set<T>(socket: &impl std::os::fd::AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and the value has the given length.
    let set =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), length_of(value)?) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn length_of<T>(value: &T) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(size_of_val(value)).map_err(io::Error::other)
}
