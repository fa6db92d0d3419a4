//! Sockets.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock};
use core::ffi::c_void;

use onlooker_common::offsets::MISSING;

use super::member::{at, load, number, pointer, probe};
use super::unix::UnixSock;
use crate::globals::offset;

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_MPTCP: u16 = 262;
const SOCK_STREAM: u16 = 1;
/// include/net/sock.h
const RCV_SHUTDOWN: u8 = 1;

/// include/net/tcp_states.h. Unix sockets use ESTABLISHED too.
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

/// A socket: an argument of the running program.
#[derive(Clone, Copy)]
pub struct Sock(*const c_void);

/// Sequence numbers of a TCP connection: of the next byte to be written, to be read, and to arrive.
///
/// A FIN takes a sequence number but is not a byte. A FIN that was sent or read is subtracted.
#[derive(Clone, Copy)]
pub struct Sequences {
    pub write: u32,
    pub copied: u32,
    pub arrived: u32,
}

/// What a TCP socket has sent and holds.
#[derive(Clone, Copy)]
pub struct SendBuffer {
    /// Sequence numbers of the next byte to be written, and to be read.
    pub next: u32,
    pub received: u32,
    /// Bytes that were sent.
    pub sent: u64,
    /// Memory that is used, and the most that may be.
    pub queued: u32,
    pub limit: u32,
}

/// The directions of a connection that a FIN has ended. The shutdown bits do not show this, because a reset sets both.
#[derive(Clone, Copy)]
pub struct Fins {
    pub sent: bool,
    pub received: bool,
}

impl Sock {
    /// # Safety
    /// `sock` must be a `struct sock *` argument of the running program.
    #[inline(always)]
    pub unsafe fn new(sock: *const c_void) -> Self {
        Self(sock)
    }

    /// The protocol's socket of a `struct socket`.
    ///
    /// # Safety
    /// `socket` must be a `struct socket *` argument of the running program.
    #[inline(always)]
    pub unsafe fn of_socket(socket: *const c_void) -> Option<Self> {
        // SAFETY: offset of a `struct sock *`.
        unsafe { load(socket, offset!(socket_sock)) }.map(Self)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut c_void {
        self.0.cast_mut()
    }

    /// The socket's address, to be kept after the program has ended.
    #[inline(always)]
    pub fn address(self) -> SockAddress {
        SockAddress(number(self.0))
    }

    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: the socket is the program's argument.
        unsafe { bpf_get_socket_cookie(self.as_ptr()) }
    }

    #[inline(always)]
    pub fn family(self) -> u16 {
        // SAFETY: offset of a u16 of struct sock.
        unsafe { load(self.0, offset!(sock_family)) }.unwrap_or(0)
    }

    /// Whether this is a TCP, MPTCP or unix stream socket.
    #[inline(always)]
    pub fn is_stream(self, family: u16) -> bool {
        // SAFETY: offsets of u16 members of struct sock (sk_type and sk_protocol since 5.6).
        let (kind, protocol) =
            unsafe { (load::<u16>(self.0, offset!(sock_type)), load::<u16>(self.0, offset!(sock_protocol))) };
        match family {
            AF_INET | AF_INET6 => protocol == Some(IPPROTO_TCP) || protocol == Some(IPPROTO_MPTCP),
            AF_UNIX => kind == Some(SOCK_STREAM),
            _ => false,
        }
    }

    /// Whether this is the process's socket of an MPTCP connection. It has no sequence numbers.
    #[inline(always)]
    pub fn is_mptcp(self) -> bool {
        // SAFETY: offset of a u16 of struct sock.
        unsafe { load::<u16>(self.0, offset!(sock_protocol)) == Some(IPPROTO_MPTCP) }
    }

    /// The MPTCP socket whose subflow this TCP socket is. (The helper for this takes no argument of a tracing program.)
    #[inline(always)]
    pub fn mptcp(self) -> Option<SockAddress> {
        let tcp = self.tcp()?;
        let connection = offset!(subflow_connection);
        if connection == MISSING {
            return None;
        }
        // SAFETY: offsets of a bool of struct tcp_sock, and of an untyped pointer of the struct that it begins with.
        let subflow = unsafe {
            if load::<u8>(tcp, offset!(is_mptcp))? == 0 {
                return None;
            }
            load::<u64>(tcp, offset!(subflow))?
        };
        probe::<u64>(subflow + u64::from(connection)).map(SockAddress)
    }

    /// Whether no process can use the socket any more, because the last descriptor is closed.
    #[inline(always)]
    pub fn is_orphan(self) -> bool {
        self.address().is_orphan()
    }

    /// Whether the kernel created the socket for itself, as for a network file system. Such a socket belongs to no process.
    #[inline(always)]
    pub fn is_kernel_internal(self) -> bool {
        // A pointer to struct socket, and one to struct file in that.
        match self.address().read::<u64>(offset!(sock_socket)) {
            Some(0) => true,
            Some(socket) => at::<u64>(socket, offset!(socket_file)) == Some(0),
            None => false,
        }
    }

    /// Whether its operations never wait. `O_NONBLOCK` of include/uapi/asm-generic/fcntl.h is the same on all architectures here.
    #[inline(always)]
    pub fn is_non_blocking(self) -> bool {
        const NON_BLOCKING: u32 = 0o4000;
        let socket = self.address().read::<u64>(offset!(sock_socket));
        let file = socket.filter(|&socket| socket != 0).and_then(|socket| at::<u64>(socket, offset!(socket_file)));
        let flags = file.filter(|&file| file != 0).and_then(|file| at::<u32>(file, offset!(file_flags)));
        flags.is_some_and(|flags| flags & NON_BLOCKING != 0)
    }

    #[inline(always)]
    pub fn error(self) -> i32 {
        // SAFETY: offset of an int of struct sock.
        unsafe { load(self.0, offset!(sock_error)) }.unwrap_or(0)
    }

    /// Whether no more bytes will be received: the peer has ended its direction, or the process has shut it down.
    #[inline(always)]
    pub fn input_is_over(self) -> bool {
        // SAFETY: offset of a u8 of struct sock.
        unsafe { load::<u8>(self.0, offset!(sock_shutdown)) }.is_some_and(|bits| bits & RCV_SHUTDOWN != 0)
    }

    #[inline(always)]
    pub fn network_namespace(self) -> u32 {
        // possible_net_t is one pointer to struct net, whose ns.inum is an unsigned int.
        pointer(self.0, offset!(sock_net)).and_then(|net| at(net, offset!(net_inode))).unwrap_or(0)
    }

    /// Local and remote port, in host byte order.
    #[inline(always)]
    pub fn ports(self) -> (u16, u16) {
        // SAFETY: offsets of u16 members of struct sock_common; the remote port is in network byte order.
        let (local, remote) = unsafe {
            let remote = load::<u16>(self.0, offset!(remote_port)).unwrap_or(0);
            (load::<u16>(self.0, offset!(local_port)).unwrap_or(0), u16::from_be(remote))
        };
        (if local == 0 { self.former_local_port() } else { local }, remote)
    }

    /// A reset clears the local port of the connection. The member from which headers are built keeps it.
    #[inline(always)]
    fn former_local_port(self) -> u16 {
        // SAFETY: offset of a __be16 of struct inet_sock, with which a tcp_sock begins.
        self.tcp().and_then(|tcp| unsafe { load::<u16>(tcp, offset!(former_local_port)) }).map_or(0, u16::from_be)
    }

    /// One of [`tcp_state`].
    #[inline(always)]
    pub fn state(self) -> u8 {
        // SAFETY: offset of a u8 of struct sock_common.
        unsafe { load(self.0, offset!(sock_state)) }.unwrap_or(0)
    }

    /// Which FINs there were, as far as the state shows: for a connection that was not followed before.
    #[inline(always)]
    pub fn fins(self) -> Fins {
        let state = self.state();
        // A closed socket without an error had both FINs, or its positions no longer matter.
        let closed = state == tcp_state::CLOSE && self.error() == 0;
        let sent =
            matches!(state, tcp_state::FIN_WAIT1 | tcp_state::FIN_WAIT2 | tcp_state::CLOSING | tcp_state::LAST_ACK);
        let received = matches!(state, tcp_state::CLOSE_WAIT | tcp_state::CLOSING | tcp_state::LAST_ACK);
        Fins { sent: sent || closed, received: received || closed }
    }

    #[inline(always)]
    fn tcp(self) -> Option<*const c_void> {
        // SAFETY: the helper checks the socket's type.
        let tcp: *const c_void = unsafe { bpf_skc_to_tcp_sock(self.as_ptr()) }.cast();
        if tcp.is_null() { None } else { Some(tcp) }
    }

    /// Writes the local and the remote address. IPv4 goes into the first word; the others are 0.
    ///
    /// # Safety
    /// Both must have room for an address.
    #[inline(always)]
    pub unsafe fn addresses(self, family: u16, local: *mut [u32; 4], remote: *mut [u32; 4]) {
        // SAFETY: the caller's promise. Offsets of __be32 and in6_addr members of struct sock_common.
        unsafe {
            if family == AF_INET {
                local.write([load(self.0, offset!(local_v4)).unwrap_or(0), 0, 0, 0]);
                remote.write([load(self.0, offset!(remote_v4)).unwrap_or(0), 0, 0, 0]);
            } else {
                self.v6(offset!(local_v6), local);
                self.v6(offset!(remote_v6), remote);
            }
        }
    }

    /// # Safety
    /// `offset` must be that of an in6_addr, or MISSING, and `into` must have room for one.
    #[inline(always)]
    unsafe fn v6(self, offset: u32, into: *mut [u32; 4]) {
        for i in 0..4 {
            let at = if offset == MISSING { MISSING } else { offset + 4 * i };
            // SAFETY: the caller's promise. An in6_addr is four words.
            unsafe { into.cast::<u32>().add(i as usize).write(load(self.0, at).unwrap_or(0)) };
        }
    }

    /// `None` if this is not a TCP socket, or if this kernel lacks one of the members.
    #[inline(always)]
    pub fn sequences(self, fins: Fins) -> Option<Sequences> {
        let tcp = self.tcp()?;
        // SAFETY: offsets of u32 members of struct tcp_sock.
        let (write, copied, arrived): (u32, u32, u32) =
            unsafe { (load(tcp, offset!(write_seq))?, load(tcp, offset!(copied_seq))?, load(tcp, offset!(rcv_nxt))?) };
        // The peer's FIN is last, so it has been read when everything that arrived has been.
        let read = u32::from(fins.received && copied == arrived);
        Some(Sequences {
            write: write.wrapping_sub(u32::from(fins.sent)),
            copied: copied.wrapping_sub(read),
            arrived: arrived.wrapping_sub(u32::from(fins.received)),
        })
    }

    /// `None` if this is not a TCP socket, or if this kernel lacks one of the members.
    #[inline(always)]
    pub fn send_buffer(self) -> Option<SendBuffer> {
        let tcp = self.tcp()?;
        // SAFETY: offsets of members of struct tcp_sock, and of ints of the struct sock that it begins with.
        unsafe {
            Some(SendBuffer {
                next: load(tcp, offset!(write_seq))?,
                received: load(tcp, offset!(copied_seq))?,
                sent: load(tcp, offset!(bytes_sent))?,
                queued: load(tcp, offset!(write_memory))?,
                limit: load(tcp, offset!(send_buffer))?,
            })
        }
    }

    /// Whether a read that just returned `length` bytes returned the connection's first bytes.
    #[inline(always)]
    pub fn was_first_read(self, length: u32) -> bool {
        // A FIN counts as a received byte, and may have been read with the others.
        self.bytes_read().is_some_and(|read| read == u64::from(length) || read == u64::from(length) + 1)
    }

    /// Whether a write that just returned `length` bytes wrote the connection's first bytes, and none were read before.
    #[inline(always)]
    pub fn was_first_write(self, length: u32) -> bool {
        let Some(tcp) = self.tcp() else { return false };
        // SAFETY: as in `sequences`; bytes_sent is a u64.
        let (write, next, sent): (u32, u32, u64) = unsafe {
            let (Some(write), Some(next), Some(sent)) =
                (load(tcp, offset!(write_seq)), load(tcp, offset!(snd_nxt)), load(tcp, offset!(bytes_sent)))
            else {
                return false;
            };
            (write, next, sent)
        };
        // Bytes that were sent twice count twice.
        sent.wrapping_add(u64::from(write.wrapping_sub(next))) == u64::from(length) && self.bytes_read() == Some(0)
    }

    /// How many bytes were read from the connection. The peer's FIN may count as one.
    #[inline(always)]
    fn bytes_read(self) -> Option<u64> {
        let tcp = self.tcp()?;
        // SAFETY: as in `sequences`; bytes_received is a u64.
        unsafe {
            let unread = load::<u32>(tcp, offset!(rcv_nxt))?.wrapping_sub(load::<u32>(tcp, offset!(copied_seq))?);
            Some(load::<u64>(tcp, offset!(bytes_received))?.wrapping_sub(u64::from(unread)))
        }
    }

    #[inline(always)]
    pub fn unix(self) -> Option<UnixSock> {
        // SAFETY: the helper checks the socket's type.
        let unix: *const c_void = unsafe { bpf_skc_to_unix_sock(self.as_ptr()) }.cast();
        if unix.is_null() { None } else { Some(UnixSock(unix)) }
    }
}

/// The address of a socket. The socket may be freed by now, and its memory reused.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SockAddress(u64);

impl SockAddress {
    #[inline(always)]
    pub fn value(self) -> u64 {
        self.0
    }

    /// The address that [`value`](Self::value) returned.
    #[inline(always)]
    pub fn from_value(value: u64) -> Self {
        Self(value)
    }

    /// The socket's cookie, 0 if it has none yet.
    #[inline(always)]
    pub fn assigned_cookie(self) -> u64 {
        self.read(offset!(sock_cookie)).unwrap_or(0)
    }

    /// As [`Sock::is_orphan`].
    #[inline(always)]
    pub fn is_orphan(self) -> bool {
        self.read::<u64>(offset!(sock_socket)) == Some(0)
    }

    /// Whether a TCP connection has sent nothing, and has received what a read of `length` bytes returned and no more.
    #[inline(always)]
    pub fn has_only_received(self, length: u32) -> bool {
        let (sent, received) = (self.read::<u64>(offset!(bytes_sent)), self.read::<u64>(offset!(bytes_received)));
        // A FIN counts as a received byte.
        let length = u64::from(length);
        sent == Some(0) && (received == Some(length) || received == Some(length + 1))
    }

    /// Whether it is still the socket with this cookie, and its connection can still be written to.
    #[inline(always)]
    pub fn is_connection(self, cookie: u64) -> bool {
        match (self.read::<u64>(offset!(sock_cookie)), self.read::<u8>(offset!(sock_state))) {
            (Some(found), Some(state)) => {
                found == cookie && matches!(state, tcp_state::ESTABLISHED | tcp_state::CLOSE_WAIT)
            }
            // This kernel lacks one of the members.
            _ => true,
        }
    }

    /// Whether an epoll set contains it, or a thread is waiting for it now.
    #[inline(always)]
    pub fn is_waited_for(self) -> bool {
        let Some(queue) = self.read::<u64>(offset!(sock_queue)) else { return true };
        let waiters = offset!(queue_waiters);
        if queue == 0 || waiters == MISSING {
            return queue != 0;
        }
        // A list_head points to itself while the list is empty.
        let head = queue + u64::from(waiters);
        probe::<u64>(head).is_some_and(|first| first != head)
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> Option<T> {
        at(self.0, offset)
    }
}
