//! Where the running kernel keeps what the programs read: filled from its BTF before load, frozen read-only then.

/// The value of a field that this kernel does not have. The verifier sees a constant and removes what needs it.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($field:ident: $strukt:literal . $member:literal => $needed_for:literal,)+) => {
        /// Byte offsets of kernel struct members.
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = concat!("`", $strukt, ".", $member, "`: ", $needed_for)] pub $field: u32,)+
        }

        impl Offsets {
            /// None known: what the object holds before it is loaded.
            pub const MISSING: Self = Self { $($field: MISSING,)+ };

            /// Looks each member up; gives the offsets and what is disabled for want of a member.
            #[cfg(feature = "decode")]
            pub fn resolve(
                mut find: impl FnMut(&'static str, &'static str) -> Option<u32>,
                mut missing: impl FnMut(&'static str, &'static str, &'static str),
            ) -> Self {
                let mut one = |strukt, member, needed_for| {
                    find(strukt, member).unwrap_or_else(|| { missing(strukt, member, needed_for); MISSING })
                };
                Self { $($field: one($strukt, $member, $needed_for),)+ }
            }
        }
    };
}

offsets! {
    sock_family: "sock_common"."skc_family" => "telling TCP from unix sockets",
    sock_protocol: "sock"."sk_protocol" => "telling TCP from unix sockets",
    sock_type: "sock"."sk_type" => "telling stream from datagram sockets",
    sock_socket: "sock"."sk_socket" => "leaving out what the kernel's own sockets carry",
    socket_file: "socket"."file" => "leaving out what the kernel's own sockets carry",
    sock_error: "sock"."sk_err" => "why a connection closed",
    sock_shutdown: "sock"."sk_shutdown" => "telling the peer's FIN from an empty read",
    sock_cookie: "sock_common"."skc_cookie" => "joining both ends of a unix socket",
    sock_state: "sock_common"."skc_state" => "knowing a connection's end",
    sock_queue: "sock"."sk_wq" => "telling an event loop from a thread that waits for events of its own",
    queue_waiters: "socket_wq"."wait.head" => "telling an event loop from a thread that waits for events of its own",
    sock_net: "sock_common"."skc_net" => "listening sockets per network namespace",
    net_inode: "net"."ns.inum" => "listening sockets per network namespace",
    local_port: "sock_common"."skc_num" => "addresses",
    former_local_port: "inet_sock"."inet_sport" => "addresses of connections that were reset",
    remote_port: "sock_common"."skc_dport" => "addresses",
    local_v4: "sock_common"."skc_rcv_saddr" => "addresses",
    remote_v4: "sock_common"."skc_daddr" => "addresses",
    local_v6: "sock_common"."skc_v6_rcv_saddr" => "IPv6 addresses",
    remote_v6: "sock_common"."skc_v6_daddr" => "IPv6 addresses",
    write_seq: "tcp_sock"."write_seq" => "exact stream positions",
    copied_seq: "tcp_sock"."copied_seq" => "exact stream positions",
    rcv_nxt: "tcp_sock"."rcv_nxt" => "knowing a connection's first byte",
    bytes_received: "tcp_sock"."bytes_received" => "knowing a connection's first byte",
    unix_address: "unix_sock"."addr" => "unix socket paths",
    unix_peer: "unix_sock"."peer" => "joining both ends of a unix socket",
    unix_name_length: "unix_address"."len" => "unix socket paths",
    unix_name: "unix_address"."name" => "unix socket paths",
    task_thread_info_status: "task_struct"."thread_info.status" => "telling 32-bit system calls",
    task_flags: "task_struct"."flags" => "telling kernel workers",
    task_pid: "task_struct"."pid" => "processes",
    task_tgid: "task_struct"."tgid" => "processes",
    task_signal: "task_struct"."signal" => "knowing a process's end",
    signal_live: "signal_struct"."live" => "knowing a process's end",
    message_left: "msghdr"."msg_iter.count" => "the beginning of sends that wait for room",
    cgroup_node: "cgroup"."kn" => "following a process into its cgroup at once",
    node_id: "kernfs_node"."id" => "following a process into its cgroup at once",
    cgroup_root: "cgroup"."root" => "telling the second cgroup hierarchy from others",
    root_hierarchy: "cgroup_root"."hierarchy_id" => "telling the second cgroup hierarchy from others",
    task_comm: "task_struct"."comm" => "process names",
}
