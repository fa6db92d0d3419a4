//! What the kernel programs could not record, counted per CPU under these names.

macro_rules! losses {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+) => {
        /// Index of a counter in the `LOSSES` map.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Loss {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Loss {
            /// Name and help text of each counter, in the order of their index.
            pub const ALL: &'static [(&'static str, &'static str)] = &[$(($name, concat!($($help),+)),)+];
        }
    };
}

losses! {
    /// Socket operations dropped because the ring buffer was full.
    RingFullSegment = "kernel_ring_full_segments",
    /// Requests dropped because the ring buffer was full at their first operation. They have no span.
    RingFullRequest = "kernel_ring_full_requests",
    /// Connection changes dropped because the ring buffer was full.
    RingFullConnection = "kernel_ring_full_connections",
    /// Process changes dropped because the ring buffer was full.
    RingFullProcess = "kernel_ring_full_processes",
    /// Socket operations dropped because the kernel could not allocate storage for the socket.
    NoSocketStorage = "kernel_no_socket_storage",
    /// Socket operations recorded without an owner because the kernel could not allocate storage for the thread.
    NoTaskStorage = "kernel_no_task_storage",
    /// Captures that failed because the process's memory could not be read.
    UserReadFailed = "kernel_user_reads_failed",
    /// Socket operations recorded without their unit of work because the process's memory could not be read.
    UnitUnread = "kernel_units_unread",
    /// Socket operations of 32-bit system calls. Only their length is recorded.
    CompatSyscall = "kernel_compat_syscalls",
    /// Socket operations whose system call does not show the bytes (sendfile, splice, io_uring). Only their length is recorded.
    LengthOnly = "kernel_length_only_operations",
    /// Times that HTTP/2 frames could not be followed any further: bytes that show a frame's length were not seen. What follows is
    /// captured as on any connection.
    FramesLost = "kernel_http2_frames_lost",
    /// Reads and writes of plaintext dropped because the function was found by its code, and no socket proved yet that it is the right one.
    PlaintextUnproven = "kernel_plaintext_unproven",
    /// Reads of plaintext by rustls dropped because the connection that they belong to was not found.
    PlaintextUnlinked = "kernel_plaintext_unlinked",
    /// MPTCP connections whose first byte was not seen. Their two ends on this host are not joined.
    MptcpUnplaced = "kernel_mptcp_connections_unplaced",
    /// Messages of sendmmsg and recvmmsg. Only their length is recorded.
    MultipleMessages = "kernel_multiple_messages",
    /// Processes not selected because the table of processes was full: children of selected ones, or members of selected cgroups.
    ProcessesFull = "kernel_processes_full",
    /// Requests whose calls could not be tracked because the table of requests was full.
    RequestsFull = "kernel_requests_full",
    /// Requests to which a `traceparent` was added.
    TraceparentAdded = "kernel_traceparent_added",
    /// Requests without an added `traceparent` because they have their own.
    TraceparentOwn = "kernel_traceparent_own",
    /// Requests without an added `traceparent` because the send buffer or the kernel's memory had no room.
    TraceparentNoRoom = "kernel_traceparent_no_room",
    /// Connections without an added `traceparent` because they do not begin with a request of HTTP/1, or it could not be followed.
    TraceparentOpaque = "kernel_traceparent_opaque",
    /// Requests without an added `traceparent` because their header block is too big, or so near to a multiple of 4 KiB that a server may refuse more.
    TraceparentTooBig = "kernel_traceparent_too_big",
    /// Requests without an added `traceparent` because their trace is not known to the kernel programs: the request that they are made for came
    /// over HTTP/2, TLS or a unix socket, and without a `traceparent` that could be read.
    TraceparentUnknown = "kernel_traceparent_unknown_trace",
    /// Requests without an added `traceparent` because an earlier one on their connection has no response yet.
    TraceparentPipelined = "kernel_traceparent_pipelined",
    /// Connections without an added `traceparent` because their destination is not allowed.
    TraceparentDenied = "kernel_traceparent_denied",
    /// Connections without an added `traceparent` because the rule of their process says so, or was not looked up yet.
    TraceparentOff = "kernel_traceparent_off",
    /// Connections without an added `traceparent` because the socket is used by another program of this kind, or a table was full.
    TraceparentBusy = "kernel_traceparent_busy",
}
