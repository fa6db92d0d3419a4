//! The only reader of kernel memory.
//!
//! Members of typed kernel pointers are loaded directly at offsets that the verifier knows and checks: such a load
//! can't fault, and needs no helper. Where a member is missing on this kernel, the load is not made.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock,
    bpf_task_pt_regs,
};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::bindings::{pt_regs, task_struct};
use onlooker_common::event::UNIX_PATH_BYTES;
use onlooker_common::offsets::MISSING;

use crate::maps::offset;

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
const SOCK_STREAM: u16 = 1;
/// include/linux/sched.h: a worker that runs in a process's name (`io_uring`).
const PF_IO_WORKER: u32 = 0x0000_0010;
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

/// Loads a member of a typed kernel struct.
///
/// # Safety
/// `object` must be a pointer the verifier knows the type of, and `offset` that of a member of type `T`, or MISSING.
#[inline(always)]
unsafe fn member<T: Copy>(object: *const c_void, offset: u32) -> Option<T> {
    if offset == MISSING {
        return None;
    }
    // SAFETY: the caller's promise, and the verifier's check.
    Some(unsafe { ptr::read_volatile(object.cast::<u8>().add(offset as usize).cast::<T>()) })
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

/// Reads kernel memory that may be anybody's.
#[inline(always)]
fn read<T: Copy>(at: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: writes all of a local, whatever it answers: a plain word, of which any is a value.
    unsafe {
        let failed = bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at as *const c_void);
        let value = value.assume_init();
        if failed == 0 { Some(value) } else { None }
    }
}

/// A unix socket.
#[derive(Clone, Copy)]
pub struct UnixSock(*const c_void);

impl UnixSock {
    /// The address it is bound to, if any: accepted sockets share their listener's.
    #[inline(always)]
    pub fn address(self) -> Option<UnixAddress> {
        // SAFETY: offset of a pointer to struct unix_address.
        let address = unsafe { member::<*const c_void>(self.0, offset!(unix_address)) }?;
        if address.is_null() { None } else { Some(UnixAddress(address)) }
    }

    #[inline(always)]
    pub fn peer(self) -> Option<Self> {
        // SAFETY: offset of a pointer to struct sock, which begins a struct unix_sock.
        let peer = unsafe { member::<*const c_void>(self.0, offset!(unix_peer)) }?;
        if peer.is_null() { None } else { Some(Self(peer)) }
    }

    /// The peer's address, for a client.
    #[inline(always)]
    pub fn peer_address(self) -> Option<UnixAddress> {
        let peer = self.peer()?;
        let field = offset!(unix_address);
        if field == MISSING {
            return None;
        }
        // `peer` is typed as a plain sock, whose type does not reach as far as the unix_sock's members.
        let mut address: *const c_void = ptr::null();
        // SAFETY: reads one pointer of kernel memory into a local of that size; a bad address is an error.
        let read = unsafe {
            bpf_probe_read_kernel(
                (&raw mut address).cast(),
                8,
                peer.0.cast::<u8>().add(field as usize).cast_mut().cast(),
            )
        };
        if read != 0 || address.is_null() { None } else { Some(UnixAddress(address)) }
    }

    /// The cookie of the socket, 0 if it has been given none yet.
    #[inline(always)]
    pub fn assigned_cookie(self) -> u64 {
        // SAFETY: skc_cookie is an atomic64_t of struct sock_common.
        unsafe { member(self.0, offset!(sock_cookie)) }.unwrap_or(0)
    }
}

/// A `struct unix_address`.
#[derive(Clone, Copy)]
pub struct UnixAddress(*const c_void);

impl UnixAddress {
    /// Writes the path (`sun_path`) and gives its length.
    #[inline(always)]
    pub fn path(self, into: &mut [u8; UNIX_PATH_BYTES]) -> u32 {
        let (length_at, name_at) = (offset!(unix_name_length), offset!(unix_name));
        if length_at == MISSING || name_at == MISSING {
            return 0;
        }
        /// sockaddr_un.sun_family comes before the path.
        const FAMILY_BYTES: u32 = 2;
        let mut length: u32 = 0;
        let base = self.0.cast::<u8>();
        // SAFETY: reads into locals of these sizes; the kernel's name buffer may be shorter than what is read, which
        // stays within its slab or is an error: only `length` bytes of it are used.
        unsafe {
            if bpf_probe_read_kernel((&raw mut length).cast(), 4, base.add(length_at as usize).cast_mut().cast()) != 0 {
                return 0;
            }
            let path = length.saturating_sub(FAMILY_BYTES);
            if path == 0 || path > UNIX_PATH_BYTES as u32 {
                return 0;
            }
            let path = path & 127;
            let from = base.add((name_at + FAMILY_BYTES) as usize).cast_mut().cast();
            if path > UNIX_PATH_BYTES as u32 || bpf_probe_read_kernel(into.as_mut_ptr().cast(), path, from) != 0 {
                return 0;
            }
            path
        }
    }
}

/// The running task.
#[derive(Clone, Copy)]
pub struct Task(*mut task_struct);

impl Task {
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: no arguments.
        Self(unsafe { bpf_get_current_task_btf() })
    }

    /// # Safety
    /// `task` must be a `struct task_struct *` argument of the running program.
    #[inline(always)]
    pub unsafe fn new(task: *const c_void) -> Self {
        Self(task.cast_mut().cast())
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut task_struct {
        self.0
    }

    /// The registers as they were when the task entered the kernel.
    #[inline(always)]
    pub fn registers(self) -> *const pt_regs {
        // SAFETY: the task is the current one.
        unsafe { bpf_task_pt_regs(self.0) as *const pt_regs }
    }

    /// Says on x86-64 what mode the system call was made in.
    #[inline(always)]
    pub fn thread_info_status(self) -> Option<u32> {
        // SAFETY: thread_info.status is a u32 of struct task_struct on x86-64.
        unsafe { member::<u32>(self.0.cast(), offset!(task_thread_info_status)) }
    }

    /// Whether this is an `io_uring` worker: its saved registers are those of a thread that was never in user mode.
    #[inline(always)]
    pub fn is_io_worker(self) -> bool {
        // SAFETY: flags is an unsigned int of struct task_struct.
        unsafe { member::<u32>(self.0.cast(), offset!(task_flags)) }.is_some_and(|flags| flags & PF_IO_WORKER != 0)
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        // SAFETY: a pid_t of struct task_struct.
        unsafe { member(self.0.cast(), offset!(task_tgid)) }.unwrap_or(0)
    }

    #[inline(always)]
    pub fn pid(self) -> u32 {
        // SAFETY: a pid_t of struct task_struct.
        unsafe { member(self.0.cast(), offset!(task_pid)) }.unwrap_or(0)
    }

    /// How many threads of the task's process are alive.
    #[inline(always)]
    pub fn live_threads(self) -> Option<u32> {
        // SAFETY: a pointer to struct signal_struct, and its atomic_t.
        unsafe {
            let signal = member::<*const c_void>(self.0.cast(), offset!(task_signal))?;
            member(signal, offset!(signal_live))
        }
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        let at = offset!(task_comm);
        let mut comm = [0; 16];
        if at != MISSING {
            // SAFETY: comm is an array of 16 bytes of struct task_struct.
            unsafe {
                bpf_probe_read_kernel(comm.as_mut_ptr().cast(), 16, self.0.cast::<u8>().add(at as usize).cast());
            }
        }
        comm
    }
}

/// A cgroup of the second hierarchy or the first.
#[derive(Clone, Copy)]
pub struct Cgroup(*const c_void);

impl Cgroup {
    /// # Safety
    /// `cgroup` must be a `struct cgroup *` argument of the running program.
    #[inline(always)]
    pub unsafe fn new(cgroup: *const c_void) -> Self {
        Self(cgroup)
    }

    /// The number that the file system shows as its folder's inode; `None` in the hierarchies of the first version, each of
    /// which has numbers of its own.
    #[inline(always)]
    pub fn id(self) -> Option<u64> {
        // SAFETY: pointers to struct cgroup_root and struct kernfs_node, an int and a u64 of theirs.
        unsafe {
            let root = member::<*const c_void>(self.0, offset!(cgroup_root))?;
            if member::<i32>(root, offset!(root_hierarchy))? != 0 {
                return None;
            }
            let node = member::<*const c_void>(self.0, offset!(cgroup_node))?;
            member(node, offset!(node_id))
        }
    }
}

/// How many bytes of a send are still to be taken.
///
/// # Safety
/// `message` must be a `struct msghdr *` argument of the running program.
#[inline(always)]
pub unsafe fn bytes_left(message: *const c_void) -> Option<u64> {
    // SAFETY: the caller's promise; msg_iter.count is a size_t.
    unsafe { member(message, offset!(message_left)) }
}
