//! Holds the records of processes until it is known whether they are selected.
//!
//! A process that executes a program which may be selected is recorded from its first instruction, because a short-lived
//! client would have ended before the agent has looked at it. Its records wait here for the decision. Then they continue
//! in their order, or are dropped at once: nothing of a process that is not selected goes any further.
//!
//! What waits is bounded in bytes and in time. Records that exceed the bounds are dropped and counted.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use onlooker_common::decode::Event;
use onlooker_common::kind;
use onlooker_common::limits::UNDECIDED_NANOS;
use onlooker_common::process::{Execution, ProcessChange, lifecycle};
use onlooker_engine::model::counters::Counters;
use rustc_hash::FxHashMap;
use zerocopy::IntoBytes as _;

/// How many bytes may wait, of all processes together. A decision takes a millisecond.
const MOST_BYTES: usize = 8 << 20;
/// Records are aligned to this many bytes, as in the ring.
const ALIGNMENT: usize = 8;

/// The decision about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub tgid: u32,
    pub selected: bool,
}

/// The processes that are not decided.
#[derive(Debug)]
pub struct Undecided {
    processes: FxHashMap<u32, Process>,
    /// Bytes that wait.
    bytes: usize,
    verdicts: Receiver<Verdict>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Process {
    state: State,
    /// When the kernel side stops recording it, unless it is selected (kernel monotonic).
    until: u64,
    /// The process that forked it, if that was undecided too.
    parent: Option<u32>,
}

#[derive(Debug)]
enum State {
    /// Records that wait: the length of each in bytes, and the record.
    Waiting { records: Vec<u64>, executions: u32 },
    /// What comes is dropped: it is not selected, or too much had to wait.
    Dropped,
}

/// What happens to a record.
#[derive(Debug)]
pub enum Taken<'record> {
    GoesOn,
    /// It waits or is dropped.
    Waits,
    /// It waits, and so does what follows. A decision about the process must be requested.
    Asks(&'record Execution),
}

impl Undecided {
    /// Returns the place to which decisions are to be sent.
    pub fn new(counters: Arc<Counters>) -> (Self, Sender<Verdict>) {
        let (sender, verdicts) = mpsc::channel();
        (Self { processes: FxHashMap::default(), bytes: 0, verdicts, counters }, sender)
    }

    /// Whether records wait for a decision.
    pub fn is_waiting(&self) -> bool {
        self.bytes > 0
    }

    /// Whether a record of the ring must wait, is dropped, or may go on.
    pub fn take<'record>(&mut self, bytes: &'record [u8]) -> Taken<'record> {
        if self.processes.is_empty() && !is_execution(bytes) {
            return Taken::GoesOn;
        }
        let Ok(event) = Event::decode(bytes) else { return Taken::GoesOn };
        let mut asks = None;
        let tgid = match event {
            Event::Segment(segment, _) => segment.tgid,
            Event::Plaintext(plaintext, _) => plaintext.segment.tgid,
            Event::Datagram(datagram, _) => datagram.tgid,
            Event::Connection(connection) => connection.tgid,
            Event::Process(process) => {
                if process.change == lifecycle::FORK {
                    self.forked(process.tgid, process.other);
                }
                process.tgid
            }
            Event::Execution(execution) => {
                self.executed(&execution.change);
                asks = Some(execution);
                execution.change.tgid
            }
            Event::Tie(_) => return Taken::GoesOn,
        };
        match self.processes.get_mut(&tgid).map(|process| &mut process.state) {
            None => return Taken::GoesOn,
            Some(State::Dropped) => {}
            Some(State::Waiting { records, .. }) => {
                let words = 1 + bytes.len().div_ceil(ALIGNMENT);
                if self.bytes + ALIGNMENT * words > MOST_BYTES {
                    self.counters.records_dropped_undecided.add(1);
                    self.give_up(tgid);
                } else {
                    self.bytes += ALIGNMENT * words;
                    records.push(bytes.len() as u64);
                    let from = records.len();
                    records.resize(from + words - 1, 0);
                    records[from..].as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        asks.map_or(Taken::Waits, Taken::Asks)
    }

    fn executed(&mut self, change: &ProcessChange) {
        let until = change.time + UNDECIDED_NANOS;
        let waiting = || State::Waiting { records: Vec::new(), executions: 0 };
        let process =
            self.processes.entry(change.tgid).or_insert_with(|| Process { state: waiting(), until, parent: None });
        process.until = until;
        if matches!(process.state, State::Dropped) {
            process.state = waiting();
        }
        if let State::Waiting { executions, .. } = &mut process.state {
            *executions += 1;
        }
    }

    /// The child of an undecided process is decided with it.
    fn forked(&mut self, parent: u32, child: u32) {
        // An earlier process with its pid has ended.
        self.drop_waiting(child);
        self.processes.remove(&child);
        let Some(Process { state: State::Waiting { .. }, until, .. }) = self.processes.get(&parent) else { return };
        let state = State::Waiting { records: Vec::new(), executions: 0 };
        let child_process = Process { state, until: *until, parent: Some(parent) };
        self.processes.insert(child, child_process);
    }

    /// Applies the decisions that were made until now, and drops what has waited for too long. `now` is kernel monotonic.
    pub fn decide(&mut self, now: u64, mut next: impl FnMut(&[u8])) {
        while let Ok(Verdict { tgid, selected }) = self.verdicts.try_recv() {
            if selected {
                self.select(tgid, &mut next);
            } else {
                self.reject(tgid);
            }
        }
        if self.processes.is_empty() {
            return;
        }
        let late: Vec<u32> =
            self.processes.iter().filter(|(_, process)| process.until < now).map(|(tgid, _)| *tgid).collect();
        for tgid in late {
            self.give_up(tgid);
        }
        // The kernel side has stopped recording them, and the last records have been read.
        self.processes.retain(|_, process| process.until + UNDECIDED_NANOS >= now);
    }

    /// Passes on what waits of a process and of the children that it forked while it was undecided.
    fn select(&mut self, tgid: u32, next: &mut impl FnMut(&[u8])) {
        let Some(process) = self.processes.remove(&tgid) else { return };
        if let State::Waiting { records, .. } = process.state {
            let mut rest = &records[..];
            while let [length, tail @ ..] = rest {
                let length = *length as usize;
                let (record, tail) = tail.split_at(length.div_ceil(ALIGNMENT));
                next(&record.as_bytes()[..length]);
                rest = tail;
            }
            self.bytes -= ALIGNMENT * records.len();
        }
        for child in self.children(tgid) {
            self.select(child, next);
        }
    }

    /// A program of the process is not selected. What waits is dropped, unless another program or the process that forked it
    /// is still undecided.
    fn reject(&mut self, tgid: u32) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        if let State::Waiting { executions, .. } = &mut process.state {
            *executions = executions.saturating_sub(1);
            let undecided = *executions > 0;
            let parent = process.parent.and_then(|parent| self.processes.get(&parent));
            if undecided || parent.is_some_and(|parent| matches!(parent.state, State::Waiting { .. })) {
                return;
            }
        }
        self.drop_waiting(tgid);
        for child in self.children(tgid) {
            let own = matches!(self.processes[&child].state, State::Waiting { executions: 1.., .. });
            if !own {
                self.reject(child);
            }
        }
    }

    fn children(&self, tgid: u32) -> Vec<u32> {
        let of = self.processes.iter().filter(|(_, process)| process.parent == Some(tgid));
        of.map(|(child, _)| *child).collect()
    }

    /// Drops what waits and what comes, without a decision.
    pub fn give_up(&mut self, tgid: u32) {
        let dropped = self.drop_waiting(tgid);
        self.counters.records_dropped_undecided.add(dropped);
    }

    /// Returns how many records waited.
    fn drop_waiting(&mut self, tgid: u32) -> u64 {
        let Some(process) = self.processes.get_mut(&tgid) else { return 0 };
        let State::Waiting { records, .. } = std::mem::replace(&mut process.state, State::Dropped) else { return 0 };
        self.bytes -= ALIGNMENT * records.len();
        let (mut rest, mut count) = (&records[..], 0);
        while let [length, tail @ ..] = rest {
            rest = &tail[(*length as usize).div_ceil(ALIGNMENT)..];
            count += 1;
        }
        count
    }
}

fn is_execution(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|kind| u32::from_ne_bytes(*kind) == kind::EXECUTION)
}

#[cfg(test)]
mod tests {
    use onlooker_common::process::EXECUTED_PATH_BYTES;
    use onlooker_common::segment::Segment;
    use onlooker_common::selection::Executable;

    use super::*;

    fn execution(tgid: u32, time: u64) -> Vec<u8> {
        let change = ProcessChange {
            kind: kind::EXECUTION,
            change: lifecycle::EXEC_UNDECIDED,
            time,
            tgid,
            ..ProcessChange::default()
        };
        let path = [0; EXECUTED_PATH_BYTES];
        Execution { change, executable: Executable::default(), path }.as_bytes().to_vec()
    }

    fn fork(tgid: u32, other: u32) -> Vec<u8> {
        let change = lifecycle::FORK;
        ProcessChange { kind: kind::PROCESS, change, tgid, other, ..ProcessChange::default() }.as_bytes().to_vec()
    }

    fn segment(tgid: u32, position: u64) -> Vec<u8> {
        let mut bytes = Segment { kind: kind::SEGMENT, captured: 3, length: 3, tgid, position, ..Segment::default() }
            .as_bytes()
            .to_vec();
        bytes.extend(b"abc\0\0\0\0\0");
        bytes
    }

    struct Test {
        undecided: Undecided,
        verdicts: Sender<Verdict>,
        counters: Arc<Counters>,
        passed: Vec<Vec<u8>>,
    }

    impl Test {
        fn new() -> Self {
            let counters = Arc::<Counters>::default();
            let (undecided, verdicts) = Undecided::new(Arc::clone(&counters));
            Self { undecided, verdicts, counters, passed: Vec::new() }
        }

        fn take(&mut self, record: &[u8]) {
            // Records are aligned, as in the ring.
            let mut aligned = vec![0_u64; record.len().div_ceil(ALIGNMENT)];
            aligned.as_mut_bytes()[..record.len()].copy_from_slice(record);
            if matches!(self.undecided.take(&aligned.as_bytes()[..record.len()]), Taken::GoesOn) {
                self.passed.push(record.to_vec());
            }
        }

        fn decide(&mut self, tgid: u32, selected: bool) {
            self.verdicts.send(Verdict { tgid, selected }).unwrap();
            self.at(0);
        }

        fn at(&mut self, now: u64) {
            let passed = &mut self.passed;
            self.undecided.decide(now, |record| passed.push(record.to_vec()));
        }
    }

    #[test]
    fn records_of_a_selected_process_continue_in_their_order() {
        let mut test = Test::new();
        let records = [execution(7, 0), segment(7, 1), segment(7, 2)];
        records.iter().for_each(|record| test.take(record));
        test.take(&segment(8, 1));
        assert_eq!(test.passed, [segment(8, 1)]);
        assert!(test.undecided.is_waiting());
        test.passed.clear();
        test.decide(7, true);
        assert_eq!(test.passed, records);
        test.take(&segment(7, 3));
        assert_eq!(test.passed.last(), Some(&segment(7, 3)));
        assert!(!test.undecided.is_waiting() && test.undecided.processes.is_empty());
    }

    #[test]
    fn nothing_of_a_process_that_is_not_selected_goes_on() {
        let mut test = Test::new();
        for record in [execution(7, 0), segment(7, 1), fork(7, 9), segment(9, 1)] {
            test.take(&record);
        }
        test.decide(7, false);
        test.take(&segment(7, 2));
        test.take(&segment(9, 2));
        assert!(test.passed.is_empty() && !test.undecided.is_waiting());
        assert_eq!(test.counters.records_dropped_undecided.get(), 0, "it is not a loss");
        // The pids may be used again later.
        test.at(3 * UNDECIDED_NANOS);
        test.take(&segment(7, 1));
        assert_eq!(test.passed.len(), 1);
    }

    #[test]
    fn a_child_is_selected_with_its_parent_or_by_its_own_program() {
        for by_parent in [true, false] {
            let mut test = Test::new();
            for record in [execution(7, 0), fork(7, 9), execution(9, 0), segment(9, 1)] {
                test.take(&record);
            }
            test.decide(9, !by_parent);
            test.decide(7, by_parent);
            assert!(test.passed.contains(&segment(9, 1)), "{by_parent}");
        }
    }

    #[test]
    fn another_program_of_the_process_may_still_be_selected() {
        let mut test = Test::new();
        for record in [execution(7, 0), execution(7, 0), segment(7, 1)] {
            test.take(&record);
        }
        test.decide(7, false);
        test.decide(7, true);
        assert_eq!(test.passed.len(), 3);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_time_and_counted() {
        let mut test = Test::new();
        test.take(&execution(7, 0));
        let mut taken = 1;
        while test.counters.records_dropped_undecided.get() == 0 {
            test.take(&segment(7, taken));
            taken += 1;
        }
        assert_eq!(test.counters.records_dropped_undecided.get(), taken);
        assert!(taken as usize * size_of::<Segment>() < MOST_BYTES && !test.undecided.is_waiting());

        let mut test = Test::new();
        test.take(&execution(7, 0));
        test.at(UNDECIDED_NANOS + 1);
        assert_eq!(test.counters.records_dropped_undecided.get(), 1);
        // A late decision applies to what follows.
        test.decide(7, true);
        test.take(&segment(7, 1));
        assert_eq!(test.passed, [segment(7, 1)]);
    }
}
