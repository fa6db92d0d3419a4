//! Fits the programs to the running kernel, loads them and attaches them.

use std::path::Path;

use aya::programs::trace_point::TracePointLink;
use aya::programs::{Program, ProgramError, TracePoint};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use onlooker_common::capture::Capture;
use onlooker_common::limits;
use onlooker_common::offsets::Offsets;

use super::control::Control;
use super::losses::Losses;
use super::offsets::{self, MissingField};
use super::probes::{AT_START, EVENT_LOOPS, Hook, Need, Probes, ProgramSet, RECORDER};
use super::ring::Ring;
use super::selection::Selection;
use super::tracefs;

/// Where the kernel tells its types.
pub(super) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What can be chosen before the programs are loaded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of the ring from kernel to agent: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Whether the programs' own diagnostics are shown.
    pub kernel_log: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: limits::RING_BYTES, kernel_log: false }
    }
}

/// Why the programs can't run here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "cannot read the kernel's BTF at {VMLINUX_BTF}: {0}; Onlooker needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Btf(String),
    #[error(
        "loading programs into the kernel is not permitted: {0}; run as root, or grant CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE"
    )]
    NotPermitted(String),
    #[error("cannot load the kernel programs: {0}")]
    Load(String),
    /// `end` is the end of the verifier's log.
    #[error("the verifier of this kernel rejects the program {name} ({why}); please report this:\n{end}")]
    Rejected { name: &'static str, why: String, end: String },
    #[error("cannot attach the program {name}: {why}")]
    Attach { name: &'static str, why: String },
    #[error("no set of {purpose} programs can be used: {}", .why.join("; "))]
    NoSet { purpose: &'static str, why: Vec<String> },
}

/// The loaded programs. Dropping it detaches them all; so does the end of the process, however it comes.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    /// The kernel's types, several MiB: as long as programs are to be attached that need them.
    btf: Option<Btf>,
    /// Members of kernel structs that are not there.
    pub missing: Vec<MissingField>,
    /// Optional programs that could not be attached, with the reason.
    pub unavailable: Vec<(&'static str, String)>,
    /// The set of programs that records socket operations, once it is attached.
    pub(super) recorder: Option<&'static ProgramSet>,
    boundaries: Boundaries,
}

/// The programs where event loops go to wait.
#[derive(Debug)]
enum Boundaries {
    Detached,
    /// Dropped, they are detached.
    Attached(#[expect(dead_code, reason = "held to stay attached")] Vec<TracePointLink>),
}

impl Kernel {
    /// Loads the programs, attached to nothing yet.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        let types = btf_rs::Btf::from_file(VMLINUX_BTF).map_err(|error| LoadError::Btf(error.to_string()))?;
        let (table, missing) = offsets::resolve(&types);
        drop(types);
        let btf = Btf::from_sys_fs().map_err(|error| LoadError::Btf(error.to_string()))?;
        let wake_bytes = u64::from(options.ring_bytes / 32);
        let log_level: u8 = if options.kernel_log { 5 } else { 0 };
        let words = words(&table);
        let ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .override_global("OFFSETS", words.as_slice(), true)
            .override_global("WAKE_BYTES", &wake_bytes, true)
            .override_global("AYA_LOG_LEVEL", &log_level, false)
            .map_max_entries("EVENTS", options.ring_bytes)
            .load(aya::include_bytes_aligned!(env!("ONLOOKER_EBPF_OBJECT")))
            .map_err(not_loaded)?;
        Ok(Self {
            ebpf,
            btf: Some(btf),
            missing,
            unavailable: Vec::new(),
            recorder: None,
            boundaries: Boundaries::Detached,
        })
    }

    /// Starts the recorder, once. Nothing is recorded before a process is selected.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        let Some(btf) = self.btf.take() else { return Ok(()) };
        for probes in AT_START {
            match probes.need {
                Need::Required => {
                    let set = self.attach_first_set(probes, &btf)?;
                    if probes.name == RECORDER.name {
                        self.recorder = Some(set);
                    }
                }
                Need::Optional { .. } => probes.sets.iter().for_each(|set| self.attach_if_possible(set, &btf)),
            }
        }
        Ok(())
    }

    /// Attaches the first set whose programs all load.
    fn attach_first_set(&mut self, probes: &'static Probes, btf: &Btf) -> Result<&'static ProgramSet, LoadError> {
        let mut failures = Vec::new();
        for set in probes.sets {
            match self.attach_set(set, btf) {
                Ok(()) => return Ok(set),
                // Another set needs the same privileges.
                Err(error @ LoadError::NotPermitted(_)) if failures.is_empty() => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "cannot use the {}", set.describe());
                    failures.push((set, error));
                }
            }
        }
        match <[_; 1]>::try_from(failures) {
            Ok([(_, error)]) => Err(error),
            Err(failures) => {
                let why = |(set, error): (&ProgramSet, LoadError)| {
                    format!("{} ({}): {error}", set.hook.plural(), set.kernels)
                };
                Err(LoadError::NoSet { purpose: probes.name, why: failures.into_iter().map(why).collect() })
            }
        }
    }

    /// Attaches all programs of a set, or none.
    fn attach_set(&mut self, set: &ProgramSet, btf: &Btf) -> Result<(), LoadError> {
        for (attached, &name) in set.programs.iter().enumerate() {
            if let Err(error) = self.attach_one(set.hook, name, btf) {
                for &name in &set.programs[..=attached] {
                    // The last one may not have been loaded, which is no error.
                    let _ = match self.ebpf.program_mut(name) {
                        Some(Program::BtfTracePoint(program)) => program.unload(),
                        Some(Program::FExit(program)) => program.unload(),
                        _ => Ok(()),
                    };
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn attach_if_possible(&mut self, set: &ProgramSet, btf: &Btf) {
        for &name in set.programs {
            if let Err(error) = self.attach_one(set.hook, name, btf) {
                tracing::info!(program = name, %error, "not attached");
                self.unavailable.push((name, error.to_string()));
            }
        }
    }

    fn attach_one(&mut self, hook: Hook, name: &'static str, btf: &Btf) -> Result<(), LoadError> {
        let missing = || LoadError::Load(format!("the object has no program {name}"));
        let program = self.ebpf.program_mut(name).ok_or_else(missing)?;
        let attached = match (hook, &mut *program) {
            (Hook::Tracepoint, Program::BtfTracePoint(program)) => {
                program.load(name, btf).map_err(|error| not_verified(name, error))?;
                program.attach().map(drop)
            }
            (Hook::FunctionExit, Program::FExit(program)) => {
                program.load(name, btf).map_err(|error| not_verified(name, error))?;
                program.attach().map(drop)
            }
            _ => return Err(missing()),
        };
        if let Ok(info) = program.info() {
            // The verifier gives up at a million.
            tracing::debug!(program = name, verified_instructions = info.verified_instruction_count(), "loaded");
        }
        attached.map_err(|error| LoadError::Attach { name, why: why(&error) })
    }

    /// Starts to watch where event loops go to wait. Costs every system call of the machine a little, so it is done
    /// only as long as a selected process is seen to need it.
    pub fn attach_boundaries(&mut self) {
        if matches!(self.boundaries, Boundaries::Attached(_)) {
            return;
        }
        let ebpf = &mut self.ebpf;
        let outcomes = tracefs::with(|| {
            EVENT_LOOPS.programs().map(|name| (name, attach_boundary(ebpf, name))).collect::<Vec<_>>()
        });
        let mut links = Vec::new();
        let mut failed = Vec::new();
        match outcomes {
            Ok(outcomes) => {
                for (name, outcome) in outcomes {
                    match outcome {
                        Ok(link) => links.push(link),
                        Err(error) => failed.push((name, error)),
                    }
                }
            }
            Err(error) => failed.push(("tracefs", error.to_string())),
        }
        self.boundaries = Boundaries::Attached(links);
        // They may be attached many times, and fail each time.
        failed.retain(|failure| !self.unavailable.contains(failure));
        for (name, error) in failed {
            tracing::warn!(%error, "cannot attach to {name}: turns of event loops are not told apart there");
            self.unavailable.push((name, error));
        }
    }

    /// Stops to watch them.
    pub fn detach_boundaries(&mut self) {
        self.boundaries = Boundaries::Detached;
    }

    /// The way records come. Can be taken once.
    pub fn ring(&mut self) -> Result<Ring, LoadError> {
        Ring::take(&mut self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// The way back, for what becomes of connections. Can be taken once.
    pub fn control(&mut self) -> Result<Control, LoadError> {
        Control::take(&mut self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// The way back, for who is recorded, and how much of them. Can be taken once.
    pub fn selection(&mut self, capture: Capture) -> Result<Selection, LoadError> {
        Selection::take(&mut self.ebpf, capture).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// What the programs could not do.
    pub fn losses(&self) -> Result<Losses, LoadError> {
        Losses::of(&self.ebpf).map_err(|error| LoadError::Load(error.to_string()))
    }

    /// The programs' own diagnostics, for `--kernel-log`.
    pub fn logger(&mut self) -> Result<Log, LoadError> {
        aya_log::EbpfLogger::init(&mut self.ebpf).map_err(|error| LoadError::Load(why(&error)))
    }
}

/// Passes on what the programs say of themselves.
pub type Log = aya_log::EbpfLogger<&'static dyn log::Log>;

fn attach_boundary(ebpf: &mut Ebpf, name: &'static str) -> Result<TracePointLink, String> {
    let program: &mut TracePoint = ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| format!("the object has no program {name}"))?;
    match program.load() {
        // It was attached before.
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(why(&error)),
    }
    let link = program.attach("syscalls", name).map_err(|error| why(&error))?;
    program.take_link(link).map_err(|error| why(&error))
}

/// The table as the words that the object's global is made of.
fn words(table: &Offsets) -> Vec<u32> {
    const WORDS: usize = size_of::<Offsets>() / size_of::<u32>();
    // SAFETY: Offsets is repr(C) and made of u32 only.
    unsafe { std::mem::transmute::<Offsets, [u32; WORDS]>(*table) }.to_vec()
}

/// An error with its causes, in one line.
fn why(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        next = error.source();
    }
    false
}

fn not_loaded(error: EbpfError) -> LoadError {
    if is_permission(&error) || !Path::new(VMLINUX_BTF).exists() {
        LoadError::NotPermitted(why(&error))
    } else {
        LoadError::Load(why(&error))
    }
}

fn not_verified(name: &'static str, error: ProgramError) -> LoadError {
    /// The verifier prints the reason last, and the counts of what it did.
    const LINES_SHOWN: usize = 12;
    match &error {
        // A rejection is EACCES, EINVAL or another error with a log. Without privileges there is no log.
        ProgramError::LoadError { io_error, verifier_log } if !verifier_log.to_string().trim().is_empty() => {
            let log = verifier_log.to_string();
            let lines: Vec<_> = log.trim_end().lines().collect();
            let end = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
            LoadError::Rejected { name, why: io_error.to_string(), end }
        }
        _ if is_permission(&error) => LoadError::NotPermitted(why(&error)),
        _ => LoadError::Load(format!("{name}: {}", why(&error))),
    }
}
