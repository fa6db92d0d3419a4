//! The only writer to the ring.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use core::mem::MaybeUninit;
use core::ptr;
use onlooker_common::agent;
use onlooker_common::loss::Loss;

use crate::maps::{AGENT, EVENTS, count, wake_bytes};

/// Room for a `T` in the ring, if there is any.
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    EVENTS.reserve_untyped::<T>(0)
}

/// Hands a filled record to the agent, and wakes it if it sleeps or falls behind: a wake-up costs more than a record.
///
/// `look`: whether to find out how much is waiting. It takes a look at what the agent's processor writes, so it is not
/// for every record.
#[inline(always)]
pub fn submit<T: 'static>(entry: RingBufEntry<T>, look: bool) {
    let flags = if agent_needs_waking(look) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(flags));
}

#[inline(always)]
fn agent_needs_waking(look: bool) -> bool {
    let Some(doing) = AGENT.get_ptr_mut(0) else { return false };
    // SAFETY: a word of the map; two records that see the same wake the agent twice, which is harmless.
    unsafe {
        match ptr::read_volatile(doing) {
            agent::ASLEEP => {
                ptr::write_volatile(doing, agent::AWAKE);
                true
            }
            agent::AWAKE if look => {
                let ring = ptr::from_ref(&EVENTS).cast_mut().cast();
                let much = bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) >= wake_bytes();
                if much {
                    ptr::write_volatile(doing, agent::CALLED);
                }
                much
            }
            _ => false,
        }
    }
}

/// Sends a small record, or counts the `loss`.
#[inline(always)]
pub fn send<T: Copy + 'static>(record: &T, loss: Loss) -> bool {
    let Some(mut entry) = reserve::<T>() else {
        count(loss);
        return false;
    };
    write(&mut entry, record);
    submit(entry, true);
    true
}

#[inline(always)]
fn write<T: Copy>(entry: &mut RingBufEntry<T>, record: &T) {
    let slot: &mut MaybeUninit<T> = entry;
    slot.write(*record);
}
