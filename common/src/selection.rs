//! Selected processes, and the state that kernel and agent share about them through maps.

use crate::capture::Capture;
use crate::limits;
use crate::unit::UnitSource;

/// Bits of [`SelectedProcess::flags`].
pub mod process_flag {
    /// The thread is not the unit of work: an event loop, or a scheduler of the runtime's own (Go, BEAM).
    pub const LOOP: u64 = 1;
    /// The process has no queue for its connection pool, so the tick alone proves the owner (nginx).
    pub const NO_QUEUE: u64 = 1 << 1;
    /// The kernel programs saw the process make an outgoing call.
    pub const CALLS: u64 = 1 << 2;
    /// The runtime distributes its work over threads, so that even a thread's tick proves nothing (Go, BEAM, virtual threads). A
    /// thread that was read to run no other unit is an exception.
    pub const SCHEDULER: u64 = 1 << 3;
    /// The agent selected the process and counts it in its census.
    pub const BY_AGENT: u64 = 1 << 4;
    /// Selected by a port, and has not used a connection of a selected port yet. Its forks have the flag too.
    pub const PORT_HOLDER: u64 = 1 << 6;
    /// Executed a program as a `PORT_HOLDER`: perhaps the service that accepts on the port, perhaps another one. Nothing of it
    /// is recorded until it uses a connection of a selected port.
    pub const CANDIDATE: u64 = 1 << 7;
    /// The count of runnable requests is wrong, so that a tick proves nothing any more.
    pub const MISCOUNTED: u64 = 1 << 5;
    /// The process is recorded, within bounds, until the agent decides whether it is selected.
    pub const UNDECIDED: u64 = 1 << 8;
    /// The kernel programs have read a virtual thread of the process. What its threads seemed to prove until then does not
    /// count: a carrier reads several requests before it responds.
    pub const VIRTUAL_THREADS: u64 = 1 << 9;
    /// The process is a proxy: it passes requests on to other servers.
    pub const PROXY: u64 = 1 << 10;
    /// A process of the agent's own, in which it is tried to add `traceparent`. Nothing of it is recorded.
    pub const SELF_TEST: u64 = 1 << 11;
    /// A function of a TLS library was observed in the process.
    pub const TLS: u64 = 1 << 12;
    /// A TLS library of the process wrote records to memory. They may be sent later, outside of the library.
    pub const TLS_MEMORY: u64 = 1 << 13;
    /// The process uses Go's crypto/tls, whose calls belong to goroutines.
    pub const TLS_GOROUTINES: u64 = 1 << 14;
    /// The functions of a TLS library that were found by their code are the right ones: a socket carried what they encrypted.
    pub const TLS_PROVEN: u64 = 1 << 15;
    /// Connections of the process may stay enrolled after their first request: its runtime does not notice (docs/propagation.md).
    pub const STAYS_ENROLLED: u64 = 1 << 16;
    /// Requests on connections that the process opens from now on get no trace context: its rule says so, or was not looked up yet.
    pub const NOT_INJECTED: u64 = 1 << 17;
}

/// Bits of the one word of the `INTEREST` map: what the selectors need to know of processes.
pub mod interest {
    /// Every process that executes a program.
    pub const EXECS: u32 = 1;
    /// Processes that execute a program with a name of the `NAMES` map.
    pub const NAMES: u32 = 1 << 1;
    /// Processes in a cgroup of the `CGROUPS` map.
    pub const CGROUPS: u32 = 1 << 2;
    /// Every process that begins to listen on a TCP port.
    pub const LISTENERS: u32 = 1 << 3;
    /// Whether requests of a process get a trace context, which depends on its rule. Until the agent has looked that up, they get none.
    pub const INJECTION: u32 = 1 << 4;
}

/// Value of the `INTEREST` map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interest {
    /// Bits of [`interest`].
    pub what: u32,
    /// How much is captured of a process that is selected by its executable.
    pub capture: Capture,
}

/// Values of the `NAMES` map.
pub mod name {
    /// Programs with the name are reported.
    pub const REPORTED: u32 = 1;
    /// They are also recorded until it is decided whether they are selected.
    pub const RECORDED: u32 = 2;
}

/// An executed file and the path that it was executed by: key of the `VERDICTS` map.
///
/// Executable selectors match both the file's path and the path that was given, which may be that of a link or a script.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Executable {
    pub inode: u64,
    pub device: u64,
    pub path_hash: u64,
}

/// Values of the `VERDICTS` map.
pub mod verdict {
    pub const SELECTED: u32 = 1;
    pub const NOT_SELECTED: u32 = 2;
}

/// The beginning of a program's file name, as long as the kernel's name of a process: 15 bytes and a NUL, or a shorter name
/// padded with NUL. Key of the `NAMES` map.
pub type ProgramName = [u8; PROGRAM_NAME_BYTES];

/// `TASK_COMM_LEN` of include/linux/sched.h.
pub const PROGRAM_NAME_BYTES: usize = 16;

/// A selected process: value of the `PROCESSES` map, keyed by tgid.
///
/// The agent inserts and removes entries. The kernel programs insert the children of selected processes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelectedProcess {
    pub flags: u64,
    /// Requests in flight that do not wait for the answer to a call. Above 1, a tick proves nothing.
    pub runnable: i64,
    /// Bytes captured per run of long messages, on the request side and on the response side.
    pub request_capture: u32,
    pub response_capture: u32,
    /// While it is undecided: when recording stops (kernel monotonic), and how many more bytes may be recorded.
    pub undecided_until: u64,
    pub undecided_bytes: i64,
    /// How its unit of work is read. Only the kernel programs write it: they copy it from the `UNIT_SOURCES` map.
    pub unit: UnitSource,
}

/// The process's slot in the census. Processes that share a slot are distinguished by the `PROCESSES` map.
#[must_use]
pub const fn census_slot(tgid: u32) -> u32 {
    tgid & (limits::CENSUS - 1)
}

/// The calls of one request in an event loop: value of the `WAITING` map, keyed by the cookie of the request's connection.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Position of the request.
    pub position: u64,
    /// Calls of the request that have no answer yet.
    pub calls: i64,
    /// 1 once the request's own response has begun. From then on it is not runnable.
    pub answered: u64,
}

/// How much is captured of a process that is selected by its cgroup: value of the `CGROUPS` map, keyed by cgroup id.
pub type SelectedCgroup = Capture;

/// A TCP port that was listened on before the agent started: key of the `LISTENERS` map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ListeningPort {
    pub network_namespace: u32,
    /// Host byte order.
    pub port: u32,
}

const _: () = assert!(size_of::<SelectedProcess>() == 96);
const _: () = assert!(size_of::<Waiting>() == 24);
const _: () = assert!(size_of::<ListeningPort>() == 8);
