//! Which processes the kernel side records, and what it is told of them.

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use onlooker_common::limits;
use onlooker_common::process::{Capture, Listener, SelectedProcess, process_flag};

use super::map;
use super::plain::{CaptureValue, ListenerKey, ProcessValue};

/// What is judged by the program that runs: all of it is said anew when another is executed.
const JUDGED: u64 = process_flag::LOOP | process_flag::NO_QUEUE | process_flag::SCHEDULER;
/// include/uapi/linux/bpf.h: fails with ENOENT where there is no such entry.
const BPF_EXIST: u64 = 2;

/// The maps that say who is recorded.
pub struct Selection {
    processes: HashMap<MapData, u32, ProcessValue>,
    cgroups: HashMap<MapData, u64, CaptureValue>,
    listeners: HashMap<MapData, ListenerKey, u32>,
    capture: Capture,
}

impl Selection {
    pub(super) fn take(ebpf: &mut Ebpf, capture: Capture) -> Result<Self, MapError> {
        Ok(Self {
            processes: map(ebpf, "PROCESSES")?,
            cgroups: map(ebpf, "CGROUPS")?,
            listeners: map(ebpf, "LISTENERS")?,
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
        let known = self.process(tgid);
        let value = self.value(known, known.map_or(0, |known| known.flags) | flags);
        if known == Some(value) { Ok(()) } else { self.processes.insert(tgid, ProcessValue(value), 0) }
    }

    /// Selects a process that has executed a program, whatever was said of it before: of what it was, nothing is true
    /// of it any more.
    pub fn select_anew(&mut self, tgid: u32, flags: u64) -> Result<(), MapError> {
        let known = self.process(tgid);
        let value = self.value(known, known.map_or(0, |known| known.flags & !JUDGED) | flags);
        if known == Some(value) { Ok(()) } else { self.processes.insert(tgid, ProcessValue(value), 0) }
    }

    /// Says more of a process, if it is selected.
    pub fn add(&mut self, tgid: u32, flags: u64) {
        if let Some(known) = self.process(tgid)
            && known.flags | flags != known.flags
        {
            // Gone already if the process has ended.
            let value = self.value(Some(known), known.flags | flags);
            let _ = self.processes.insert(tgid, ProcessValue(value), BPF_EXIST);
        }
    }

    pub fn deselect(&mut self, tgid: u32) {
        // Gone already if the process has ended.
        let _ = self.processes.remove(&tgid);
    }

    /// What is known of a process that is selected: its flags.
    #[must_use]
    pub fn flags(&self, tgid: u32) -> Option<u64> {
        self.process(tgid).map(|known| known.flags)
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
        self.listeners.insert(ListenerKey(Listener { network_namespace, port: u32::from(port) }), 1, 0)
    }

    fn process(&self, tgid: u32) -> Option<SelectedProcess> {
        self.processes.get(&tgid, 0).ok().map(|value| value.0)
    }

    fn value(&self, known: Option<SelectedProcess>, flags: u64) -> SelectedProcess {
        SelectedProcess {
            flags,
            request_capture: self.capture.request,
            response_capture: self.capture.response,
            ..known.unwrap_or_default()
        }
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selection").finish_non_exhaustive()
    }
}
