//! The only writer to the ring.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use core::mem::MaybeUninit;
use core::ptr;
use onlooker_common::losses::Loss;
use onlooker_common::reader;

use crate::globals::wake_bytes;
use crate::maps::{EVENTS, READER, count};

/// Reserves a `T` in the ring. `None` if the ring is full.
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    EVENTS.reserve_untyped::<T>(0)
}

/// Submits a record, and wakes the agent if it sleeps or falls behind. A wake-up costs more than a record.
///
/// `look`: check how much is waiting in the ring. That reads a cache line that the agent's processor writes, so it is not
/// done for every record.
#[inline(always)]
pub fn submit<T: 'static>(entry: RingBufEntry<T>, look: bool) {
    let flags = if reader_needs_waking(look) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(flags));
}

/// Whether most of the ring waits for the agent. The last quarter is for heads: thousands of records.
#[inline(always)]
pub fn is_filling_up() -> bool {
    query(BPF_RB_AVAIL_DATA) > query(BPF_RB_RING_SIZE) / 4 * 3
}

#[inline(always)]
fn query(what: u32) -> u64 {
    let ring = ptr::from_ref(&EVENTS).cast_mut().cast();
    // SAFETY: the map of records.
    unsafe { bpf_ringbuf_query(ring, u64::from(what)) }
}

#[inline(always)]
fn reader_needs_waking(look: bool) -> bool {
    let Some(state) = READER.get_ptr_mut(0) else { return false };
    // SAFETY: a live word of the map. Two records that read the same state wake the agent twice, which is harmless.
    unsafe {
        match ptr::read_volatile(state) {
            reader::ASLEEP => {
                ptr::write_volatile(state, reader::AWAKE);
                true
            }
            reader::AWAKE if look => {
                let much = query(BPF_RB_AVAIL_DATA) >= wake_bytes();
                if much {
                    ptr::write_volatile(state, reader::CALLED);
                }
                much
            }
            _ => false,
        }
    }
}

/// Sends a small record, or counts `loss`.
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

/// The same, and wakes the agent in any case. For records that come seldom and that the agent must act on at once.
#[inline(always)]
pub fn send_now<T: Copy + 'static>(record: &T, loss: Loss) -> bool {
    let Some(mut entry) = reserve::<T>() else {
        count(loss);
        return false;
    };
    write(&mut entry, record);
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    true
}

#[inline(always)]
fn write<T: Copy>(entry: &mut RingBufEntry<T>, record: &T) {
    let slot: &mut MaybeUninit<T> = entry;
    slot.write(*record);
}
