//! Tasks of tokio.

use onlooker_common::owner::{Owner, evidence};
use onlooker_common::unit::{self, UnitKey, UnitSource, tokio};

use crate::kernel::task::Task;
use crate::maps::UNITS;
use crate::state::owner::SharedOwner;
use crate::user;
use crate::work::waiting::is_open;

/// The id of the task that the thread runs. `None` if it runs none. Ids are never reused.
#[inline(always)]
pub fn read(source: *const UnitSource, task: Task) -> Option<[u64; 2]> {
    // SAFETY: a word of a live value of the map.
    let offset = unsafe { (*source).words[tokio::TASK_ID] };
    let id = user::word::<u64>(task.thread_pointer()?.wrapping_add(offset))?;
    if id == 0 { None } else { Some([id, 0]) }
}

/// A task reads a request: it works on that from now on. A task that reads another connection's request meanwhile works on
/// several in turn. It proves nothing from then on.
#[inline(always)]
pub fn works_on(tgid: u32, id: u64, request: SharedOwner) {
    task_works_on(tgid, id, request.as_ptr());
}

/// A global function, which the verifier checks once. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn task_works_on(tgid: u32, id: u64, request: *const Owner) -> u32 {
    if request.is_null() {
        return 0;
    }
    let key = UnitKey { tgid, kind: unit::TOKIO_TASK, id };
    let Some(known) = UNITS.get_ptr_mut(key) else {
        // Copied to the stack: Linux 6.1 accepts no memory of the caller as a map's value.
        // SAFETY: a live value of the caller. If the kernel has no room, it forgets another unit.
        let _ = unsafe { UNITS.insert(key, request.read(), 0) };
        return 0;
    };
    // SAFETY: a live value of the map, and one of the caller.
    let (known, request) = unsafe { (SharedOwner::within(known), SharedOwner::within(request.cast_mut())) };
    if known.evidence() == SEVERAL {
        return 0;
    }
    if known.cookie() != request.cookie() && is_open(known) {
        known.clear();
        known.set_evidence(SEVERAL);
    } else {
        known.copy(request);
    }
    0
}

/// The evidence of the owner of a task that works on several requests: the owner is unknown.
const SEVERAL: u32 = evidence::WAKE;
