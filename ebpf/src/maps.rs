//! Every map.

use aya_ebpf::bindings::{
    BPF_F_CLONE, BPF_F_NO_PREALLOC,
    bpf_map_type::{BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE},
};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockHash};
use aya_ebpf::macros::btf_map;
use core::ptr;
use onlooker_common::async_ids;
use onlooker_common::capture::Capture;
use onlooker_common::frames::Confirmed;
use onlooker_common::injection::{DESTINATIONS as DESTINATION_RULES, Destination, Numbers, Received, Sent, TraceState};
use onlooker_common::limits;
use onlooker_common::losses::Loss;
use onlooker_common::owner::Owner;
use onlooker_common::selection::{
    Executable, Interest, ListeningPort, ProgramName, SelectedCgroup, SelectedProcess, Waiting,
};
use onlooker_common::unit::{Descriptor, StreamKey, UnitKey, UnitSource};

use crate::state::connection::{ConnectionState, Handshake};
use crate::state::event_loop::Interval;
use crate::state::goroutine::UnusedIds;
use crate::state::injection::InjectionState;
use crate::state::thread::ThreadState;
use crate::state::tls::{CallState, ObjectKey, PlaintextState, Tag, Writer};

/// Memory for an entry is allocated when the agent inserts it: for large maps that have few entries, and that programs only
/// read. Otherwise making the map takes milliseconds.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// The ring buffer of records for the agent.
#[btf_map]
pub static EVENTS: RingBuf<u64, { limits::RING_BYTES as usize }> = RingBuf::new();

/// How many selected processes share each census slot. Every program reads this first: nearly always the count is 0, and
/// reading it costs a tenth of a hash lookup. Each map has one writer: `CENSUS` counts the processes that the kernel
/// programs selected, `AGENTS_CENSUS` those that the agent selected.
#[btf_map]
pub static CENSUS: Array<i64, { limits::CENSUS as usize }> = Array::new();
#[btf_map]
pub static AGENTS_CENSUS: Array<i64, { limits::CENSUS as usize }> = Array::new();

/// Selected processes by tgid.
#[btf_map]
pub static PROCESSES: HashMap<u32, SelectedProcess, { limits::PROCESSES as usize }> = HashMap::new();

/// Selected cgroups by id. A process that executes in one, or is moved into one, is selected at once.
#[btf_map]
pub static CGROUPS: HashMap<u64, SelectedCgroup, { limits::CGROUPS as usize }> = HashMap::new();

/// Beginnings of the names of programs that may be selected.
#[btf_map]
pub static NAMES: LpmTrie<ProgramName, u32, { limits::NAMES as usize }> = LpmTrie::new();

/// What the agent needs to know of processes that are not selected.
#[btf_map]
pub static INTEREST: Array<Interest, 1> = Array::new();

/// Whether executables are selected: values of `common::selection::verdict`. Only the agent writes it.
#[btf_map]
pub static VERDICTS: LruHashMap<Executable, u32, { limits::VERDICTS as usize }> = LruHashMap::new();

/// A bit for each selected port.
#[btf_map]
pub static PORTS: Array<u64, { limits::PORT_WORDS as usize }> = Array::new();

/// TCP ports that were listened on before the agent started. Only the agent writes it.
#[btf_map]
pub static LISTENERS: HashMap<ListeningPort, u32, { limits::LISTENERS as usize }, ON_DEMAND> = HashMap::new();

/// Calls in flight of the requests of event loops, by the request's connection. If an entry is evicted, the process's count
/// of runnable requests is wrong, and the process is marked as miscounted.
#[btf_map]
pub static WAITING: LruHashMap<u64, Waiting, { limits::REQUESTS as usize }> = LruHashMap::new();

/// By server connection, the position up to which every request is complete. Only the agent writes it.
#[btf_map]
pub static COMPLETED: HashMap<u64, u64, { limits::REQUESTS as usize }, ON_DEMAND> = HashMap::new();

/// How units of work are read, by tgid. The agent adds entries; the kernel programs remove those of processes that ended or
/// execute another program.
#[btf_map]
pub static UNIT_SOURCES: HashMap<u32, UnitSource, { limits::UNIT_SOURCES as usize }> = HashMap::new();

/// One word. The agent changes it after it changed `UNIT_SOURCES`.
#[btf_map]
pub static UNIT_GENERATION: Array<u32, 1> = Array::new();

/// The request that a unit of work works on.
#[btf_map]
pub static UNITS: LruHashMap<UnitKey, Owner, { limits::UNITS as usize }> = LruHashMap::new();

/// Goroutines that read requests, with the ids that no goroutine had then.
#[btf_map]
pub static STARTERS: LruHashMap<UnitKey, UnusedIds, { limits::STARTERS as usize }> = LruHashMap::new();

/// A goroutine about which nothing is known. No program writes it: it is copied into `STARTERS`.
#[btf_map]
pub static NEW_STARTER: Array<UnusedIds, 1> = Array::new();

/// The owner of the next call on a connection, which another unit of work will send.
#[btf_map]
pub static ANNOUNCED_CALLS: LruHashMap<Descriptor, Owner, { limits::ANNOUNCED_CALLS as usize }> = LruHashMap::new();

/// Requests over HTTP/2, of servers of Go and Node, whose handlers have not begun, and the owners of calls that are about to be sent.
#[btf_map]
pub static STREAMS: LruHashMap<StreamKey, Owner, { limits::STREAMS as usize }> = LruHashMap::new();

/// Which request the async ids of each event loop of Node belong to: a ring of intervals per loop.
#[btf_map]
pub static INTERVALS: Array<Interval, { (limits::EVENT_LOOPS * async_ids::INTERVALS) as usize }> = Array::new();

/// Objects of TLS libraries, with their plaintext streams.
#[btf_map]
pub static TLS_OBJECTS: LruHashMap<ObjectKey, PlaintextState, { limits::TLS_OBJECTS as usize }> = LruHashMap::new();

/// The calls of Go's crypto/tls that goroutines are in, each with the call around it. A goroutine is named by the address of its `g`.
#[btf_map]
pub static TLS_GOROUTINES: LruHashMap<ObjectKey, [CallState; 2], { limits::TLS_GOROUTINES as usize }> =
    LruHashMap::new();

/// A goroutine that is in no call. No program writes it: it is copied into `TLS_GOROUTINES`.
#[btf_map]
pub static TLS_NEW_GOROUTINE: Array<[CallState; 2], 1> = Array::new();

/// An object about which nothing is known. No program writes it: it is copied into `TLS_OBJECTS`.
#[btf_map]
pub static TLS_NEW_OBJECT: Array<PlaintextState, 1> = Array::new();

/// One word: how many objects of TLS libraries there have been.
#[btf_map]
pub static TLS_GENERATION: Array<i64, 1> = Array::new();

/// The decrypters of rustls, each with the encrypter of its connection.
#[btf_map]
pub static TLS_DECRYPTERS: LruHashMap<ObjectKey, u64, { limits::TLS_OBJECTS as usize }> = LruHashMap::new();

/// Records that TLS libraries wrote to memory, by how they end.
#[btf_map]
pub static TLS_TAGS: LruHashMap<Tag, Writer, { limits::TLS_TAGS as usize }> = LruHashMap::new();

/// MPTCP connections that are established and have not been used yet, by the address of the process's socket. Each
/// handshake replaces an entry that an earlier socket at the same address left.
#[btf_map]
pub static MPTCP_HANDSHAKES: LruHashMap<u64, Handshake, { limits::MPTCP_HANDSHAKES as usize }> = LruHashMap::new();

/// Connections whose capture is limited, by cookie. Only the agent writes it.
#[btf_map]
pub static LIMITED: HashMap<u64, Capture, { limits::LIMITED as usize }, ON_DEMAND> = HashMap::new();

/// Connections on which the agent recognised HTTP/2, by cookie: where frames begin. Only the agent writes it.
#[btf_map]
pub static FRAMES: HashMap<u64, Confirmed, { limits::FRAMES as usize }, ON_DEMAND> = HashMap::new();

/// Processes with longer header blocks than usual, by tgid.
#[btf_map]
pub static RAISED_PROCESSES: HashMap<u32, Capture, { limits::RAISED_PROCESSES as usize }> = HashMap::new();

/// One word, bits of `common::capture::any`: which of the two tables has entries. An empty table is not read.
#[btf_map]
pub static ANY_CAPTURE: Array<u32, 1> = Array::new();

/// Client connections whose first request has not gone, by cookie.
#[btf_map]
pub static ENROLLED: SockHash<u64, { limits::ENROLLED as usize }> = SockHash::new();

/// The trace of the request that was read last on each server connection, by its cookie.
#[btf_map]
pub static RECEIVED: LruHashMap<u64, Received, { limits::TRACES as usize }> = LruHashMap::new();

/// The traces of requests that were sent on this host.
#[btf_map]
pub static SENT: LruHashMap<Numbers, Sent, { limits::TRACES as usize }> = LruHashMap::new();

/// The `tracestate` of the request that was read last on each server connection, by its cookie.
#[btf_map]
pub static STATES: LruHashMap<u64, TraceState, { limits::STATES as usize }> = LruHashMap::new();

/// A request without one. No program writes it: it is copied into `STATES`.
#[btf_map]
pub static NEW_STATE: Array<TraceState, 1> = Array::new();

/// Where requests get a trace context. Only the agent writes it.
#[btf_map]
pub static DESTINATIONS: Array<Destination, { DESTINATION_RULES }> = Array::new();

/// Counters by `Loss`.
#[btf_map]
pub static LOSSES: PerCpuArray<u64, { Loss::ALL.len() }> = PerCpuArray::new();

/// One word of `common::reader`: the state of the agent's ring reader.
#[btf_map]
pub static READER: Array<u32, 1> = Array::new();

/// A local-storage map: the kernel frees each value with the object it belongs to.
#[repr(C)]
pub struct LocalStorage<V, const TYPE: usize, const FLAGS: usize> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const V,
    map_flags: *const [i32; FLAGS],
    max_entries: *const [i32; 0],
}

// SAFETY: the pointers are never followed; they describe the map's type in BTF.
unsafe impl<V, const TYPE: usize, const FLAGS: usize> Sync for LocalStorage<V, TYPE, FLAGS> {}

impl<V, const TYPE: usize, const FLAGS: usize> LocalStorage<V, TYPE, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            map_flags: ptr::null(),
            max_entries: ptr::null(),
        }
    }

    #[inline(always)]
    pub fn as_ptr(&'static self) -> *mut core::ffi::c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}

/// State of a socket. An accepted socket gets a copy of its listener's, which is how a server is recognised.
#[btf_map]
pub static CONNECTIONS: LocalStorage<
    ConnectionState,
    { BPF_MAP_TYPE_SK_STORAGE as usize },
    { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize },
> = LocalStorage::new();

/// What is known of an enrolled connection's first request.
#[btf_map]
pub static INJECTIONS: LocalStorage<
    InjectionState,
    { BPF_MAP_TYPE_SK_STORAGE as usize },
    { BPF_F_NO_PREALLOC as usize },
> = LocalStorage::new();

/// State of a thread.
#[btf_map]
pub static THREADS: LocalStorage<ThreadState, { BPF_MAP_TYPE_TASK_STORAGE as usize }, { BPF_F_NO_PREALLOC as usize }> =
    LocalStorage::new();

/// Which tables of captures have entries: bits of `common::capture::any`.
#[inline(always)]
pub fn any_capture() -> u32 {
    // SAFETY: a live word of the map, which the agent changes.
    ANY_CAPTURE.get_ptr(0).map_or(0, |any| unsafe { ptr::read_volatile(any) })
}

/// Changes whenever `UNIT_SOURCES` has changed.
#[inline(always)]
pub fn unit_generation() -> u32 {
    // SAFETY: a live word of the map, which the agent changes.
    UNIT_GENERATION.get_ptr(0).map_or(0, |generation| unsafe { ptr::read_volatile(generation) })
}

/// What the agent needs to know of processes: bits of `common::selection::interest`.
#[inline(always)]
pub fn interests() -> u32 {
    // SAFETY: a live word of the map, which the agent changes.
    INTEREST.get_ptr(0).map_or(0, |interest| unsafe { ptr::read_volatile(&raw const (*interest).what) })
}

/// Counts one `loss` on this CPU.
#[inline(always)]
pub fn count(loss: Loss) {
    count_many(loss, 1);
}

/// Counts `times` losses on this CPU.
#[inline(always)]
pub fn count_many(loss: Loss, times: u64) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        // SAFETY: a per-CPU slot of the map, and programs do not migrate while they run.
        unsafe { *counter += times };
    }
}
