//! What the agent writes back about connections: which requests are complete, and whose capture budget is raised.
//!
//! Writing a map takes a system call, which costs half as much as everything else that is done for a request. So entries
//! are collected and written together. The agent remembers what it wrote, and removes nothing that it did not write: for
//! most connections it writes nothing at all.

use aya::Ebpf;
use aya::maps::{Array, HashMap, IterableMap as _, MapData, MapError};
use onlooker_common::capture::{Capture, raised};
use onlooker_common::limits;
use onlooker_protocols::Direction;
use rustc_hash::{FxHashMap, FxHashSet};

use super::batch;
use super::map;
use super::plain::CaptureValue;

/// The maps that the agent writes while connections are open.
pub struct Control {
    completed: HashMap<MapData, u64, u64>,
    raised: HashMap<MapData, u64, CaptureValue>,
    raised_processes: HashMap<MapData, u32, CaptureValue>,
    any_raised: Array<MapData, u32>,
    /// Positions up to which requests are complete, by connection: not written yet.
    pending: FxHashMap<u64, u64>,
    /// Connections that `completed` has.
    written: FxHashSet<u64>,
    /// Those of them that ended, and whose entries are to be removed.
    ended: Vec<u64>,
    /// What `raised` has.
    raises: FxHashMap<u64, Capture>,
    /// What `raised_processes` has.
    process_raises: FxHashMap<u32, Capture>,
}

impl Control {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            completed: map(ebpf, "COMPLETED")?,
            raised: map(ebpf, "RAISED")?,
            raised_processes: map(ebpf, "RAISED_PROCESSES")?,
            any_raised: map(ebpf, "ANY_RAISED")?,
            pending: FxHashMap::default(),
            written: FxHashSet::default(),
            ended: Vec::new(),
            raises: FxHashMap::default(),
            process_raises: FxHashMap::default(),
        })
    }

    /// Notes that every request of the connection that begins before `until` is complete. [`Self::flush`] writes it.
    pub fn completed(&mut self, cookie: u64, until: u64) {
        self.pending.insert(cookie, until);
    }

    /// Writes what was noted. Returns for how many connections the table had no room.
    pub fn flush(&mut self) -> u64 {
        if !self.ended.is_empty() {
            batch::remove(self.completed.map(), &self.ended);
            self.ended.clear();
        }
        if self.pending.is_empty() {
            return 0;
        }
        let (cookies, positions): (Vec<u64>, Vec<u64>) = self.pending.drain().unzip();
        let failed = batch::insert(self.completed.map(), &cookies, &positions);
        self.written.extend(&cookies);
        for &at in &failed {
            // The table is full. An older entry of the connection stays, and is removed at its end.
            if self.completed.get(&cookies[at], 0).is_err() {
                self.written.remove(&cookies[at]);
            }
        }
        failed.len() as u64
    }

    /// Raises the capture budget of a connection.
    pub fn raise(&mut self, cookie: u64, capture: Capture) -> Result<(), MapError> {
        if self.raises.get(&cookie) == Some(&capture) {
            return Ok(());
        }
        self.raised.insert(cookie, CaptureValue(capture), 0)?;
        self.raises.insert(cookie, capture);
        if self.raises.len() == 1 { self.write_any_raised() } else { Ok(()) }
    }

    /// Raises the capture budget of all connections of a process in one direction, each time further.
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
        self.write_any_raised()
    }

    /// The process ended, or executes another program.
    pub fn forget_process(&mut self, tgid: u32) {
        if self.process_raises.remove(&tgid).is_some() {
            let _ = self.raised_processes.remove(&tgid);
            let _ = self.write_any_raised();
        }
    }

    fn write_any_raised(&mut self) -> Result<(), MapError> {
        let bit = |bit, is_empty| if is_empty { 0 } else { bit };
        let connections = bit(raised::CONNECTIONS, self.raises.is_empty());
        let processes = bit(raised::PROCESSES, self.process_raises.is_empty());
        self.any_raised.set(0, connections | processes, 0)
    }

    /// The connection ended.
    pub fn forget(&mut self, cookie: u64) {
        // If the removal fails, the entry only occupies its slot.
        self.pending.remove(&cookie);
        if self.written.remove(&cookie) {
            self.ended.push(cookie);
        }
        if self.raises.remove(&cookie).is_some() {
            let _ = self.raised.remove(&cookie);
            if self.raises.is_empty() {
                // If the word stays set, it only costs lookups.
                let _ = self.write_any_raised();
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
    fn entries_of_ended_connections_are_removed() {
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
        assert_eq!(until(&control, 1), None, "entries are written together");
        assert_eq!(control.flush(), 0);
        assert_eq!((until(&control, 1), until(&control, 7), until(&control, 100)), (Some(21), None, Some(120)));

        // An entry that is gone already does not keep the others from being removed.
        control.completed.remove(&50).unwrap();
        for cookie in 1..=100 {
            control.forget(cookie);
        }
        assert_eq!(control.flush(), 0);
        assert_eq!(control.completed.keys().count(), 0);
        assert!(control.written.is_empty() && control.ended.is_empty());

        let most = u64::from(limits::REQUESTS);
        for cookie in 0..most + 1000 {
            control.completed(cookie, 1);
        }
        assert_eq!(control.flush(), 1000, "the table is full");
        assert_eq!(control.written.len() as u64, most);
    }

    #[test]
    fn the_word_says_whether_any_connection_has_a_raised_budget() {
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
