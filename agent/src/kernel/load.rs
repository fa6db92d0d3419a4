//! Adapts the programs to the running kernel, loads them and attaches them.

use std::error::Error;
use std::fs::{self, File};
use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};

use aya::maps::{Array, SockHash};
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::trace_point::TracePointLink;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, FEntry, FExit, Program, ProgramError, ProgramInfo, SkMsg, SockOps, TracePoint,
    UProbe, loaded_programs,
};
use aya::{Btf, Ebpf, Endianness};
use aya_obj::generated::bpf_prog_type::BPF_PROG_TYPE_SK_MSG;
use onlooker_common::capture::Capture;
use onlooker_common::injection::{DESTINATIONS, Destination, LINES, PLACES, inject};
use onlooker_common::limits;
use onlooker_common::offsets::Offsets;
use rustc_hash::FxHashMap;

use super::control::Control;
use super::error::{LoadError, is_permission, not_loaded, why};
use super::functions::{FunctionLink, Location};
use super::keeper::Keeper;
use super::lines::{Lines, NAMES};
use super::loader;
use super::losses::Losses;
use super::multi::MultiPrograms;
use super::object::OBJECT;
use super::offsets::{self, MissingField};
use super::plain::DestinationValue;
use super::probes::{self, DECIDE, ENROL, INJECT, INJECT_DECIDED, Kind, PROBES, Probe, SENDS, Without};
use super::release;
use super::ring::Ring;
use super::selection::Selection;
use super::tracefs;
use super::types::{KernelTypes, Named, VMLINUX_BTF};
use super::units::UnitSources;

/// This part of the ring may fill up before the agent is woken. The rest holds 75 ms of 300,000 operations a second: a busy
/// host may let the agent wait for a processor, and when most of the ring is full, less is captured.
const WAKE_PART: u32 = 16;

/// The table of sockets whose requests get `traceparent`.
const ENROLLED: &str = "ENROLLED";

/// Entries of a table that is not used. Its memory is allocated when it is made.
const UNUSED: u32 = 16;

/// What can be chosen before the programs are loaded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Bytes captured of a run on a connection without a limit.
    pub run_capture: u32,
    /// Whether the programs write diagnostics.
    pub kernel_log: bool,
    /// The header lines that are added to requests, if some are.
    pub lines: Option<Lines>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: limits::RING_BYTES, run_capture: limits::RUN_CAPTURE, kernel_log: false, lines: None }
    }
}

/// The loaded programs. Dropping this detaches them all, and so does the end of the process.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    multi: Arc<MultiPrograms>,
    /// Ids of tracepoints and functions. Kept until the programs that need them are attached.
    btf: Option<Btf>,
    /// Members of kernel structs that this kernel does not have.
    pub missing: Vec<MissingField>,
    /// Programs that are attached, except those of event loops.
    pub attached: Vec<&'static Probe>,
    /// Programs that could not be attached and that nothing replaces, with the reason.
    pub unavailable: Vec<(&'static str, String)>,
    boundaries: Boundaries,
    /// If `traceparent` is added to requests.
    keeper: Option<Keeper>,
}

/// The programs on the system calls in which event loops wait.
#[derive(Debug)]
enum Boundaries {
    Detached,
    /// Dropping the links detaches the programs.
    Attached(#[expect(dead_code, reason = "held to stay attached")] Vec<TracePointLink>),
}

impl Kernel {
    /// Creates the maps. Programs are loaded when they are attached.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        if has_own_pids() {
            return Err(LoadError::PidNamespace);
        }
        let failed = |error: std::io::Error| LoadError::Btf(error.to_string());
        let (sender, offsets) = mpsc::channel();
        let types = spawn("types", move || read_types(&sender)).map_err(failed)?;
        // Meanwhile: aya finds out once what the kernel can do, by trying.
        let _ = aya::features();
        let mut loader = loader::without_types();
        // The ids of the same types are found while the maps are created.
        let Ok((offsets, missing)) = offsets.recv() else {
            join(types).map_err(failed)??;
            return Err(LoadError::Btf("the kernel's types were not read".to_owned()));
        };
        let wake_bytes = u64::from(options.ring_bytes / WAKE_PART);
        let log_level: u8 = if options.kernel_log { 5 } else { 0 };
        let words = words(&offsets);
        let injects = options.lines.is_some();
        let inject = match &options.lines {
            None => inject::NONE,
            Some(_) if release::sockets_may_stay() => inject::EVERY,
            Some(_) => inject::FIRST,
        };
        let lines = options.lines.as_ref();
        let (length, text) = (lines.map_or(0, |lines| lines.length() as u32), lines.map_or([0; LINES], Lines::text));
        let (places, names) = (lines.map_or([0; PLACES], Lines::places), lines.map_or([0; NAMES], Lines::field_names));
        let ebpf = loader
            .allow_unsupported_maps()
            .override_global("OFFSETS", words.as_slice(), true)
            .override_global("WAKE_BYTES", &wake_bytes, true)
            .override_global("RUN_CAPTURE", &options.run_capture, true)
            .override_global("INJECT", &inject, true)
            .override_global("WRITES_STATE", &u32::from(lines.is_some_and(Lines::have_state)), injects)
            .override_global("LINES_BYTES", &length, injects)
            .override_global("LINES", text.as_slice(), injects)
            .override_global("PLACES", places.as_slice(), injects)
            .override_global("FIELD_NAMES", names.as_slice(), injects)
            .override_global("AYA_LOG_LEVEL", &log_level, false)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries(ENROLLED, if injects { limits::ENROLLED } else { UNUSED })
            .map_max_entries("RECEIVED", if injects { limits::TRACES } else { UNUSED })
            .map_max_entries("STATES", if injects { limits::STATES } else { UNUSED })
            .map_max_entries("SENT", if injects { limits::TRACES } else { UNUSED })
            .load(OBJECT)
            .map_err(|error| {
                if is_permission(&error) { LoadError::NotPermitted(why(&error)) } else { LoadError::Load(why(&error)) }
            })?;
        let btf = join(types).map_err(failed)??;
        Ok(Self {
            multi: Arc::new(MultiPrograms::of(&ebpf)),
            ebpf,
            btf: Some(btf),
            missing,
            attached: Vec::new(),
            unavailable: Vec::new(),
            boundaries: Boundaries::Detached,
            keeper: None,
        })
    }

    /// Attaches the programs, once. Nothing is recorded before a process is selected. `functions`: programs for functions that are
    /// going to be needed. They are loaded on threads of their own, which go on after this.
    ///
    /// # Errors
    /// If a program without which nothing can be traced cannot be attached, nor those that replace it.
    pub fn attach(&mut self, functions: &'static [&'static str]) -> Result<(), LoadError> {
        let Some(btf) = self.btf.take() else { return Ok(()) };
        let mut outcomes = self.load_first_choices(&btf, functions);
        // The recorder comes last: changes of what it records are then seen from the beginning.
        let (recorder, others): (Vec<_>, Vec<_>) = first_choices().partition(|probe| probe.without == Without::Nothing);
        for probe in others.into_iter().chain(recorder) {
            let loaded = outcomes.remove(probe.name).unwrap_or_else(|| Err(no_program(probe.name)));
            match (loaded.and_then(|()| self.attach_loaded(probe)), probe.without) {
                (Ok(()), _) => {}
                (Err(error), Without::Nothing) => self.replace(probe, &btf, error)?,
                (Err(error), Without::Less(_)) => self.lacks(probe, &error),
            }
        }
        Ok(())
    }

    /// Loads the programs that replace no other, several at a time: the verifier takes up to 50 ms for each. When the last of them is
    /// begun, others have a processor: those for functions.
    fn load_first_choices(
        &mut self,
        btf: &Btf,
        functions: &'static [&'static str],
    ) -> FxHashMap<&'static str, Result<(), LoadError>> {
        let multi = Arc::clone(&self.multi);
        let mut programs: FxHashMap<_, _> = self.ebpf.programs_mut().collect();
        let mut queue: Vec<_> =
            first_choices().filter_map(|probe| Some((probe, programs.remove(probe.name)?))).collect();
        // Those of the recorder take the longest, and the first of them longer than all others. If they came last, one thread
        // would wait for the other at the end. The queue is read from its end.
        queue.sort_by_key(|(probe, _)| probe.without != Without::Nothing);
        queue.reverse();
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(queue.len());
        let (queue, outcomes) = (Mutex::new(queue), Mutex::new(FxHashMap::default()));
        // Unlocked again before the program is loaded.
        let next = || lock(&queue).pop();
        let all_begun = Once::new();
        let load = || {
            while let Some((probe, program)) = next() {
                let outcome = load_program(probe, program, btf);
                lock(&outcomes).insert(probe.name, outcome);
            }
            all_begun.call_once(|| load_functions(&multi, functions));
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // This thread loads what others do not.
                let _ = thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, load);
            }
            load();
        });
        outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches the programs that replace `probe`, which could not be attached because of `error`.
    fn replace(&mut self, probe: &'static Probe, btf: &Btf, error: LoadError) -> Result<(), LoadError> {
        let mut replaced = false;
        for other in probes::replacing(probe.name) {
            match (self.attach_one(other, btf), other.without) {
                (Ok(()), _) => replaced = true,
                // The one that is replaced needs the same privileges.
                (Err(_), Without::Nothing) if matches!(error, LoadError::NotPermitted(_)) => return Err(error),
                (Err(second), Without::Nothing) => {
                    let (program, first) = (probe.name, Box::new(error));
                    return Err(LoadError::NotReplaced { program, first, other: other.name, second: Box::new(second) });
                }
                (Err(second), Without::Less(_)) => self.lacks(other, &second),
            }
        }
        if !replaced {
            return Err(error);
        }
        tracing::info!(program = probe.name, %error, "replaced");
        Ok(())
    }

    fn lacks(&mut self, probe: &'static Probe, error: &LoadError) {
        tracing::info!(program = probe.name, %error, "not attached");
        self.unavailable.push((probe.name, error.to_string()));
    }

    fn attach_one(&mut self, probe: &'static Probe, btf: &Btf) -> Result<(), LoadError> {
        load_program(probe, program_mut(&mut self.ebpf, probe.name)?, btf)?;
        self.attach_loaded(probe)
    }

    fn attach_loaded(&mut self, probe: &'static Probe) -> Result<(), LoadError> {
        let program = program_mut(&mut self.ebpf, probe.name)?;
        let outcome = match probe.kind {
            Kind::BtfTracepoint => <&mut BtfTracePoint>::try_from(program).and_then(|found| found.attach().map(drop)),
            Kind::Fexit => <&mut FExit>::try_from(program).and_then(|found| found.attach().map(drop)),
            // Attached when it is needed: by `attach_boundaries`, `FunctionPrograms` and `inject_into`.
            Kind::Fentry
            | Kind::SystemCall
            | Kind::Function
            | Kind::Return
            | Kind::SocketOperations
            | Kind::SocketMessage => Ok(()),
        };
        outcome.map_err(|error| LoadError::Attach { program: probe.name, why: why(&error) })?;
        self.attached.push(probe);
        Ok(())
    }

    /// Attaches the programs that end the ticks of event loops. They cost every system call of the host a little, so they
    /// are attached only while a selected process needs them.
    pub fn attach_boundaries(&mut self) {
        if matches!(self.boundaries, Boundaries::Attached(_)) {
            return;
        }
        let ebpf = &mut self.ebpf;
        let rows = PROBES.iter().filter(|probe| probe.kind == Kind::SystemCall);
        let outcomes =
            tracefs::with(|| -> Vec<_> { rows.map(|probe| (probe.name, attach_boundary(ebpf, probe.name))).collect() });
        let mut links = Vec::new();
        let mut failed = Vec::new();
        match outcomes {
            Ok(outcomes) => {
                for (name, outcome) in outcomes {
                    match outcome {
                        Ok(link) => links.push(link),
                        Err(error) => failed.push((name, error.to_string())),
                    }
                }
            }
            Err(error) => failed.push((TRACEFS, error.to_string())),
        }
        self.boundaries = Boundaries::Attached(links);
        // They may be attached many times, and fail each time.
        failed.retain(|failure| !self.unavailable.contains(failure));
        for (name, error) in failed {
            tracing::warn!(%error, "cannot attach {name}: event loops that wait there have no ticks");
            self.unavailable.push((name, error));
        }
    }

    /// Detaches them.
    pub fn detach_boundaries(&mut self) {
        self.boundaries = Boundaries::Detached;
    }

    /// Loads the programs for functions of processes, which shows whether the kernel accepts them. They are not attached.
    pub fn try_functions(&mut self) {
        for probe in PROBES.iter().filter(|probe| matches!(probe.kind, Kind::Function | Kind::Return)) {
            // They need none of the kernel's types.
            if let Err(error) = self.load_one(probe.name, &Btf::new()) {
                self.lacks(probe, &error);
            }
        }
    }

    /// Attaches a program to one function, as far as the process `pid` executes it.
    ///
    /// # Errors
    /// If the program cannot be loaded, or the file has no instruction there.
    pub(super) fn attach_function(&mut self, location: &Location<'_>, pid: u32) -> Result<FunctionLink, LoadError> {
        let Location { program: name, cookie, path, offset } = *location;
        let failed = |error: ProgramError| LoadError::Attach { program: name, why: why(&error) };
        let program = <&mut UProbe>::try_from(program_mut(&mut self.ebpf, name)?).map_err(failed)?;
        match program.load() {
            // It was attached before.
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(error) => return Err(not_loaded(name, error)),
        }
        let scope = UProbeScope::OneProcess(NonZero::new(pid).ok_or_else(|| no_program(name))?);
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(offset),
            cookie: (cookie != 0).then_some(cookie),
        };
        let link = program.attach(point, path, scope).and_then(|link| program.take_link(link)).map_err(failed)?;
        Ok(FunctionLink::one(link))
    }

    /// Loads the programs that add `traceparent` to requests, once.
    ///
    /// # Errors
    /// If this kernel cannot run them.
    pub fn prepare_injection(&mut self) -> Result<(), LoadError> {
        if let Some(name) = Self::foreign_program() {
            let why = format!("the program {name} of somebody else is attached to sockets, which can have only one");
            return Err(LoadError::Attach { program: INJECT, why });
        }
        // These two need none of the kernel's types.
        let no_types = Btf::new();
        self.load_one(ENROL, &no_types)?;
        let inject = match self.load_one(INJECT, &no_types) {
            Ok(()) => INJECT,
            Err(error) if is_too_old(&error) => {
                self.decide_before()?;
                INJECT_DECIDED
            }
            Err(error) => return Err(error),
        };
        let failed = |error: &dyn Error| LoadError::Attach { program: INJECT, why: why(error) };
        let table =
            self.ebpf.map(ENROLLED).ok_or_else(|| LoadError::Load(format!("the object has no map {ENROLLED}")))?;
        let table = SockHash::<_, u64>::try_from(table).map_err(|error| failed(&error))?;
        let table = table.fd().try_clone().map_err(|error| failed(&error))?;
        let program = <&mut SkMsg>::try_from(program_mut(&mut self.ebpf, inject)?).map_err(|error| failed(&error))?;
        program.attach(&table).map_err(|error| failed(&error))?;
        self.keeper = Some(Keeper::start(table.as_fd()).map_err(|error| failed(&error))?);
        Ok(())
    }

    /// Before Linux 6.16, the program that sees what is sent cannot use the storage of threads. Another program decides owner and ids,
    /// when the function is called that passes the data on.
    fn decide_before(&mut self) -> Result<(), LoadError> {
        let failed = |why: String| LoadError::Attach { program: DECIDE, why };
        if self.attached.iter().all(|probe| probe.name != SENDS) {
            return Err(failed(
                "this kernel has no tracepoint of socket operations (Linux 6.3 has), and the programs that replace it see nothing of enrolled sockets"
                    .to_owned(),
            ));
        }
        let names = [(DECIDE.to_owned(), Named::Function)].into_iter().collect();
        let types = KernelTypes::read(Path::new(VMLINUX_BTF), &names).map_err(|error| failed(why(&error)))?;
        let types = Btf::parse(&types.reduced(), Endianness::default()).map_err(|error| failed(why(&error)))?;
        self.load_one(INJECT_DECIDED, &types)?;
        self.load_one(DECIDE, &types)?;
        let program = <&mut FEntry>::try_from(program_mut(&mut self.ebpf, DECIDE)?);
        program.and_then(|program| program.attach().map(drop)).map_err(|error| failed(why(&error)))
    }

    /// Loads a program by its name.
    fn load_one(&mut self, name: &'static str, btf: &Btf) -> Result<(), LoadError> {
        let probe = PROBES.iter().find(|probe| probe.name == name).ok_or_else(|| no_program(name))?;
        load_program(probe, program_mut(&mut self.ebpf, name)?, btf)
    }

    /// Whether another program than an agent's is attached to what is sent on sockets. A socket can have only one.
    fn foreign_program() -> Option<String> {
        // Listing programs needs CAP_SYS_ADMIN. Without it, a socket that has another program is left alone and counted.
        let programs = loaded_programs().filter_map(Result::ok);
        let mut foreign = programs
            .filter(|program| program.program_type() == BPF_PROG_TYPE_SK_MSG && program.name_as_str() != Some(INJECT));
        foreign.next().map(|program| program.name_as_str().unwrap_or_default().to_owned())
    }

    /// Changes where a trace context is added. There must be at most [`DESTINATIONS`] rules.
    ///
    /// # Errors
    /// If the kernel does not take them.
    pub fn set_destinations(&mut self, rules: &[Destination]) -> Result<(), LoadError> {
        let failed = |error: &dyn Error| LoadError::Load(why(error));
        let map = self
            .ebpf
            .map_mut("DESTINATIONS")
            .ok_or_else(|| LoadError::Load("the object has no such map".to_owned()))?;
        let mut map = Array::<_, DestinationValue>::try_from(map).map_err(|error| failed(&error))?;
        let end = std::iter::repeat(Destination::default());
        // From the last one, so that what is denied at the end is denied meanwhile.
        let all: Vec<_> = rules.iter().copied().chain(end).take(DESTINATIONS).collect();
        for (index, rule) in all.into_iter().enumerate().rev() {
            map.set(index as u32, DestinationValue(rule), 0).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Forgets what was counted, before anything is selected.
    pub fn reset_losses(&mut self) -> Result<(), LoadError> {
        Losses::reset(&mut self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// Adds `traceparent` to the requests of selected processes in a cgroup and below it, as long as the link exists.
    ///
    /// # Errors
    /// If the kernel refuses to attach to the cgroup, or if [`Self::prepare_injection`] failed.
    pub fn inject_into(&mut self, cgroup: &File) -> Result<SockOpsLink, LoadError> {
        let failed = |error: ProgramError| LoadError::Attach { program: ENROL, why: why(&error) };
        let program = <&mut SockOps>::try_from(program_mut(&mut self.ebpf, ENROL)?).map_err(failed)?;
        // The mode is for attaching without links. Links leave other programs attached, and the kernel takes no flags for them.
        let link = program.attach(cgroup, CgroupAttachMode::Single).map_err(failed)?;
        program.take_link(link).map_err(failed)
    }

    /// The programs that are attached to many functions with one link.
    pub(super) fn multi(&self) -> Arc<MultiPrograms> {
        Arc::clone(&self.multi)
    }

    /// The ring buffer. Can be taken once.
    pub fn ring(&mut self) -> Result<Ring, LoadError> {
        Ring::take(&mut self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// What is written back about connections. Can be taken once.
    pub fn control(&mut self) -> Result<Control, LoadError> {
        Control::take(&mut self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// What is written back about processes: which are selected, and how much of them is captured. Can be taken once.
    pub fn selection(&mut self, capture: Capture) -> Result<Selection, LoadError> {
        Selection::take(&mut self.ebpf, capture).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// How units of work are read. Can be taken once.
    pub fn unit_sources(&mut self) -> Result<UnitSources, LoadError> {
        UnitSources::take(&mut self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// The programs' loss counters.
    pub fn losses(&self) -> Result<Losses, LoadError> {
        Losses::of(&self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// The programs' own diagnostics, for `--kernel-log`.
    pub fn logger(&mut self) -> Result<Log, LoadError> {
        aya_log::EbpfLogger::init(&mut self.ebpf).map_err(|error| LoadError::Load(why(&error)))
    }
}

/// The name under which `unavailable` has a tracefs that cannot be read.
pub(super) const TRACEFS: &str = "tracefs";

/// A cgroup whose requests get `traceparent`, as long as this exists.
pub type CgroupLink = SockOpsLink;

/// Forwards the programs' diagnostics.
pub type Log = aya_log::EbpfLogger<&'static dyn log::Log>;

/// Whether this process is in another pid namespace than the kernel's first. The programs see the ids of the first.
fn has_own_pids() -> bool {
    /// `include/linux/proc_ns.h:PROC_PID_INIT_INO`
    const FIRST: u64 = 0xEFFF_FFFC;
    // Without /proc nothing is selected, and other errors say so.
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != FIRST)
}

/// Reads the kernel's types: sends the offsets that the programs need, and returns the ids to attach to.
fn read_types(found: &mpsc::Sender<(Offsets, Vec<MissingField>)>) -> Result<Btf, LoadError> {
    let failed = |error: &dyn Error| LoadError::Btf(why(error));
    let mut names = offsets::structs();
    names.extend(PROBES.iter().filter_map(|probe| match probe.kind {
        Kind::BtfTracepoint => Some((format!("btf_trace_{}", probe.name), Named::Typedef)),
        Kind::Fexit => Some((probe.name.to_owned(), Named::Function)),
        _ => None,
    }));
    let types = KernelTypes::read(Path::new(VMLINUX_BTF), &names).map_err(|error| failed(&error))?;
    // This fails only if loading has failed.
    let _ = found.send(offsets::resolve(&types));
    Btf::parse(&types.reduced(), Endianness::default()).map_err(|error| failed(&error))
}

/// The programs that are attached at the start if they can be.
fn first_choices() -> impl Iterator<Item = &'static Probe> {
    PROBES.iter().filter(|probe| probe.replaces.is_none() && !probe.kind.is_on_demand())
}

fn load_program(probe: &Probe, program: &mut Program, btf: &Btf) -> Result<(), LoadError> {
    let Probe { name, kind, .. } = *probe;
    let outcome = match kind {
        Kind::BtfTracepoint => <&mut BtfTracePoint>::try_from(&mut *program).and_then(|found| found.load(name, btf)),
        Kind::Fexit => <&mut FExit>::try_from(&mut *program).and_then(|found| found.load(name, btf)),
        Kind::Fentry => <&mut FEntry>::try_from(&mut *program).and_then(|found| found.load(name, btf)),
        Kind::SystemCall => <&mut TracePoint>::try_from(&mut *program).and_then(TracePoint::load),
        Kind::Function | Kind::Return => <&mut UProbe>::try_from(&mut *program).and_then(UProbe::load),
        Kind::SocketOperations => <&mut SockOps>::try_from(&mut *program).and_then(SockOps::load),
        Kind::SocketMessage => <&mut SkMsg>::try_from(&mut *program).and_then(SkMsg::load),
    };
    outcome.map_err(|error| not_loaded(name, error))?;
    log_loaded(name, program.info());
    Ok(())
}

fn log_loaded(program: &str, info: Result<ProgramInfo, ProgramError>) {
    if let Ok(info) = info {
        // The verifier gives up at a million.
        tracing::debug!(program, verified_instructions = info.verified_instruction_count(), "loaded");
    }
}

/// Loads programs for functions, so that attaching does not wait for that. Does nothing where each function is attached to by itself.
fn load_functions(multi: &Arc<MultiPrograms>, programs: &'static [&'static str]) {
    for program in programs {
        let multi = Arc::clone(multi);
        // Without the thread it is loaded when it is attached. A failure is reported then.
        let _ = spawn("load", move || drop(multi.program(program)));
    }
}

/// Whether the kernel does not let a program of this kind call a function. Linux has two messages for it.
fn is_too_old(error: &LoadError) -> bool {
    let says = |log: &str| log.contains("cannot use helper") || log.contains("unknown func");
    matches!(error, LoadError::Rejected { log, .. } if says(log))
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn join<T>(thread: JoinHandle<T>) -> std::io::Result<T> {
    thread.join().map_err(|_| std::io::Error::other("the thread that reads it panicked"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_program(name: &str) -> LoadError {
    LoadError::Load(format!("the object has no program {name}"))
}

fn program_mut<'ebpf>(ebpf: &'ebpf mut Ebpf, name: &str) -> Result<&'ebpf mut Program, LoadError> {
    ebpf.program_mut(name).ok_or_else(|| no_program(name))
}

fn attach_boundary(ebpf: &mut Ebpf, name: &'static str) -> Result<TracePointLink, LoadError> {
    let attach = |error: ProgramError| LoadError::Attach { program: name, why: why(&error) };
    let program = <&mut TracePoint>::try_from(program_mut(ebpf, name)?).map_err(attach)?;
    match program.load() {
        Ok(()) => log_loaded(name, program.info()),
        // It was attached before.
        Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(not_loaded(name, error)),
    }
    let link = program.attach("syscalls", name).map_err(attach)?;
    program.take_link(link).map_err(attach)
}

/// The table as the words that the object's global consists of.
fn words(table: &Offsets) -> Vec<u32> {
    const WORDS: usize = size_of::<Offsets>() / size_of::<u32>();
    // SAFETY: Offsets is repr(C) and has only u32 fields.
    unsafe { std::mem::transmute::<Offsets, [u32; WORDS]>(*table) }.to_vec()
}
