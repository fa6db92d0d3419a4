//! What is remembered of an event loop of Node: its async ids.

use core::ptr;
use onlooker_common::async_ids::{AsyncIds, Stretch};
use onlooker_common::owner::Owner;

use super::owner::SharedOwner;
use super::shared::shared;

/// The ids that were born since `start` belong to the owner, until the next interval begins.
#[repr(C)]
pub struct Interval {
    /// The newest id when it began; 0 if the place is unused.
    pub start: u64,
    pub owner: Owner,
    /// The thread of the event loop. Another one may have used the place before.
    pub thread: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<Interval>() == 64);

/// Values of `verdict`.
pub mod verdict {
    /// The ids prove nothing.
    pub const UNDECIDED: u32 = 0;
    /// They name `owner`, which is open.
    pub const OWNED: u32 = 1;
    /// The owner is unknown, and it is not that of the current tick.
    pub const UNKNOWN: u32 = 2;
}

/// Values of `reading`.
pub mod reading {
    /// No frames of HTTP/2.
    pub const NOTHING: u32 = 0;
    /// Frames of HTTP/2.
    pub const FRAMES: u32 = 1;
    /// Frames of which some open streams.
    pub const REQUESTS: u32 = 2;
}

shared! {
    /// The state of an event loop, in the state of its thread.
    struct EventLoopState;
    /// An event loop, in place in its thread's state.
    pointer EventLoop;
    words {
        /// The ids at the last operation: see [`AsyncIds`].
        execution, set_execution: u64;
        trigger, set_trigger: u64;
        newest, set_newest: u64;
        socket, set_socket: u64;
        /// The session of HTTP/2 that sends frames now; 0 if it is unknown.
        session, set_session: u64;
        /// The newest id when the current stretch of work began.
        stretch_newest, set_stretch_newest: u64;
        /// One of `common::async_ids::begun_by`.
        begun_by, set_begun_by: u32;
        /// 1 while callbacks of `setImmediate` are due.
        immediates, set_immediates: u32;
        /// The place of its oldest interval.
        oldest, set_oldest: u32;
        /// Its ring of intervals.
        ring, set_ring: u32;
        thread, set_thread: u32;
        /// 1 after ids could not be read. What was born meanwhile has no owner.
        lost, set_lost: u32;
        /// One of [`verdict`]: what the ids of the last write or connect prove.
        verdict, set_verdict: u32;
        /// One of [`reading`]: what Node hands over now.
        reading, set_reading: u32;
    }
    structs {
        /// The request that they prove to be the owner.
        owner: Owner as SharedOwner;
    }
}

impl EventLoop {
    /// Forgets everything: the process executes another program.
    #[inline(always)]
    pub fn forget(self) {
        // SAFETY: a live value, of which zeros are one.
        unsafe { self.as_ptr().write_bytes(0, 1) };
    }

    #[inline(always)]
    pub fn ids(self) -> AsyncIds {
        AsyncIds { execution: self.execution(), trigger: self.trigger(), newest: self.newest(), socket: self.socket() }
    }

    #[inline(always)]
    pub fn set_ids(self, ids: AsyncIds) {
        self.set_execution(ids.execution);
        self.set_trigger(ids.trigger);
        self.set_newest(ids.newest);
        self.set_socket(ids.socket);
    }

    #[inline(always)]
    pub fn current_verdict(self) -> u32 {
        // SAFETY: a member of a live value.
        unsafe { ptr::read_volatile(&raw const (*self.as_ptr()).verdict) }
    }

    #[inline(always)]
    pub fn stretch(self) -> Stretch {
        Stretch { begun_by: self.begun_by(), newest: self.stretch_newest(), immediates: self.immediates() != 0 }
    }
}
