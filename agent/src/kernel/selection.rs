//! Which processes the kernel side records, and what it is told of them.

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use onlooker_common::capture::Capture;
use onlooker_common::limits;
use onlooker_common::selection::{ListeningPort, SelectedProcess, census_slot, process_flag};
use rustc_hash::{FxHashMap, FxHashSet};

use super::map;
use super::plain::{CaptureValue, ListenerKey, ProcessValue};

/// What is judged by the program that runs: all of it is said anew when another is executed.
const JUDGED: u64 = process_flag::LOOP | process_flag::NO_QUEUE | process_flag::SCHEDULER;
/// include/uapi/linux/bpf.h: fails with EEXIST where there is such an entry.
const BPF_NOEXIST: u64 = 1;
/// The same: fails with ENOENT where there is none.
const BPF_EXIST: u64 = 2;

/// The maps that say who is recorded.
pub struct Selection {
    processes: HashMap<MapData, u32, ProcessValue>,
    cgroups: HashMap<MapData, u64, CaptureValue>,
    listeners: HashMap<MapData, ListenerKey, u32>,
    census: Array<MapData, i64>,
    /// What `census` holds: processes by place, where there are any. And who they are.
    counts: FxHashMap<u32, i64>,
    mine: FxHashSet<u32>,
    capture: Capture,
}

impl Selection {
    pub(super) fn take(ebpf: &mut Ebpf, capture: Capture) -> Result<Self, MapError> {
        Ok(Self {
            processes: map(ebpf, "PROCESSES")?,
            cgroups: map(ebpf, "CGROUPS")?,
            listeners: map(ebpf, "LISTENERS")?,
            census: map(ebpf, "AGENTS_CENSUS")?,
            counts: FxHashMap::default(),
            mine: FxHashSet::default(),
            capture: Capture {
                request: capture.request.min(limits::LARGEST_CAPTURE),
                response: capture.response.min(limits::LARGEST_CAPTURE),
            },
        })
    }

    /// Selects a process, or changes what is said of it. Bits that the kernel has set stay.
    ///
    /// What the kernel changes between the look and the write is lost: so nothing is written where nothing is new, and
    /// what is new comes before the process serves anybody.
    ///
    /// The kernel takes a process out when it ends. One that may have ended before this must be looked for afterwards.
    pub fn select(&mut self, tgid: u32, flags: u64) -> Result<(), MapError> {
        match self.process(tgid) {
            Some(known) => self.change(tgid, known, known.flags | flags),
            None => self.enrol(tgid, flags),
        }
    }

    /// Selects a process that has executed a program, whatever was said of it before: of what it was, nothing is true
    /// of it any more.
    pub fn select_anew(&mut self, tgid: u32, flags: u64) -> Result<(), MapError> {
        match self.process(tgid) {
            Some(known) => self.change(tgid, known, known.flags & !JUDGED | flags),
            None => self.enrol(tgid, flags),
        }
    }

    /// Says more of a process, if it is selected.
    pub fn add(&mut self, tgid: u32, flags: u64) {
        if let Some(known) = self.process(tgid) {
            // Gone already if the process has ended.
            let _ = self.change(tgid, known, known.flags | flags);
        }
    }

    fn change(&mut self, tgid: u32, known: SelectedProcess, flags: u64) -> Result<(), MapError> {
        let value = self.value(SelectedProcess { flags, ..known });
        if value == known { Ok(()) } else { self.processes.insert(tgid, ProcessValue(value), BPF_EXIST) }
    }

    /// Selects a process that is not. It is counted before it is there to be found.
    fn enrol(&mut self, tgid: u32, flags: u64) -> Result<(), MapError> {
        if self.mine.insert(tgid) {
            self.count(tgid, 1)?;
        }
        let flags = flags | process_flag::BY_AGENT;
        let value = self.value(SelectedProcess { flags, ..SelectedProcess::default() });
        let enrolled = self.processes.insert(tgid, ProcessValue(value), BPF_NOEXIST);
        if enrolled.is_err() {
            self.ended(tgid);
        }
        match self.process(tgid) {
            // The kernel was faster.
            Some(known) if enrolled.is_err() => self.change(tgid, known, known.flags | flags & !process_flag::BY_AGENT),
            _ => enrolled,
        }
    }

    pub fn deselect(&mut self, tgid: u32) {
        // Gone already if the process has ended.
        let _ = self.processes.remove(&tgid);
        self.ended(tgid);
    }

    /// A process has ended, and the kernel taken it out.
    pub fn ended(&mut self, tgid: u32) {
        if self.mine.remove(&tgid) {
            // A count that stays too high costs a look-up.
            let _ = self.count(tgid, -1);
        }
    }

    /// Takes those out of the census whose end was not told.
    pub fn sweep(&mut self) {
        let gone: Vec<_> = self.mine.iter().copied().filter(|&tgid| self.process(tgid).is_none()).collect();
        for tgid in gone {
            self.ended(tgid);
        }
    }

    fn count(&mut self, tgid: u32, by: i64) -> Result<(), MapError> {
        let place = census_slot(tgid);
        let count = self.counts.entry(place).or_default();
        *count += by;
        let now = *count;
        if now == 0 {
            self.counts.remove(&place);
        }
        self.census.set(place, now, 0)
    }

    /// What is known of a process that is selected: its flags.
    #[must_use]
    pub fn flags(&self, tgid: u32) -> Option<u64> {
        self.process(tgid).map(|known| known.flags & !process_flag::BY_AGENT)
    }

    /// The processes that are selected now.
    #[must_use]
    pub fn selected(&self) -> Vec<u32> {
        self.processes.keys().filter_map(Result::ok).collect()
    }

    /// Selects what executes in the cgroup with this id or below, or is moved into it.
    pub fn select_cgroup(&mut self, id: u64) -> Result<(), MapError> {
        self.cgroups.insert(id, CaptureValue(self.capture), 0)
    }

    /// Says that something listened on `port` before the agent came.
    pub fn listening(&mut self, network_namespace: u32, port: u16) -> Result<(), MapError> {
        self.listeners.insert(ListenerKey(ListeningPort { network_namespace, port: u32::from(port) }), 1, 0)
    }

    fn process(&self, tgid: u32) -> Option<SelectedProcess> {
        self.processes.get(&tgid, 0).ok().map(|value| value.0)
    }

    fn value(&self, process: SelectedProcess) -> SelectedProcess {
        let Capture { request, response } = self.capture;
        SelectedProcess { request_capture: request, response_capture: response, ..process }
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selection").finish_non_exhaustive()
    }
}
