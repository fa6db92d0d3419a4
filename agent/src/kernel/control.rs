//! What the agent tells the kernel side of connections: which of their requests are complete, and of which it wants
//! more bytes.
//!
//! A map is written by a system call, which costs as much as half of all else that is done for a request. So what is to
//! be told is gathered, and told together; what is told is remembered, and nothing is taken out of a map that was never
//! put in: most connections end without a word.

use aya::Ebpf;
use aya::maps::{Array, HashMap, IterableMap as _, MapData, MapError};
use onlooker_common::capture::{Capture, raised};
use onlooker_common::limits;
use onlooker_protocols::Direction;
use rustc_hash::{FxHashMap, FxHashSet};

use super::batch;
use super::map;
use super::plain::CaptureValue;

/// The maps that the agent writes as connections go on.
pub struct Control {
    completed: HashMap<MapData, u64, u64>,
    raised: HashMap<MapData, u64, CaptureValue>,
    raised_processes: HashMap<MapData, u32, CaptureValue>,
    any_raised: Array<MapData, u32>,
    /// What is complete and was not told yet: until where, by connection.
    untold: FxHashMap<u64, u64>,
    /// Connections that `completed` holds; of these, those that are over; and those that `raised` holds.
    told: FxHashSet<u64>,
    over: Vec<u64>,
    raises: FxHashMap<u64, Capture>,
    process_raises: FxHashMap<u32, Capture>,
}

impl Control {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            completed: map(ebpf, "COMPLETED")?,
            raised: map(ebpf, "RAISED")?,
            raised_processes: map(ebpf, "RAISED_PROCESSES")?,
            any_raised: map(ebpf, "ANY_RAISED")?,
            untold: FxHashMap::default(),
            told: FxHashSet::default(),
            over: Vec::new(),
            raises: FxHashMap::default(),
            process_raises: FxHashMap::default(),
        })
    }

    /// Notes that every request of the connection that begins before `until` is complete. The kernel side is told by
    /// [`Self::tell`]: of many on one connection, the last.
    pub fn completed(&mut self, cookie: u64, until: u64) {
        self.untold.insert(cookie, until);
    }

    /// Tells what was noted. Gives how many connections the kernel side could not be told of.
    pub fn tell(&mut self) -> u64 {
        if !self.over.is_empty() {
            batch::remove(self.completed.map(), &self.over);
            self.over.clear();
        }
        if self.untold.is_empty() {
            return 0;
        }
        let (cookies, positions): (Vec<u64>, Vec<u64>) = self.untold.drain().unzip();
        let failed = batch::insert(self.completed.map(), &cookies, &positions);
        self.told.extend(&cookies);
        for &at in &failed {
            // The table is full. If it was there before, its older word stays, and is taken out with it.
            if self.completed.get(&cookies[at], 0).is_err() {
                self.told.remove(&cookies[at]);
            }
        }
        failed.len() as u64
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

    /// Wants more bytes of all connections of a process, in one direction: each time it is said, more.
    pub fn raise_process(&mut self, tgid: u32, direction: Direction) -> Result<(), MapError> {
        let before = self.process_raises.get(&tgid).copied().unwrap_or_default();
        let mut capture = before;
        match direction {
            Direction::ToServer => capture.request = limits::LARGEST_CAPTURE,
            Direction::ToClient if before.response == 0 => capture.response = limits::RAISED_RESPONSE_CAPTURE,
            Direction::ToClient => capture.response = limits::LARGEST_CAPTURE,
        }
        if capture == before {
            return Ok(());
        }
        self.raised_processes.insert(tgid, CaptureValue(capture), 0)?;
        self.process_raises.insert(tgid, capture);
        self.say_whether_any_is_raised()
    }

    /// The process is over, or another program now.
    pub fn forget_process(&mut self, tgid: u32) {
        if self.process_raises.remove(&tgid).is_some() {
            let _ = self.raised_processes.remove(&tgid);
            let _ = self.say_whether_any_is_raised();
        }
    }

    fn say_whether_any_is_raised(&mut self) -> Result<(), MapError> {
        let bit = |bit, is_empty| if is_empty { 0 } else { bit };
        let connections = bit(raised::CONNECTIONS, self.raises.is_empty());
        let processes = bit(raised::PROCESSES, self.process_raises.is_empty());
        self.any_raised.set(0, connections | processes, 0)
    }

    /// The connection is over.
    pub fn forget(&mut self, cookie: u64) {
        // An entry that stays by a failure costs its place.
        self.untold.remove(&cookie);
        if self.told.remove(&cookie) {
            self.over.push(cookie);
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

#[cfg(test)]
mod tests {
    use onlooker_common::limits;
    use onlooker_tests::record_skip;

    use super::*;
    use crate::kernel::{Kernel, LoadError, Options};

    #[test]
    fn what_is_told_of_connections_is_taken_back_when_they_are_over() {
        let mut kernel = match Kernel::load(&Options { ring_bytes: 4096, kernel_log: false }) {
            Err(LoadError::NotPermitted(why)) => return record_skip(&why),
            loaded => loaded.unwrap(),
        };
        let mut control = kernel.control().unwrap();
        let until = |control: &Control, cookie: u64| control.completed.get(&cookie, 0).ok();
        for cookie in 1..=100 {
            control.completed(cookie, 10);
            control.completed(cookie, 20 + cookie);
        }
        control.forget(7);
        assert_eq!(until(&control, 1), None, "all are told together");
        assert_eq!(control.tell(), 0);
        assert_eq!((until(&control, 1), until(&control, 7), until(&control, 100)), (Some(21), None, Some(120)));

        // One that somebody else took out does not keep the others in.
        control.completed.remove(&50).unwrap();
        for cookie in 1..=100 {
            control.forget(cookie);
        }
        assert_eq!(control.tell(), 0);
        assert_eq!(control.completed.keys().count(), 0);
        assert!(control.told.is_empty() && control.over.is_empty());

        let most = u64::from(limits::REQUESTS);
        for cookie in 0..most + 1000 {
            control.completed(cookie, 1);
        }
        assert_eq!(control.tell(), 1000, "the table is full");
        assert_eq!(control.told.len() as u64, most);
    }

    #[test]
    fn more_bytes_are_wanted_of_some_connections_or_of_none() {
        let mut kernel = match Kernel::load(&Options { ring_bytes: 4096, kernel_log: false }) {
            Err(LoadError::NotPermitted(why)) => return record_skip(&why),
            loaded => loaded.unwrap(),
        };
        let mut control = kernel.control().unwrap();
        let any = |control: &Control| control.any_raised.get(&0, 0).unwrap();
        let more = Capture { request: 65_536, response: 65_536 };
        for cookie in [1, 1, 2] {
            control.raise(cookie, more).unwrap();
        }
        assert_eq!((any(&control), control.raised.keys().count()), (1, 2));
        control.forget(1);
        assert_eq!(any(&control), 1);
        control.forget(2);
        control.forget(3);
        assert_eq!((any(&control), control.raised.keys().count()), (0, 0));
    }
}
