//! What the agent writes back about connections: which requests are complete, how much is captured of them, and where HTTP/2
//! frames begin.
//!
//! Writing a map takes a system call, which costs half as much as everything else that is done for a request. So entries
//! are collected and written together. The agent remembers what it wrote, and removes nothing that it did not write: for
//! most connections it writes nothing at all.

use aya::Ebpf;
use aya::maps::{Array, HashMap, IterableMap as _, MapData, MapError};
use onlooker_common::capture::{Capture, any};
use onlooker_common::frames::Confirmed;
use onlooker_common::limits;
use onlooker_protocols::Direction;
use rustc_hash::{FxHashMap, FxHashSet};

use super::batch;
use super::map;
use super::plain::{CaptureValue, ConfirmedValue};

/// The maps that the agent writes while connections are open.
pub struct Control {
    completed: HashMap<MapData, u64, u64>,
    limited: HashMap<MapData, u64, CaptureValue>,
    raised_processes: HashMap<MapData, u32, CaptureValue>,
    frames: HashMap<MapData, u64, ConfirmedValue>,
    any_capture: Array<MapData, u32>,
    /// Positions up to which requests are complete, by connection: not written yet.
    pending: FxHashMap<u64, u64>,
    /// Connections that `completed` has.
    written: FxHashSet<u64>,
    /// Those of them that ended, and whose entries are to be removed.
    ended: Vec<u64>,
    /// What `limited` has.
    limits: FxHashMap<u64, Capture>,
    /// What `raised_processes` has.
    process_raises: FxHashMap<u32, Capture>,
    /// What `frames` has.
    confirmed: FxHashMap<u64, Confirmed>,
}

impl Control {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            completed: map(ebpf, "COMPLETED")?,
            limited: map(ebpf, "LIMITED")?,
            raised_processes: map(ebpf, "RAISED_PROCESSES")?,
            frames: map(ebpf, "FRAMES")?,
            any_capture: map(ebpf, "ANY_CAPTURE")?,
            pending: FxHashMap::default(),
            written: FxHashSet::default(),
            ended: Vec::new(),
            limits: FxHashMap::default(),
            process_raises: FxHashMap::default(),
            confirmed: FxHashMap::default(),
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

    /// Limits the capture of a connection in one direction, or in both.
    pub fn limit(&mut self, cookie: u64, direction: Option<Direction>, bytes: u32) -> Result<(), MapError> {
        let before = self.limits.get(&cookie).copied().unwrap_or_default();
        let capture = match direction {
            Some(Direction::ToServer) => Capture { request: bytes, ..before },
            Some(Direction::ToClient) => Capture { response: bytes, ..before },
            None => Capture { request: bytes, response: bytes },
        };
        if capture == before {
            return Ok(());
        }
        self.limited.insert(cookie, CaptureValue(capture), 0)?;
        self.limits.insert(cookie, capture);
        if self.limits.len() == 1 { self.write_any_capture() } else { Ok(()) }
    }

    /// Lifts the limit of a connection, if it has one.
    pub fn lift_limit(&mut self, cookie: u64) -> Result<(), MapError> {
        if self.limits.remove(&cookie).is_none() {
            return Ok(());
        }
        self.limited.remove(&cookie)?;
        if self.limits.is_empty() { self.write_any_capture() } else { Ok(()) }
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
        self.write_any_capture()
    }

    /// Makes the kernel programs follow the HTTP/2 frames of a connection: they propose positions at which frames may begin.
    pub fn follow_frames(&mut self, cookie: u64) -> Result<(), MapError> {
        self.set_confirmed(cookie, Confirmed::default())
    }

    /// Confirms that a frame begins at a position that the kernel programs proposed, in the sent or in the received bytes.
    pub fn confirm_frames(&mut self, cookie: u64, sent: bool, position: u64) -> Result<(), MapError> {
        let mut confirmed = self.confirmed.get(&cookie).copied().unwrap_or_default();
        confirmed.positions[usize::from(sent)] = position;
        self.set_confirmed(cookie, confirmed)
    }

    fn set_confirmed(&mut self, cookie: u64, confirmed: Confirmed) -> Result<(), MapError> {
        self.frames.insert(cookie, ConfirmedValue(confirmed), 0)?;
        self.confirmed.insert(cookie, confirmed);
        if self.confirmed.len() == 1 { self.write_any_capture() } else { Ok(()) }
    }

    fn forget_frames(&mut self, cookie: u64) {
        if self.confirmed.remove(&cookie).is_some() {
            let _ = self.frames.remove(&cookie);
            if self.confirmed.is_empty() {
                let _ = self.write_any_capture();
            }
        }
    }

    /// The process ended, or executes another program.
    pub fn forget_process(&mut self, tgid: u32) {
        if self.process_raises.remove(&tgid).is_some() {
            let _ = self.raised_processes.remove(&tgid);
            let _ = self.write_any_capture();
        }
    }

    fn write_any_capture(&mut self) -> Result<(), MapError> {
        let bit = |bit, is_empty| if is_empty { 0 } else { bit };
        let limited = bit(any::LIMITED, self.limits.is_empty());
        let raised = bit(any::RAISED_PROCESSES, self.process_raises.is_empty());
        let frames = bit(any::FRAMES, self.confirmed.is_empty());
        self.any_capture.set(0, limited | raised | frames, 0)
    }

    /// The connection ended.
    pub fn forget(&mut self, cookie: u64) {
        // If the removal fails, the entry only occupies its slot.
        self.pending.remove(&cookie);
        if self.written.remove(&cookie) {
            self.ended.push(cookie);
        }
        // If the word stays set, it only costs lookups.
        let _ = self.lift_limit(cookie);
        self.forget_frames(cookie);
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
        let mut kernel = match Kernel::load(&Options { ring_bytes: 4096, ..Options::default() }) {
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
    fn the_word_says_whether_any_connection_has_a_limit() {
        let mut kernel = match Kernel::load(&Options { ring_bytes: 4096, ..Options::default() }) {
            Err(LoadError::NotPermitted(why)) => return record_skip(&why),
            loaded => loaded.unwrap(),
        };
        let mut control = kernel.control().unwrap();
        let any = |control: &Control| control.any_capture.get(&0, 0).unwrap();
        for (cookie, direction) in [(1, None), (1, None), (2, Some(Direction::ToClient)), (3, None)] {
            control.limit(cookie, direction, 1).unwrap();
        }
        assert_eq!((any(&control), control.limited.keys().count()), (1, 3));
        assert_eq!(control.limited.get(&2, 0).unwrap().0, Capture { request: 0, response: 1 });
        control.forget(1);
        control.lift_limit(3).unwrap();
        assert_eq!(any(&control), 1);
        control.forget(2);
        control.forget(4);
        assert_eq!((any(&control), control.limited.keys().count()), (0, 0));
    }
}
