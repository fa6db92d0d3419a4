//! Every map and global of the kernel side.

use aya_ebpf::bindings::{
    BPF_F_CLONE, BPF_F_NO_PREALLOC,
    bpf_map_type::{BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE},
};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use core::ptr;
use onlooker_common::limits;
use onlooker_common::loss::Loss;
use onlooker_common::offsets::Offsets;
use onlooker_common::process::{Capture, Listener, SelectedCgroup, SelectedProcess, Waiting};

use crate::connection::ConnectionState;
use crate::context::ThreadState;

/// The way to the agent.
#[btf_map]
pub static EVENTS: RingBuf<u64, { limits::RING_BYTES as usize }> = RingBuf::new();

/// How many processes are selected of each of the places that they share: the first thing that every program asks, because
/// nearly always the answer is none, and it costs a tenth of looking for one. Each map has one writer: what the kernel
/// side selected is in the first, what the agent did in the second.
#[btf_map]
pub static CENSUS: Array<i64, { limits::CENSUS as usize }> = Array::new();
#[btf_map]
pub static AGENTS_CENSUS: Array<i64, { limits::CENSUS as usize }> = Array::new();

/// Selected processes by tgid.
#[btf_map]
pub static PROCESSES: HashMap<u32, SelectedProcess, { limits::PROCESSES as usize }> = HashMap::new();

/// Selected cgroups by id: what executes in one, or is moved into one, is selected at once.
#[btf_map]
pub static CGROUPS: HashMap<u64, SelectedCgroup, { limits::CGROUPS as usize }> = HashMap::new();

/// TCP ports that were listened on when the agent came.
#[btf_map]
pub static LISTENERS: HashMap<Listener, u32, { limits::LISTENERS as usize }> = HashMap::new();

/// Calls in flight by the server connection whose request made them, in event loops. What is forgotten here makes a count go
/// wrong by which nothing is proven then.
#[btf_map]
pub static WAITING: LruHashMap<u64, Waiting, { limits::REQUESTS as usize }> = LruHashMap::new();

/// By server connection, the position up to which every request is complete. Written by the agent only.
#[btf_map]
pub static COMPLETED: HashMap<u64, u64, { limits::REQUESTS as usize }> = HashMap::new();

/// Connections of which the agent wants more bytes.
#[btf_map]
pub static RAISED: HashMap<u64, Capture, { limits::RAISED as usize }> = HashMap::new();

/// One word: whether there are any such connections. Where there are none, nobody looks for one.
#[btf_map]
pub static ANY_RAISED: Array<u32, 1> = Array::new();

/// What could not be done, by `Loss`.
#[btf_map]
pub static LOSSES: PerCpuArray<u64, { Loss::ALL.len() }> = PerCpuArray::new();

/// One word, of `common::agent`: what the agent is doing.
#[btf_map]
pub static AGENT: Array<u32, 1> = Array::new();

/// A local-storage map: its values live and die with the kernel object they belong to.
#[repr(C)]
pub struct LocalStorage<V, const TYPE: usize, const FLAGS: usize> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const V,
    map_flags: *const [i32; FLAGS],
    max_entries: *const [i32; 0],
}

// SAFETY: the pointers are never followed; they spell the map's type for the BTF.
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

/// State of a socket. Cloned from a listening socket to what it accepts, which is how a server's end is known.
#[btf_map]
pub static CONNECTIONS: LocalStorage<
    ConnectionState,
    { BPF_MAP_TYPE_SK_STORAGE as usize },
    { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize },
> = LocalStorage::new();

/// State of a thread.
#[btf_map]
pub static THREADS: LocalStorage<ThreadState, { BPF_MAP_TYPE_TASK_STORAGE as usize }, { BPF_F_NO_PREALLOC as usize }> =
    LocalStorage::new();

/// Where this kernel keeps what is read: written before load.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::MISSING;

/// Bytes that may wait in the ring before the agent is woken.
#[unsafe(no_mangle)]
static WAKE_BYTES: u64 = 256 << 10;

/// Reads a global so that the compiler can't know its value and the verifier does.
#[inline(always)]
pub fn constant<T: Copy>(of: *const T) -> T {
    // SAFETY: called with the address of a static of this object; volatile because the loader writes it later.
    unsafe { ptr::read_volatile(of) }
}

/// One of the `OFFSETS`.
macro_rules! offset {
    ($field:ident) => {
        crate::maps::constant(&raw const crate::maps::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// Bytes that may wait in the ring before the agent is woken.
#[inline(always)]
pub fn wake_bytes() -> u64 {
    constant(&raw const WAKE_BYTES)
}

/// Whether the agent wants more bytes of any connection.
#[inline(always)]
pub fn any_raised() -> bool {
    // SAFETY: a word of the map, which the agent changes.
    ANY_RAISED.get_ptr(0).is_some_and(|any| unsafe { ptr::read_volatile(any) != 0 })
}

/// Counts one `loss` on this CPU.
#[inline(always)]
pub fn count(loss: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        // SAFETY: a per-CPU slot of the map, and programs don't migrate while they run.
        unsafe { *counter += 1 };
    }
}
