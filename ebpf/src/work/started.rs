//! Which goroutines a goroutine started for the request that it works on.
//!
//! A goroutine may read one request after another, and a goroutine that it started may be seen for the first time long after that.
//! Ids show which came first. Each processor (`p`) of Go's runtime takes ids in batches, and hands them out in order. So when a
//! goroutine reads a request, it is noted which ids are unused. While it reads, it starts none. What it starts later has one of
//! these ids, and what it had started before has another one.

use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;
use onlooker_common::limits::GO_PROCESSORS;
use onlooker_common::selection::SelectedProcess;
use onlooker_common::unit::{GOROUTINE, UnitKey, go};

use crate::maps::{NEW_STARTER, STARTERS};
use crate::selected::Selected;
use crate::state::goroutine::{SharedUnusedIds, UnusedIds};
use crate::user::{self, CONTINUE, LEAVE};

/// What the loop over the processors works on.
#[repr(C)]
struct Noting {
    /// The address of the array of pointers to processors, and the offset of `goidcache`, which `goidcacheend` follows.
    processors: u64,
    offset: u64,
    ids: *mut UnusedIds,
}

/// The goroutine `id` reads a request that it has not read from before. It must be running. A global function, which the verifier
/// checks once. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_unused_ids(process: *mut SelectedProcess, tgid: u32, id: u64) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(process) = (unsafe { Selected::new(process) }) else { return 0 };
    // SAFETY: a word of a live value of the map.
    let word = unsafe { (*process.unit_source(tgid)).words[go::PROCESSORS] };
    if word == 0 {
        return 0;
    }
    let key = UnitKey { tgid, kind: GOROUTINE, id };
    let Some(ids) = known_or_new(key) else { return 0 };
    ids.begin();
    let (slice, offset) = go::unpack_processors(word);
    // Its capacity: processors that are out of use keep their ids.
    let Some([processors, _, capacity]) = user::peek::<[u64; 3]>(slice) else { return 0 };
    if capacity > u64::from(GO_PROCESSORS) {
        return 0;
    }
    let mut noting = Noting { processors, offset, ids: ids.as_ptr() };
    // SAFETY: the callback takes the index and a Noting.
    unsafe { bpf_loop(capacity as u32, note_processor as *mut c_void, (&raw mut noting).cast(), 0) };
    ids.end();
    0
}

#[inline(always)]
fn known_or_new(key: UnitKey) -> Option<SharedUnusedIds> {
    let ids = match STARTERS.get_ptr_mut(key) {
        Some(ids) => ids,
        None => {
            // SAFETY: a live value, which no program writes. If the kernel has no room, it forgets another goroutine.
            let _ = unsafe { STARTERS.insert(key, &*NEW_STARTER.get_ptr(0)?, 0) };
            STARTERS.get_ptr_mut(key)?
        }
    };
    // SAFETY: a live value of the map.
    Some(unsafe { SharedUnusedIds::within(ids) })
}

extern "C" fn note_processor(index: u32, noting: *mut Noting) -> i64 {
    // SAFETY: called by `note_unused_ids` with its own struct.
    let (Noting { processors, offset, .. }, ids) = unsafe { (&*noting, SharedUnusedIds::within((*noting).ids)) };
    let batch = user::peek::<u64>(processors.wrapping_add(u64::from(index) * 8))
        .and_then(|processor| user::peek::<[u64; 2]>(processor.wrapping_add(*offset)));
    let Some([next, end]) = batch else {
        ids.fail();
        return LEAVE;
    };
    ids.add(index, next, end);
    CONTINUE
}

#[repr(C)]
struct Asking {
    ids: *mut UnusedIds,
    id: u64,
    found: u64,
}

/// Whether the goroutine `starter`, which started the goroutine `id`, did so after it had read the request that it works on. A
/// global function, which the verifier checks once. 0: that is not known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn started_since_request(tgid: u32, starter: u64, id: u64) -> u32 {
    let Some(ids) = STARTERS.get_ptr_mut(UnitKey { tgid, kind: GOROUTINE, id: starter }) else { return 0 };
    // SAFETY: a live value of the map.
    let from = unsafe { SharedUnusedIds::within(ids) }.from();
    if from == 0 {
        return 0;
    }
    if id >= from {
        return 1;
    }
    let mut asking = Asking { ids, id, found: 0 };
    // SAFETY: the callback takes the index and an Asking.
    unsafe { bpf_loop(GO_PROCESSORS, ask_processor as *mut c_void, (&raw mut asking).cast(), 0) };
    // SAFETY: a read of a local.
    (unsafe { (&raw const asking.found).read_volatile() }) as u32
}

extern "C" fn ask_processor(index: u32, asking: *mut Asking) -> i64 {
    // SAFETY: called by `started_since_request` with its own struct.
    let asking = unsafe { &mut *asking };
    // SAFETY: a live value of the map.
    if unsafe { SharedUnusedIds::within(asking.ids) }.has(index, asking.id) {
        asking.found = 1;
        return LEAVE;
    }
    CONTINUE
}
