//! Sockets.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock};
use core::ffi::c_void;

use onlooker_common::offsets::MISSING;

use super::unix::UnixSock;
use super::{member, read};
use crate::maps::offset;

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
const SOCK_STREAM: u16 = 1;
/// include/net/sock.h
const RCV_SHUTDOWN: u8 = 1;

/// include/net/tcp_states.h; unix sockets have the first as well.
pub mod tcp_state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
}

/// A socket, as the kernel hands it to a tracepoint.
#[derive(Clone, Copy)]
pub struct Sock(*const c_void);

/// Sequence numbers of a TCP connection: of the next byte that will be written, that will be read, and that will come.
///
/// A FIN takes a number and is no byte: one that was sent, or read, is taken out.
#[derive(Clone, Copy)]
pub struct Sequences {
    pub write: u32,
    pub copied: u32,
    pub arrived: u32,
}

/// The directions of a connection that a FIN has ended. The shutdown bits don't tell: a reset sets them both.
#[derive(Clone, Copy)]
pub struct Fins {
    pub sent: bool,
    pub came: bool,
}

impl Sock {
    /// # Safety
    /// `sock` must be a `struct sock *` argument of the running program.
    #[inline(always)]
    pub unsafe fn new(sock: *const c_void) -> Self {
        Self(sock)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut c_void {
        self.0.cast_mut()
    }

    /// To be remembered beyond the running program.
    #[inline(always)]
    pub fn former(self) -> FormerSock {
        FormerSock(self.0 as u64)
    }

    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: the socket is the program's argument.
        unsafe { bpf_get_socket_cookie(self.as_ptr()) }
    }

    #[inline(always)]
    pub fn family(self) -> u16 {
        // SAFETY: offset of a u16 of struct sock.
        unsafe { member(self.0, offset!(sock_family)) }.unwrap_or(0)
    }

    /// Whether this is a stream that requests travel on: TCP, or a unix stream socket.
    #[inline(always)]
    pub fn is_stream(self, family: u16) -> bool {
        // SAFETY: offsets of u16 members of struct sock (sk_type and sk_protocol since 5.6).
        let (kind, protocol) =
            unsafe { (member::<u16>(self.0, offset!(sock_type)), member::<u16>(self.0, offset!(sock_protocol))) };
        match family {
            AF_INET | AF_INET6 => protocol == Some(IPPROTO_TCP),
            AF_UNIX => kind == Some(SOCK_STREAM),
            _ => false,
        }
    }

    /// Whether the kernel made it for itself, as for a file system on the network: then no process has it, whosever call it
    /// works for.
    #[inline(always)]
    pub fn is_kernels(self) -> bool {
        // SAFETY: offsets of a pointer to struct socket, and of one to struct file in that.
        let file = unsafe {
            let socket = member::<*const c_void>(self.0, offset!(sock_socket));
            socket.and_then(|socket| member::<*const c_void>(socket, offset!(socket_file)))
        };
        file.is_some_and(<*const c_void>::is_null)
    }

    #[inline(always)]
    pub fn error(self) -> i32 {
        // SAFETY: offset of an int of struct sock.
        unsafe { member(self.0, offset!(sock_error)) }.unwrap_or(0)
    }

    /// Whether the peer has said that it will send no more.
    #[inline(always)]
    pub fn peer_finished(self) -> bool {
        // SAFETY: offset of a u8 of struct sock.
        unsafe { member::<u8>(self.0, offset!(sock_shutdown)) }.is_some_and(|bits| bits & RCV_SHUTDOWN != 0)
    }

    #[inline(always)]
    pub fn network_namespace(self) -> u32 {
        // SAFETY: possible_net_t is one pointer to struct net, whose ns.inum is an unsigned int.
        unsafe {
            let Some(net) = member::<*const c_void>(self.0, offset!(sock_net)) else { return 0 };
            member(net, offset!(net_inode)).unwrap_or(0)
        }
    }

    /// Local and remote port, host byte order.
    #[inline(always)]
    pub fn ports(self) -> (u16, u16) {
        // SAFETY: offsets of u16 members of struct sock_common; the remote port is in network byte order.
        let (local, remote) = unsafe {
            let remote = member::<u16>(self.0, offset!(remote_port)).unwrap_or(0);
            (member::<u16>(self.0, offset!(local_port)).unwrap_or(0), u16::from_be(remote))
        };
        (if local == 0 { self.former_local_port() } else { local }, remote)
    }

    /// A reset takes the port from the connection; the number stays where headers are made of it.
    #[inline(always)]
    fn former_local_port(self) -> u16 {
        // SAFETY: offset of a __be16 of struct inet_sock, with which a tcp_sock begins.
        self.tcp().and_then(|tcp| unsafe { member::<u16>(tcp, offset!(former_local_port)) }).map_or(0, u16::from_be)
    }

    /// One of [`tcp_state`].
    #[inline(always)]
    pub fn state(self) -> u8 {
        // SAFETY: offset of a u8 of struct sock_common.
        unsafe { member(self.0, offset!(sock_state)) }.unwrap_or(0)
    }

    /// Which FINs there were, for a connection of which nothing was seen before: as far as its state tells.
    #[inline(always)]
    pub fn fins(self) -> Fins {
        let state = self.state();
        // A socket that is closed although nothing went wrong had both, or none of this matters to it any more.
        let closed = state == tcp_state::CLOSE && self.error() == 0;
        let sent =
            matches!(state, tcp_state::FIN_WAIT1 | tcp_state::FIN_WAIT2 | tcp_state::CLOSING | tcp_state::LAST_ACK);
        let came = matches!(state, tcp_state::CLOSE_WAIT | tcp_state::CLOSING | tcp_state::LAST_ACK);
        Fins { sent: sent || closed, came: came || closed }
    }

    #[inline(always)]
    fn tcp(self) -> Option<*const c_void> {
        // SAFETY: the helper checks the socket.
        let tcp: *const c_void = unsafe { bpf_skc_to_tcp_sock(self.as_ptr()) }.cast();
        if tcp.is_null() { None } else { Some(tcp) }
    }

    /// Local and remote address; IPv4 in the first word.
    #[inline(always)]
    pub fn addresses(self, family: u16) -> ([u32; 4], [u32; 4]) {
        if family == AF_INET {
            // SAFETY: offsets of __be32 members of struct sock_common.
            let (local, remote) = unsafe { (member(self.0, offset!(local_v4)), member(self.0, offset!(remote_v4))) };
            ([local.unwrap_or(0), 0, 0, 0], [remote.unwrap_or(0), 0, 0, 0])
        } else {
            (self.v6(offset!(local_v6)), self.v6(offset!(remote_v6)))
        }
    }

    #[inline(always)]
    fn v6(self, offset: u32) -> [u32; 4] {
        let mut words = [0; 4];
        if offset != MISSING {
            for (i, word) in words.iter_mut().enumerate() {
                // SAFETY: an in6_addr is four words.
                *word = unsafe { member(self.0, offset + 4 * i as u32) }.unwrap_or(0);
            }
        }
        words
    }

    /// `None` if this is no TCP socket, or the kernel's layout is not known.
    #[inline(always)]
    pub fn sequences(self, fins: Fins) -> Option<Sequences> {
        let tcp = self.tcp()?;
        // SAFETY: offsets of u32 members of struct tcp_sock.
        let (write, copied, arrived): (u32, u32, u32) = unsafe {
            (member(tcp, offset!(write_seq))?, member(tcp, offset!(copied_seq))?, member(tcp, offset!(rcv_nxt))?)
        };
        // The peer's FIN comes last: it has been read when all that has come was.
        let read = u32::from(fins.came && copied == arrived);
        Some(Sequences {
            write: write.wrapping_sub(u32::from(fins.sent)),
            copied: copied.wrapping_sub(read),
            arrived: arrived.wrapping_sub(u32::from(fins.came)),
        })
    }

    /// Whether a read that just returned `length` bytes took the connection's very first ones.
    #[inline(always)]
    pub fn was_first_read(self, length: u32) -> bool {
        let Some(tcp) = self.tcp() else { return false };
        // SAFETY: as in `sequences`; bytes_received is a u64.
        unsafe {
            let (Some(copied), Some(next), Some(received)) = (
                member::<u32>(tcp, offset!(copied_seq)),
                member::<u32>(tcp, offset!(rcv_nxt)),
                member::<u64>(tcp, offset!(bytes_received)),
            ) else {
                return false;
            };
            let unread = next.wrapping_sub(copied);
            // A FIN counts as one that was received, and may have been read with the bytes.
            let consumed = received.wrapping_sub(u64::from(unread));
            consumed == u64::from(length) || consumed == u64::from(length) + 1
        }
    }

    #[inline(always)]
    pub fn unix(self) -> Option<UnixSock> {
        // SAFETY: the helper checks the socket.
        let unix: *const c_void = unsafe { bpf_skc_to_unix_sock(self.as_ptr()) }.cast();
        if unix.is_null() { None } else { Some(UnixSock(unix)) }
    }
}

/// A socket that was used before: it may be gone by now, and its memory another's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FormerSock(u64);

impl FormerSock {
    /// Whether it is still the socket with this cookie, and its connection can still be written to.
    #[inline(always)]
    pub fn is_connection(self, cookie: u64) -> bool {
        match (self.read::<u64>(offset!(sock_cookie)), self.read::<u8>(offset!(sock_state))) {
            (Some(found), Some(state)) => {
                found == cookie && matches!(state, tcp_state::ESTABLISHED | tcp_state::CLOSE_WAIT)
            }
            // Not known on this kernel.
            _ => true,
        }
    }

    /// Whether an epoll set has it, or somebody else waits for it just now.
    #[inline(always)]
    pub fn is_waited_for(self) -> bool {
        let Some(queue) = self.read::<u64>(offset!(sock_queue)) else { return true };
        let waiters = offset!(queue_waiters);
        if queue == 0 || waiters == MISSING {
            return queue != 0;
        }
        // A list_head: it points to itself while it is empty.
        let head = queue + u64::from(waiters);
        read::<u64>(head).is_some_and(|first| first != head)
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> Option<T> {
        if offset == MISSING { None } else { read(self.0 + u64::from(offset)) }
    }
}
