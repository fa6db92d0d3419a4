//! What the agent tells the kernel side of connections: which of their requests are complete, and of which it wants
//! more bytes.
//!
//! A map is written by a system call. So what is told is remembered here, and nothing is taken out of a map that was
//! never put in: most connections end without a word.

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use onlooker_common::process::Capture;
use rustc_hash::{FxHashMap, FxHashSet};

use super::map;
use super::plain::{CaptureValue, WaitingValue};

/// The maps that the agent writes as connections go on.
pub struct Control {
    completed: HashMap<MapData, u64, u64>,
    waiting: HashMap<MapData, u64, WaitingValue>,
    raised: HashMap<MapData, u64, CaptureValue>,
    any_raised: Array<MapData, u32>,
    /// What is complete and was not told yet: until where, by connection.
    untold: FxHashMap<u64, u64>,
    /// Connections that `completed` holds, and that `raised` does.
    told: FxHashSet<u64>,
    raises: FxHashMap<u64, Capture>,
    /// Whether any process makes calls: if none does, the kernel keeps nothing in `waiting`.
    calls: bool,
}

impl Control {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            completed: map(ebpf, "COMPLETED")?,
            waiting: map(ebpf, "WAITING")?,
            raised: map(ebpf, "RAISED")?,
            any_raised: map(ebpf, "ANY_RAISED")?,
            untold: FxHashMap::default(),
            told: FxHashSet::default(),
            raises: FxHashMap::default(),
            calls: false,
        })
    }

    /// Notes that every request of the connection that begins before `until` is complete. The kernel side is told by
    /// [`Self::tell`]: of many on one connection, the last.
    pub fn completed(&mut self, cookie: u64, until: u64) {
        self.untold.insert(cookie, until);
    }

    /// Tells what was noted. Gives how many connections the kernel side could not be told of.
    pub fn tell(&mut self) -> u64 {
        let mut failed = 0;
        for (cookie, until) in self.untold.drain() {
            match self.completed.insert(cookie, until, 0) {
                Ok(()) => _ = self.told.insert(cookie),
                Err(_full) => failed += 1,
            }
        }
        failed
    }

    /// Notes that a process makes calls.
    pub fn calls(&mut self) {
        self.calls = true;
    }

    /// Wants more bytes of a connection.
    pub fn raise(&mut self, cookie: u64, capture: Capture) -> Result<(), MapError> {
        if self.raises.get(&cookie) == Some(&capture) {
            return Ok(());
        }
        self.raised.insert(cookie, CaptureValue(capture), 0)?;
        self.raises.insert(cookie, capture);
        if self.raises.len() == 1 { self.say_whether_any_is_raised() } else { Ok(()) }
    }

    fn say_whether_any_is_raised(&mut self) -> Result<(), MapError> {
        self.any_raised.set(0, u32::from(!self.raises.is_empty()), 0)
    }

    /// The connection is over.
    pub fn forget(&mut self, cookie: u64) {
        // An entry that stays by a failure costs its place.
        self.untold.remove(&cookie);
        if self.told.remove(&cookie) {
            let _ = self.completed.remove(&cookie);
        }
        if self.calls {
            // Written by the kernel, for the connections whose requests made calls.
            let _ = self.waiting.remove(&cookie);
        }
        if self.raises.remove(&cookie).is_some() {
            let _ = self.raised.remove(&cookie);
            if self.raises.is_empty() {
                // A word that stays set costs a look-up.
                let _ = self.say_whether_any_is_raised();
            }
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}
