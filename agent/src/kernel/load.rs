//! Adapts the programs to the running kernel, loads them and attaches them.

use std::error::Error;
use std::io;

use aya::programs::trace_point::TracePointLink;
use aya::programs::{BtfTracePoint, FExit, Program, ProgramError, TracePoint};
use aya::{Btf, Ebpf, EbpfLoader};
use onlooker_common::capture::Capture;
use onlooker_common::limits;
use onlooker_common::offsets::Offsets;

use super::control::Control;
use super::losses::Losses;
use super::offsets::{self, MissingField};
use super::probes::{self, Kind, PROBES, Probe, Without};
use super::ring::Ring;
use super::selection::Selection;
use super::tracefs;

/// Where the kernel has its type information.
pub(super) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What can be chosen before the programs are loaded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Whether the programs write diagnostics.
    pub kernel_log: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: limits::RING_BYTES, kernel_log: false }
    }
}

/// Why the programs cannot run here.
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
    #[error(
        "the kernel's verifier rejected the program {program} ({reason}); please report this with the lines below\n{log}"
    )]
    Rejected { program: &'static str, reason: String, log: String },
    #[error("cannot load the kernel programs: {0}")]
    Load(String),
    #[error("cannot attach the program {program}: {why}")]
    Attach { program: &'static str, why: String },
    #[error("{first}; nor can {other} replace {program}: {second}")]
    NotReplaced { program: &'static str, first: Box<LoadError>, other: &'static str, second: Box<LoadError> },
}

/// The loaded programs. Dropping this detaches them all, and so does the end of the process.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    /// The kernel's types, several MiB. Kept until the programs that need them are attached.
    btf: Option<Btf>,
    /// Members of kernel structs that this kernel does not have.
    pub missing: Vec<MissingField>,
    /// Programs that are attached, except those of event loops.
    pub attached: Vec<&'static Probe>,
    /// Programs that could not be attached and that nothing replaces, with the reason.
    pub unavailable: Vec<(&'static str, String)>,
    boundaries: Boundaries,
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
            .map_err(|error| {
                if is_permission(&error) { LoadError::NotPermitted(why(&error)) } else { LoadError::Load(why(&error)) }
            })?;
        Ok(Self {
            ebpf,
            btf: Some(btf),
            missing,
            attached: Vec::new(),
            unavailable: Vec::new(),
            boundaries: Boundaries::Detached,
        })
    }

    /// Attaches the programs, once. Nothing is recorded before a process is selected.
    ///
    /// # Errors
    /// If a program without which nothing can be traced cannot be attached, nor those that replace it.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        let Some(btf) = self.btf.take() else { return Ok(()) };
        let rows = || PROBES.iter().filter(|probe| probe.replaces.is_none() && probe.kind != Kind::SystemCall);
        // The recorder comes last: changes of what it records are then seen from the beginning.
        for probe in rows().filter(|probe| probe.without != Without::Nothing) {
            if let Err(error) = self.attach_one(probe, &btf) {
                self.lacks(probe, &error);
            }
        }
        for probe in rows().filter(|probe| probe.without == Without::Nothing) {
            if let Err(error) = self.attach_one(probe, &btf) {
                self.replace(probe, &btf, error)?;
            }
        }
        Ok(())
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
        let Probe { name, kind, .. } = *probe;
        let program = program_mut(&mut self.ebpf, name)?;
        let outcome = match kind {
            Kind::BtfTracepoint => {
                <&mut BtfTracePoint>::try_from(&mut *program).and_then(|found| found.load(name, btf))
            }
            Kind::Fexit => <&mut FExit>::try_from(&mut *program).and_then(|found| found.load(name, btf)),
            Kind::SystemCall => <&mut TracePoint>::try_from(&mut *program).and_then(TracePoint::load),
        };
        outcome.map_err(|error| not_loaded(name, error))?;
        if let Ok(info) = program.info() {
            // The verifier gives up at a million.
            tracing::debug!(program = name, verified_instructions = info.verified_instruction_count(), "loaded");
        }
        let outcome = match kind {
            Kind::BtfTracepoint => <&mut BtfTracePoint>::try_from(program).and_then(|found| found.attach().map(drop)),
            Kind::Fexit => <&mut FExit>::try_from(program).and_then(|found| found.attach().map(drop)),
            // Attached by `attach_boundaries`, when it is needed.
            Kind::SystemCall => Ok(()),
        };
        outcome.map_err(|error| LoadError::Attach { program: name, why: why(&error) })?;
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

/// Forwards the programs' diagnostics.
pub type Log = aya_log::EbpfLogger<&'static dyn log::Log>;

fn program_mut<'ebpf>(ebpf: &'ebpf mut Ebpf, name: &str) -> Result<&'ebpf mut Program, LoadError> {
    ebpf.program_mut(name).ok_or_else(|| LoadError::Load(format!("the object has no program {name}")))
}

fn attach_boundary(ebpf: &mut Ebpf, name: &'static str) -> Result<TracePointLink, LoadError> {
    let attach = |error: ProgramError| LoadError::Attach { program: name, why: why(&error) };
    let program = <&mut TracePoint>::try_from(program_mut(ebpf, name)?).map_err(attach)?;
    match program.load() {
        // It was attached before.
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
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

/// An error with its causes, in one line.
fn why(error: &dyn Error) -> String {
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

/// Whether privileges are missing. The verifier uses EACCES for programs that it rejects, so only EPERM says so.
fn is_permission(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn not_loaded(program: &'static str, error: ProgramError) -> LoadError {
    match &error {
        ProgramError::LoadError { io_error, verifier_log } => refused(program, io_error, &verifier_log.to_string()),
        _ if is_permission(&error) => LoadError::NotPermitted(format!("{program}: {}", why(&error))),
        _ => LoadError::Load(format!("{program}: {}", why(&error))),
    }
}

/// The kernel refused to load a program.
fn refused(program: &'static str, error: &io::Error, log: &str) -> LoadError {
    if is_permission(error) {
        LoadError::NotPermitted(format!("{program}: {error}"))
    } else {
        LoadError::Rejected { program, reason: error.to_string(), log: last_lines(log) }
    }
}

/// The end of a verifier's log: it names the instruction that was rejected.
fn last_lines(log: &str) -> String {
    const SHOWN: usize = 20;
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io;

    use rstest::rstest;

    use super::{LoadError, refused};

    #[rstest]
    #[case::privileges(libc::EPERM, false)]
    #[case::access_to_memory(libc::EACCES, true)]
    #[case::stack_or_argument(libc::EINVAL, true)]
    #[case::too_complex(libc::E2BIG, true)]
    fn only_eperm_is_called_missing_privileges(#[case] errno: i32, #[case] is_rejected: bool) {
        let error = refused("sock_send_length", &io::Error::from_raw_os_error(errno), "");
        assert_eq!(matches!(error, LoadError::Rejected { .. }), is_rejected, "{error}");
        assert_eq!(matches!(error, LoadError::NotPermitted(_)), !is_rejected, "{error}");
    }

    #[test]
    fn a_rejection_shows_the_end_of_the_log() {
        let log: String = (0..50).map(|line| format!("line {line}\n")).collect();
        let shown = refused("sock_send_length", &io::Error::from_raw_os_error(libc::EINVAL), &log).to_string();
        assert!(shown.contains("verifier rejected the program sock_send_length"), "{shown}");
        assert!(shown.ends_with("line 49") && shown.contains("line 30\n") && !shown.contains("line 29\n"), "{shown}");
    }
}
