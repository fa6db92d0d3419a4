//! What the agent writes into the kernel side: which processes, how much of what, and which requests are complete.

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use onlooker_common::limits;
use onlooker_common::loss::Loss;
use onlooker_common::process::{Capture, Listener, SelectedProcess, Waiting};

/// Lets plain data of `common` be map keys and values.
macro_rules! plain {
    ($($name:ident: $of:ty;)+) => {
        $(
            #[repr(transparent)]
            #[derive(Debug, Clone, Copy)]
            struct $name($of);
            // SAFETY: repr(C) integers without padding, asserted in `common`: any bytes are a value.
            unsafe impl Pod for $name {}
        )+
    };
}

plain! {
    ProcessValue: SelectedProcess;
    ListenerKey: Listener;
    CaptureValue: Capture;
    WaitingValue: Waiting;
}

/// The maps that the agent writes.
pub struct Control {
    processes: HashMap<MapData, u32, ProcessValue>,
    cgroups: HashMap<MapData, u64, CaptureValue>,
    listeners: HashMap<MapData, ListenerKey, u32>,
    completed: HashMap<MapData, u64, u64>,
    waiting: HashMap<MapData, u64, WaitingValue>,
    raised: HashMap<MapData, u64, CaptureValue>,
    any_raised: Array<MapData, u32>,
    /// How many connections are raised.
    raises: u32,
    losses: PerCpuArray<MapData, u64>,
}

fn map<M: TryFrom<aya::maps::Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?.try_into()
}

impl Control {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            processes: map(ebpf, "PROCESSES")?,
            cgroups: map(ebpf, "CGROUPS")?,
            listeners: map(ebpf, "LISTENERS")?,
            completed: map(ebpf, "COMPLETED")?,
            waiting: map(ebpf, "WAITING")?,
            raised: map(ebpf, "RAISED")?,
            any_raised: map(ebpf, "ANY_RAISED")?,
            raises: 0,
            losses: map(ebpf, "LOSSES")?,
        })
    }

    /// Selects a process, or changes what is said of it. Bits that the kernel has set stay.
    ///
    /// What the kernel changes between the look and the write is lost: so nothing is written where nothing is new, and
    /// what is new comes before the process serves anybody.
    pub fn select(&mut self, tgid: u32, flags: u64, capture: Capture) -> Result<(), MapError> {
        let known = self.processes.get(&tgid, 0).map(|value| value.0);
        let before = known.as_ref().copied().unwrap_or_default();
        let value = SelectedProcess {
            flags: before.flags | flags,
            runnable: before.runnable,
            request_capture: capture.request.min(limits::LARGEST_CAPTURE),
            response_capture: capture.response.min(limits::LARGEST_CAPTURE),
        };
        if known.is_ok_and(|known| known == value) {
            return Ok(());
        }
        self.processes.insert(tgid, ProcessValue(value), 0)
    }

    /// Selects what executes in the cgroup with this id or below, or is moved into it.
    pub fn select_cgroup(&mut self, id: u64, capture: Capture) -> Result<(), MapError> {
        self.cgroups.insert(id, CaptureValue(capture), 0)
    }

    pub fn deselect(&mut self, tgid: u32) {
        // Gone already if the process has ended.
        let _ = self.processes.remove(&tgid);
    }

    /// What the kernel has learnt of a process: its flags.
    pub fn flags(&self, tgid: u32) -> Option<u64> {
        self.processes.get(&tgid, 0).ok().map(|value| value.0.flags)
    }

    /// Says that something listened on `port` before the agent came.
    pub fn listening(&mut self, network_namespace: u32, port: u16) -> Result<(), MapError> {
        self.listeners.insert(ListenerKey(Listener { network_namespace, port: u32::from(port) }), 1, 0)
    }

    /// Says that every request of the connection that begins before `until` is complete.
    pub fn completed(&mut self, cookie: u64, until: u64) -> Result<(), MapError> {
        self.completed.insert(cookie, until, 0)
    }

    /// Wants more bytes of a connection.
    pub fn raise(&mut self, cookie: u64, capture: Capture) -> Result<(), MapError> {
        let before = self.raised.get(&cookie, 0).map(|value| value.0);
        if before.as_ref().is_ok_and(|before| *before == capture) {
            return Ok(());
        }
        self.raised.insert(cookie, CaptureValue(capture), 0)?;
        if before.is_ok() { Ok(()) } else { self.count_raises(self.raises + 1) }
    }

    fn count_raises(&mut self, raises: u32) -> Result<(), MapError> {
        self.raises = raises;
        self.any_raised.set(0, u32::from(raises > 0), 0)
    }

    /// The connection is over.
    pub fn forget(&mut self, cookie: u64) {
        // Each is there only for some connections.
        let _ = self.completed.remove(&cookie);
        let _ = self.waiting.remove(&cookie);
        if self.raised.remove(&cookie).is_ok() {
            // A word that stays set costs a look-up.
            let _ = self.count_raises(self.raises.saturating_sub(1));
        }
    }

    /// What the kernel programs could not do: name, meaning, count.
    pub fn losses(&self) -> Vec<(&'static str, &'static str, u64)> {
        Loss::ALL
            .iter()
            .zip(0u32..)
            .map(|(&(name, help), index)| {
                let count = self.losses.get(&index, 0).map(|values| values.iter().sum()).unwrap_or(0);
                (name, help.trim_ascii(), count)
            })
            .collect()
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}
