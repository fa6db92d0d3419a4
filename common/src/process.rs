//! Changes of a process.

use crate::selection::Executable;

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
    /// A process called execve, and the agent has to decide whether it is selected. Only in an [`Execution`](super::Execution).
    pub const EXEC_UNDECIDED: u32 = 7;
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

/// How much of the path is recorded that execve was given, with the NUL at its end.
pub const EXECUTED_PATH_BYTES: usize = 128;

/// A process executed a program, and the agent has to decide whether it is selected.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Execution {
    /// Its kind is [`kind::EXECUTION`](crate::kind::EXECUTION), and its change `EXEC_UNDECIDED`.
    pub change: ProcessChange,
    pub executable: Executable,
    /// The path that execve was given, as far as there is room.
    pub path: [u8; EXECUTED_PATH_BYTES],
}

const _: () = assert!(size_of::<ProcessChange>() == 40);
const _: () = assert!(size_of::<Execution>() == 192);
