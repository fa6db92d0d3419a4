//! Per-process and per-request state that kernel and agent share through maps.

/// Bits of [`SelectedProcess::flags`].
pub mod process_flag {
    /// The thread is not the unit of its work: an event loop, or a scheduler of its own (Go, BEAM).
    pub const LOOP: u64 = 1;
    /// Keeps no queue for its connection pool: the tick is proof enough (nginx).
    pub const NO_QUEUE: u64 = 1 << 1;
    /// Makes calls of its own, seen by the kernel.
    pub const CALLS: u64 = 1 << 2;
    /// Multiplexes its work over threads: not even the turn of a thread says whose work is done (Go, BEAM).
    pub const SCHEDULER: u64 = 1 << 3;
    /// Selected by the agent, in whose census it counts.
    pub const BY_AGENT: u64 = 1 << 4;
    /// The count of its requests in flight has gone wrong: a tick proves nothing any more.
    pub const MISCOUNTED: u64 = 1 << 5;
}

/// A selected process: the value of the PROCESSES map, keyed by tgid. The agent inserts and removes it; the kernel
/// inserts it for the children of selected ones.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelectedProcess {
    pub flags: u64,
    /// Requests in flight that wait for no answer: more than one means that a tick proves nothing.
    pub runnable: i64,
    /// Bytes kept per run on the request and on the response side.
    pub request_capture: u32,
    pub response_capture: u32,
}

/// Its place in the census: the processes that share one are told apart in PROCESSES.
#[must_use]
pub const fn census_place(tgid: u32) -> u32 {
    tgid & (crate::limits::CENSUS - 1)
}

/// The calls of the request on a server connection of an event loop: the value of the WAITING map, keyed by cookie.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Position of the request this is about.
    pub position: u64,
    /// Its calls that have no answer yet.
    pub calls: i64,
    /// 1 once its own answer has begun: it is no candidate any more.
    pub answered: u64,
}

/// How a process is selected that the kernel finds by its cgroup: the value of the CGROUPS map, keyed by cgroup id.
pub type SelectedCgroup = Capture;

/// Key of the LISTENERS map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Listener {
    pub network_namespace: u32,
    /// Host byte order.
    pub port: u32,
}

/// Bits of the ANY_RAISED word: which of the maps holds anything.
pub mod raised {
    pub const CONNECTIONS: u32 = 1;
    pub const PROCESSES: u32 = 1 << 1;
}

/// Value of the RAISED maps, keyed by cookie and by tgid: bytes kept per run.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    pub request: u32,
    pub response: u32,
}

const _: () = assert!(size_of::<SelectedProcess>() == 24);
const _: () = assert!(size_of::<Waiting>() == 24);
const _: () = assert!(size_of::<Listener>() == 8);
const _: () = assert!(size_of::<Capture>() == 8);
