//! Byte offsets of the running kernel's struct members.
//!
//! The agent fills the table from the kernel's BTF before it loads the programs. The kernel then freezes it, so the
//! verifier sees constants.

/// The offset of a member that this kernel does not have. The verifier removes the code that would read it.
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
            /// The value in the object file: no offset is known.
            pub const MISSING: Self = Self { $($field: MISSING,)+ };

            /// Looks up each member with `find(struct, member)`.
            ///
            /// Calls `missing(struct, member, needed_for)` for each one that is not found.
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
    sock_family: "sock_common"."skc_family" => "distinguishing TCP from unix sockets",
    sock_protocol: "sock"."sk_protocol" => "distinguishing TCP from unix sockets",
    sock_type: "sock"."sk_type" => "distinguishing stream from datagram sockets",
    sock_socket: "sock"."sk_socket" => "ignoring the kernel's own sockets",
    socket_sock: "socket"."sk" => "unix sockets before Linux 6.3",
    socket_file: "socket"."file" => "ignoring the kernel's own sockets",
    sock_error: "sock"."sk_err" => "why a connection closed",
    sock_shutdown: "sock"."sk_shutdown" => "distinguishing the peer's FIN from an empty read",
    sock_cookie: "sock_common"."skc_cookie" => "joining both ends of a unix socket",
    sock_state: "sock_common"."skc_state" => "detecting a connection's end",
    sock_queue: "sock"."sk_wq" => "detecting event loops",
    queue_waiters: "socket_wq"."wait.head" => "detecting event loops",
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
    rcv_nxt: "tcp_sock"."rcv_nxt" => "detecting a connection's first byte",
    bytes_received: "tcp_sock"."bytes_received" => "detecting a connection's first byte",
    snd_nxt: "tcp_sock"."snd_nxt" => "detecting a connection's first byte",
    bytes_sent: "tcp_sock"."bytes_sent" => "detecting a connection's first byte",
    write_memory: "sock"."sk_wmem_queued" => "adding `traceparent` to requests",
    send_buffer: "sock"."sk_sndbuf" => "adding `traceparent` to requests",
    is_mptcp: "tcp_sock"."is_mptcp" => "MPTCP connections",
    subflow: "inet_connection_sock"."icsk_ulp_data" => "MPTCP connections",
    subflow_connection: "mptcp_subflow_context"."conn" => "MPTCP connections",
    unix_address: "unix_sock"."addr" => "unix socket paths",
    unix_peer: "unix_sock"."peer" => "joining both ends of a unix socket",
    unix_name_length: "unix_address"."len" => "unix socket paths",
    unix_name: "unix_address"."name" => "unix socket paths",
    task_thread_info_status: "task_struct"."thread_info.status" => "detecting 32-bit system calls",
    task_flags: "task_struct"."flags" => "detecting io_uring workers",
    task_pid: "task_struct"."pid" => "processes",
    task_tgid: "task_struct"."tgid" => "processes",
    task_thread_pointer: "task_struct"."thread.fsbase" => "units of work that thread-local storage names",
    task_signal: "task_struct"."signal" => "detecting a process's end",
    task_parent: "task_struct"."real_parent" => "children that a request waits for",
    task_state: "task_struct"."__state" => "children that a request waits for",
    task_pid_struct: "task_struct"."thread_pid" => "children that a request waits for",
    task_files: "task_struct"."files" => "children that a request waits for",
    files_table: "files_struct"."fdt" => "children that a request waits for",
    table_files: "fdtable"."fd" => "children that a request waits for",
    signal_waiters: "signal_struct"."wait_chldexit.head" => "children that a request waits for",
    waiter_entry: "wait_queue_entry"."entry" => "children that a request waits for",
    waiter_private: "wait_queue_entry"."private" => "children that a request waits for",
    wait_waiter: "wait_opts"."child_wait" => "children that a request waits for",
    wait_pid: "wait_opts"."wo_pid" => "children that a request waits for",
    poll_task: "poll_wqueues"."polling_task" => "children that a request waits for",
    inode_mode: "inode"."i_mode" => "children that a request waits for",
    inode_pipe: "inode"."i_pipe" => "children that a request waits for",
    pipe_readers: "pipe_inode_info"."rd_wait.head" => "children that a request waits for",
    signal_live: "signal_struct"."live" => "detecting a process's end",
    message_left: "msghdr"."msg_iter.count" => "start times of sends that wait for buffer space",
    cgroup_node: "cgroup"."kn" => "selecting a process as it enters a cgroup",
    node_id: "kernfs_node"."id" => "selecting a process as it enters a cgroup",
    cgroup_parent: "cgroup"."self.parent" => "selecting a process as it enters a cgroup below a selected one",
    css_cgroup: "cgroup_subsys_state"."cgroup" => "selecting a process as it enters a cgroup below a selected one",
    cgroup_root: "cgroup"."root" => "distinguishing cgroup v2 from v1",
    root_hierarchy: "cgroup_root"."hierarchy_id" => "distinguishing cgroup v2 from v1",
    task_comm: "task_struct"."comm" => "process names",
    bprm_file: "linux_binprm"."file" => "selecting a process by its executable as it starts",
    bprm_path: "linux_binprm"."filename" => "selecting a process by its executable as it starts",
    file_flags: "file"."f_flags" => "adding `traceparent` to later requests of a connection",
    file_inode: "file"."f_inode" => "selecting a process by its executable as it starts",
    inode_number: "inode"."i_ino" => "selecting a process by its executable as it starts",
    inode_super: "inode"."i_sb" => "selecting a process by its executable as it starts",
    super_device: "super_block"."s_dev" => "selecting a process by its executable as it starts",
    file_dentry: "file"."f_path.dentry" => "selecting a process by its executable as it starts",
    dentry_name: "dentry"."d_name.name" => "selecting a process by its executable as it starts",
}
