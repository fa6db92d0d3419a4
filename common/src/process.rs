//! Changes of a process.

/// Values of [`ProcessChange::change`].
pub mod lifecycle {
    /// A process called execve. It is selected, or the selectors need to know it (`selection::interest`).
    pub const EXEC: u32 = 1;
    /// A selected process ended.
    pub const EXIT: u32 = 2;
    /// A selected process forked. `other` is the child, which is now selected too.
    pub const FORK: u32 = 3;
    /// A process began to listen on TCP port `other`. It is selected, or the selectors need to know it.
    pub const LISTEN: u32 = 4;
    /// A process was moved to another cgroup and is selected, perhaps because of that.
    pub const MOVED: u32 = 5;
    /// A selected process opened or used its first client connection.
    pub const CALLS: u32 = 6;
}

/// A process changed.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ProcessChange {
    pub kind: u32,
    /// One of the [`lifecycle`] constants.
    pub change: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    pub tgid: u32,
    pub other: u32,
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<ProcessChange>() == 40);
