//! What the kernel programs could not do, counted per CPU under these names.

macro_rules! losses {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+) => {
        /// Index of a counter in the LOSSES map.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Loss {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Loss {
            /// Name and meaning of each counter, in the order of their index.
            pub const ALL: &'static [(&'static str, &'static str)] = &[$(($name, concat!($($help),+)),)+];
        }
    };
}

losses! {
    /// Operations that the ring had no room for.
    RingFullSegment = "kernel_ring_full_segments",
    /// Requests whose first operation the ring had no room for: they are nobody's span.
    RingFullRequest = "kernel_ring_full_requests",
    /// Connection changes that the ring had no room for.
    RingFullConnection = "kernel_ring_full_connections",
    /// Process changes that the ring had no room for.
    RingFullProcess = "kernel_ring_full_processes",
    /// Operations on a connection that could be given no storage.
    NoSocketStorage = "kernel_no_socket_storage",
    /// Operations by a thread that could be given no storage: they have no owner.
    NoTaskStorage = "kernel_no_task_storage",
    /// Captures that failed because the memory could not be read.
    UserReadFailed = "kernel_user_reads_failed",
    /// Operations of 32-bit system calls: length only.
    CompatSyscall = "kernel_compat_syscalls",
    /// Operations whose system call gives no bytes (sendfile, splice, io_uring, ...): length only.
    LengthOnly = "kernel_length_only_operations",
    /// Vectored operations of more buffers than are looked at: captured without their end.
    TooManyBuffers = "kernel_too_many_buffers",
    /// Messages of sendmmsg and recvmmsg: length only.
    MultipleMessages = "kernel_multiple_messages",
    /// Children of selected processes, or members of selected cgroups, that could not be selected.
    ProcessesFull = "kernel_processes_full",
    /// Requests whose calls could not be followed because the table was full.
    RequestsFull = "kernel_requests_full",
}
