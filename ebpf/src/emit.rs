//! The only writer to the ring.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use core::mem::MaybeUninit;
use core::ptr;
use onlooker_common::loss::Loss;

use crate::maps::{EVENTS, SLEEPING, count, wake_bytes};

/// Room for a `T` in the ring, or the `loss` counted.
#[inline(always)]
pub fn reserve<T: 'static>(loss: Loss) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve_untyped::<T>(0);
    if entry.is_none() {
        count(loss);
    }
    entry
}

/// Hands a filled record to the agent, and wakes it if it sleeps or falls behind: a wake-up costs more than a record.
#[inline(always)]
pub fn submit<T: 'static>(entry: RingBufEntry<T>) {
    let flags = if agent_needs_waking(size_of::<T>() as u64) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(flags));
}

#[inline(always)]
fn agent_needs_waking(record: u64) -> bool {
    if let Some(sleeping) = SLEEPING.get_ptr_mut(0) {
        // SAFETY: a word of the map; two records that both see it set wake the agent twice, which is harmless.
        unsafe {
            if ptr::read_volatile(sleeping) != 0 {
                ptr::write_volatile(sleeping, 0);
                return true;
            }
        }
    }
    // SAFETY: a query of our own ring.
    let waiting = unsafe { bpf_ringbuf_query(ptr::from_ref(&EVENTS).cast_mut().cast(), u64::from(BPF_RB_AVAIL_DATA)) };
    let threshold = wake_bytes();
    // Once, when the line is crossed: not again with every record while the agent is still on its way.
    waiting >= threshold && waiting < threshold + record + 8
}

/// Sends a small record.
#[inline(always)]
pub fn send<T: Copy + 'static>(record: &T, loss: Loss) -> bool {
    let Some(mut entry) = reserve::<T>(loss) else { return false };
    write(&mut entry, record);
    submit(entry);
    true
}

#[inline(always)]
fn write<T: Copy>(entry: &mut RingBufEntry<T>, record: &T) {
    let slot: &mut MaybeUninit<T> = entry;
    slot.write(*record);
}
