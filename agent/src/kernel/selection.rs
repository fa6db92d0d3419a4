//! Selects processes in the kernel, and sets their flags.

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};
use onlooker_common::capture::Capture;
use onlooker_common::limits;
use onlooker_common::selection::{
    Executable, Interest, ListeningPort, PROGRAM_NAME_BYTES, ProgramName, SelectedProcess, census_slot, name,
    process_flag, verdict,
};
use onlooker_common::unit;
use rustc_hash::{FxHashMap, FxHashSet};

use super::map;
use super::plain::{CaptureValue, ExecutableKey, InterestValue, ListenerKey, ProcessValue};

/// Flags that follow from the program that runs. They are set anew when the process executes another.
const OF_PROGRAM: u64 = process_flag::LOOP
    | process_flag::NO_QUEUE
    | process_flag::SCHEDULER
    | process_flag::VIRTUAL_THREADS
    | process_flag::STAYS_ENROLLED
    | process_flag::NOT_INJECTED;
/// Flags that are cleared when the agent selects a process without giving them.
const UNLESS_GIVEN: u64 = process_flag::UNDECIDED | process_flag::NOT_INJECTED;
/// Flags of processes that only a port selects.
pub const BY_PORT: u64 = process_flag::PORT_HOLDER | process_flag::CANDIDATE;
/// include/uapi/linux/bpf.h: fails with EEXIST if the entry exists.
const BPF_NOEXIST: u64 = 1;
/// The same: fails with ENOENT if the entry does not exist.
const BPF_EXIST: u64 = 2;

/// The maps that select processes.
pub struct Selection {
    processes: HashMap<MapData, u32, ProcessValue>,
    cgroups: HashMap<MapData, u64, CaptureValue>,
    names: LpmTrie<MapData, ProgramName, u32>,
    interest: Array<MapData, InterestValue>,
    verdicts: HashMap<MapData, ExecutableKey, u32>,
    listeners: HashMap<MapData, ListenerKey, u32>,
    ports: Array<MapData, u64>,
    census: Array<MapData, i64>,
    /// What `census` has: numbers of processes by slot.
    counts: FxHashMap<u32, i64>,
    /// The processes that it counts.
    counted: FxHashSet<u32>,
    capture: Capture,
    /// What `names` has.
    reported_names: FxHashSet<(u32, ProgramName)>,
    /// What `ports` has.
    selected_ports: Vec<u64>,
}

impl Selection {
    pub(super) fn take(ebpf: &mut Ebpf, capture: Capture) -> Result<Self, MapError> {
        Ok(Self {
            processes: map(ebpf, "PROCESSES")?,
            cgroups: map(ebpf, "CGROUPS")?,
            names: map(ebpf, "NAMES")?,
            interest: map(ebpf, "INTEREST")?,
            verdicts: map(ebpf, "VERDICTS")?,
            listeners: map(ebpf, "LISTENERS")?,
            ports: map(ebpf, "PORTS")?,
            census: map(ebpf, "AGENTS_CENSUS")?,
            counts: FxHashMap::default(),
            counted: FxHashSet::default(),
            reported_names: FxHashSet::default(),
            selected_ports: vec![0; limits::PORT_WORDS as usize],
            capture: Capture {
                request: capture.request.min(limits::LARGEST_CAPTURE),
                response: capture.response.min(limits::LARGEST_CAPTURE),
            },
        })
    }

    /// Selects a process, or adds flags to a selected one. Flags that the kernel programs set are kept.
    ///
    /// A change that a kernel program makes between the read and the write is lost. So nothing is written if nothing
    /// changes, and flags are set before the process serves requests.
    ///
    /// The kernel programs remove a process when it ends. If it may have ended before this call, the caller must check
    /// afterwards that it exists.
    pub fn select(&mut self, tgid: u32, flags: u64) -> Result<(), MapError> {
        match self.process(tgid) {
            Some(known) => self.change(tgid, known, known.flags & !UNLESS_GIVEN | given(known, flags)),
            None => self.insert(tgid, flags),
        }
    }

    /// Selects a process that has executed a program. Flags of its former program are cleared.
    pub fn select_anew(&mut self, tgid: u32, flags: u64) -> Result<(), MapError> {
        match self.process(tgid) {
            Some(known) => {
                let anew = SelectedProcess { flags: known.flags & !OF_PROGRAM, ..known };
                self.change(tgid, known, anew.flags & !UNLESS_GIVEN | given(anew, flags))
            }
            None => self.insert(tgid, flags),
        }
    }

    /// Adds flags to a process, if it is selected.
    pub fn add(&mut self, tgid: u32, flags: u64) {
        if let Some(known) = self.process(tgid) {
            // Gone already if the process has ended.
            let _ = self.change(tgid, known, known.flags | still_true(known, flags & !BY_PORT));
        }
    }

    /// Changes how far a process is selected, if that says more than is known. `standing` is `PORT_HOLDER`, `CANDIDATE` or 0: a
    /// selector other than a port matches.
    pub fn stand(&mut self, tgid: u32, standing: u64) {
        let Some(known) = self.process(tgid) else { return };
        let flags = match standing {
            process_flag::CANDIDATE => return,
            process_flag::PORT_HOLDER if known.flags & process_flag::CANDIDATE == 0 => return,
            _ => known.flags & !BY_PORT | standing,
        };
        // Gone already if the process has ended.
        let _ = self.change(tgid, known, flags);
    }

    /// Whether a trace context is added to requests of a selected process, on connections that it opens from now on.
    pub fn inject(&mut self, tgid: u32, injects: bool) {
        let Some(known) = self.process(tgid) else { return };
        let off = if injects { 0 } else { process_flag::NOT_INJECTED };
        // Gone already if the process has ended.
        let _ = self.change(tgid, known, known.flags & !process_flag::NOT_INJECTED | off);
    }

    fn change(&mut self, tgid: u32, known: SelectedProcess, flags: u64) -> Result<(), MapError> {
        let value = self.value(SelectedProcess { flags, ..known });
        if value == known { Ok(()) } else { self.processes.insert(tgid, ProcessValue(value), BPF_EXIST) }
    }

    /// Selects a process that is not selected. The census is raised first: once the entry exists, no program may miss it.
    fn insert(&mut self, tgid: u32, flags: u64) -> Result<(), MapError> {
        if self.counted.insert(tgid) {
            self.count(tgid, 1)?;
        }
        let flags = flags | process_flag::BY_AGENT;
        let value = self.value(SelectedProcess { flags, ..SelectedProcess::default() });
        let inserted = self.processes.insert(tgid, ProcessValue(value), BPF_NOEXIST);
        if inserted.is_err() {
            self.ended(tgid);
        }
        match self.process(tgid) {
            // A kernel program selected it first.
            Some(known) if inserted.is_err() => {
                let kept = known.flags & !UNLESS_GIVEN;
                self.change(tgid, known, kept | given(known, flags & !process_flag::BY_AGENT))
            }
            _ => inserted,
        }
    }

    pub fn deselect(&mut self, tgid: u32) {
        // Gone already if the process has ended. Then a kernel program that had counted the process has lowered its count.
        let removed = self.processes.remove(&tgid).is_ok();
        if self.counted.contains(&tgid) {
            self.ended(tgid);
        } else if removed {
            let _ = self.count(tgid, -1);
        }
    }

    /// A process ended, and a kernel program removed it.
    pub fn ended(&mut self, tgid: u32) {
        if self.counted.remove(&tgid) {
            // A count that stays too high only costs lookups.
            let _ = self.count(tgid, -1);
        }
    }

    /// Removes processes from the census whose end was not reported.
    pub fn sweep(&mut self) {
        let gone: Vec<_> = self.counted.iter().copied().filter(|&tgid| self.process(tgid).is_none()).collect();
        for tgid in gone {
            self.ended(tgid);
        }
    }

    fn count(&mut self, tgid: u32, by: i64) -> Result<(), MapError> {
        let slot = census_slot(tgid);
        let count = self.counts.entry(slot).or_default();
        *count += by;
        let now = *count;
        if now == 0 {
            self.counts.remove(&slot);
        }
        self.census.set(slot, now, 0)
    }

    /// Whether the kernel programs read the unit of work of a process.
    #[must_use]
    pub fn reads_unit(&self, tgid: u32) -> bool {
        self.process(tgid).is_some_and(|known| known.unit.kind != unit::NONE)
    }

    /// The flags of a process, if it is selected.
    #[must_use]
    pub fn flags(&self, tgid: u32) -> Option<u64> {
        let decided = self.process(tgid).filter(|known| known.flags & process_flag::UNDECIDED == 0);
        decided.map(|known| known.flags & !process_flag::BY_AGENT)
    }

    /// The selected processes.
    #[must_use]
    pub fn selected(&self) -> Vec<u32> {
        self.processes.keys().filter_map(Result::ok).collect()
    }

    /// Selects every process that executes a program in the cgroup or below it, or that is moved into it.
    pub fn select_cgroup(&mut self, id: u64) -> Result<(), MapError> {
        self.cgroups.insert(id, CaptureValue(self.capture), 0)
    }

    /// Asks the kernel programs to report processes that execute a program whose file name begins with `beginning`, or is
    /// `beginning` if `whole`. Longer names may be reported too.
    pub fn report_name(&mut self, beginning: &[u8], whole: bool) -> Result<(), MapError> {
        let (bits, name) = name_key(beginning, whole);
        // Programs of any name are not recorded before they are known to be selected.
        let how = if bits == 0 { name::REPORTED } else { name::RECORDED };
        self.names.insert(&Key::new(bits, name), how, 0)?;
        self.reported_names.insert((bits, name));
        Ok(())
    }

    /// Stops reporting all names but these, and selecting all cgroups but these. Rules have changed.
    pub fn forget_others<'name>(
        &mut self,
        names: impl Iterator<Item = (&'name [u8], bool)>,
        cgroups: &[u64],
    ) -> Result<(), MapError> {
        let names: FxHashSet<_> = names.map(|(beginning, whole)| name_key(beginning, whole)).collect();
        let others: Vec<_> = self.reported_names.difference(&names).copied().collect();
        for (bits, name) in others {
            self.names.remove(&Key::new(bits, name))?;
            self.reported_names.remove(&(bits, name));
        }
        let selected: Vec<_> = self.cgroups.keys().filter_map(Result::ok).collect();
        for id in selected.iter().filter(|id| !cgroups.contains(id)) {
            self.cgroups.remove(id)?;
        }
        Ok(())
    }

    /// Sets what the kernel programs report of processes that are not selected: bits of
    /// [`interest`](onlooker_common::selection::interest).
    pub fn set_interest(&mut self, interest: u32) -> Result<(), MapError> {
        self.interest.set(0, InterestValue(Interest { what: interest, capture: self.capture }), 0)
    }

    /// Makes the kernel programs select every process that executes this, or not.
    pub fn remember(&mut self, executable: Executable, selected: bool) {
        let verdict = if selected { verdict::SELECTED } else { verdict::NOT_SELECTED };
        // Without the entry, the agent is asked again.
        let _ = self.verdicts.insert(ExecutableKey(executable), verdict, 0);
    }

    /// Forgets which executables are selected: the selectors changed, or files may have been renamed.
    pub fn forget_verdicts(&mut self) {
        let known: Vec<_> = self.verdicts.keys().filter_map(Result::ok).collect();
        for executable in known {
            let _ = self.verdicts.remove(&executable);
        }
    }

    /// An undecided process is selected, because the process that forked it is.
    pub fn confirm(&mut self, tgid: u32) {
        if let Some(known) = self.process(tgid)
            && known.flags & process_flag::UNDECIDED != 0
        {
            let _ = self.change(tgid, known, known.flags & !process_flag::UNDECIDED);
        }
    }

    /// An undecided process is not selected: nothing more is recorded of it.
    pub fn reject(&mut self, tgid: u32) {
        if self.process(tgid).is_some_and(|known| known.flags & process_flag::UNDECIDED != 0) {
            self.deselect(tgid);
        }
    }

    /// Selects these ports and no others: candidates that use their connections are recorded from then on.
    pub fn select_ports(&mut self, ports: impl Iterator<Item = u16>) -> Result<(), MapError> {
        let mut words = [0_u64; limits::PORT_WORDS as usize];
        for port in ports {
            words[usize::from(port / 64)] |= 1 << (port % 64);
        }
        for (index, (word, before)) in (0..).zip(words.into_iter().zip(&mut self.selected_ports)) {
            if word != *before {
                self.ports.set(index, word, 0)?;
                *before = word;
            }
        }
        Ok(())
    }

    /// Notes that a process listened on `port` before the agent started.
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

/// The flags that a selected process is given. How far a port selects it is decided by [`Selection::stand`], or now.
fn given(known: SelectedProcess, flags: u64) -> u64 {
    let flags = still_true(known, flags);
    if known.flags & process_flag::UNDECIDED == 0 { flags & !BY_PORT } else { flags }
}

/// The threads of a JVM count as an event loop until its virtual threads are read. The caller may not know that they are.
fn still_true(known: SelectedProcess, flags: u64) -> u64 {
    if known.flags & process_flag::VIRTUAL_THREADS == 0 { flags } else { flags & !process_flag::LOOP }
}

/// A name as the key of the map: how many of its bits count, and its bytes. The NUL after a whole name counts too. Names are
/// compared as far as the kernel knows them.
fn name_key(beginning: &[u8], whole: bool) -> (u32, ProgramName) {
    let known = &beginning[..beginning.len().min(PROGRAM_NAME_BYTES - 1)];
    let mut name = ProgramName::default();
    name[..known.len()].copy_from_slice(known);
    let ends = whole && known.len() == beginning.len();
    (8 * (known.len() + usize::from(ends)) as u32, name)
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole(b"curl", true, 40, b"curl\0\0\0\0\0\0\0\0\0\0\0\0")]
    #[case::beginning(b"python3", false, 56, b"python3\0\0\0\0\0\0\0\0\0")]
    #[case::any(b"", false, 0, &[0; 16])]
    #[case::as_long_as_known(b"postgres_export", true, 128, b"postgres_export\0")]
    #[case::longer_than_known(b"postgres_exporter", true, 120, b"postgres_export\0")]
    fn a_name_is_compared_as_far_as_the_kernel_knows_it(
        #[case] beginning: &[u8],
        #[case] whole: bool,
        #[case] bits: u32,
        #[case] name: &ProgramName,
    ) {
        assert_eq!(name_key(beginning, whole), (bits, *name));
    }
}
