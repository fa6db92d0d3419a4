//! The ids that no goroutine has yet.

use onlooker_common::limits::GO_PROCESSORS;

const PROCESSORS: usize = GO_PROCESSORS as usize;

/// The ids that no goroutine of a process had at some time, in the map.
#[repr(C)]
pub struct UnusedIds {
    /// Ids from this one on were unused. 0: it is not known which were.
    from: u64,
    /// The same while the rest is being filled. `u64::MAX`: that failed.
    from_so_far: u64,
    /// By processor: the first unused id of the batch that it hands out, and how many of the batch are unused.
    batches: [Batch; PROCESSORS],
}

#[repr(C)]
struct Batch {
    first: u64,
    count: u64,
}

/// The largest number of ids that a processor takes at a time (Go's `_GoidCacheBatch`).
const BATCH: u64 = 16;

/// Unused ids, in place in the map.
#[derive(Clone, Copy)]
pub struct SharedUnusedIds(*mut UnusedIds);

impl SharedUnusedIds {
    /// # Safety
    /// The pointer must point to a live value of the map for as long as the program runs.
    #[inline(always)]
    pub unsafe fn within(ids: *mut UnusedIds) -> Self {
        Self(ids)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut UnusedIds {
        self.0
    }

    /// Nothing is known until [`Self::end`].
    #[inline(always)]
    pub fn begin(self) {
        // SAFETY: members of a live value.
        unsafe {
            (&raw mut (*self.0).from).write_volatile(0);
            (&raw mut (*self.0).from_so_far).write_volatile(0);
        }
    }

    /// Adds the processor `index`, whose next id is `next`. Its batch ends before the id `end`. What another processor changes
    /// meanwhile may not fit together. Then only what is behind its batch is known to be unused.
    #[inline(always)]
    pub fn add(self, index: u32, next: u64, end: u64) {
        let left = end.wrapping_sub(next);
        // SAFETY: members of a live value.
        unsafe {
            let batch = &raw mut (*self.0).batches[index as usize & (PROCESSORS - 1)];
            (&raw mut (*batch).first).write_volatile(next);
            (&raw mut (*batch).count).write_volatile(if left <= BATCH { left } else { 0 });
            let from = &raw mut (*self.0).from_so_far;
            if from.read_volatile() < end {
                from.write_volatile(end);
            }
        }
    }

    #[inline(always)]
    pub fn fail(self) {
        // SAFETY: a member of a live value.
        unsafe { (&raw mut (*self.0).from_so_far).write_volatile(u64::MAX) };
    }

    #[inline(always)]
    pub fn end(self) {
        // SAFETY: members of a live value.
        unsafe {
            let from = (&raw const (*self.0).from_so_far).read_volatile();
            (&raw mut (*self.0).from).write_volatile(if from == u64::MAX { 0 } else { from });
        }
    }

    /// The first of the ids behind all batches. 0 if nothing is known.
    #[inline(always)]
    pub fn from(self) -> u64 {
        // SAFETY: a member of a live value.
        unsafe { (&raw const (*self.0).from).read_volatile() }
    }

    /// Whether `id` is an unused one of the batch of the processor `index`.
    #[inline(always)]
    pub fn has(self, index: u32, id: u64) -> bool {
        // SAFETY: members of a live value.
        unsafe {
            let batch = &raw const (*self.0).batches[index as usize & (PROCESSORS - 1)];
            id.wrapping_sub((&raw const (*batch).first).read_volatile()) < (&raw const (*batch).count).read_volatile()
        }
    }
}
