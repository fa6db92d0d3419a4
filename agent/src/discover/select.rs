//! Decides which processes are traced.
//!
//! A process is selected if any selector matches it. Kernel threads and the agent itself never are. The children of a
//! selected process are selected too, and stay selected whatever they execute: what a service starts is part of its work.

use std::fmt;
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glob::{MatchOptions, Pattern};
use onlooker_common::selection::interest;

use super::cgroup::{self, CgroupError, Hierarchy};
use super::process::{self, Identity, Process, Unreadable};
use super::sockets::ListeningSockets;

/// How many ancestors are read. /proc changes while it is read, so the chain could be endless.
const ANCESTORS_READ: usize = 64;

/// The selectors of the command line. A process that any of them matches is selected.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "What to trace")]
pub struct Options {
    /// Trace the process with this id and its children
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Trace processes whose executable matches. A glob with a slash matches the path (`'*/nginx'`), on the host or inside
    /// the container; without a slash, the file name (`'python3*'`). Links and scripts also match by their own name
    #[arg(long, value_name = "GLOB")]
    pub exe: Vec<String>,
    /// Trace processes that listen on this TCP port, or on a port of a range (`8000-8099`)
    #[arg(long, value_name = "PORT")]
    pub port: Vec<PortRange>,
    /// Trace processes in this v2 cgroup or below it. A folder under the mount, or a path as in /proc/PID/cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,
    /// Trace every process of this host
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error("nothing is selected: choose what to trace with --pid, --exe, --port, --cgroup or --all")]
    Nothing,
    #[error("--pid {pid}: {why}")]
    Pid { pid: u32, why: Unreadable },
    #[error("--pid {pid}: this is a kernel thread, and kernel threads serve no requests")]
    KernelThread { pid: u32 },
    #[error("--pid {pid}: this is the agent itself, which is never traced")]
    Myself { pid: u32 },
    #[error("--exe `{glob}`: {why}")]
    Glob { glob: String, why: glob::PatternError },
    #[error("--cgroup {path}: {why}", path = path.display())]
    Cgroup { path: PathBuf, why: CgroupError },
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// A range of TCP ports, including both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first.get()..=self.last.get()).contains(&port)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    #[error("a port is a number from 1 to 65535, and a range is two of them joined by `-`, such as 8000-8099")]
    NotAPort,
    #[error("the range ends before it begins")]
    Backwards,
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let port = |text: &str| text.parse().map_err(|_| PortRangeError::NotAPort);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: port(first)?, last: port(last)? };
        if range.first <= range.last { Ok(range) } else { Err(PortRangeError::Backwards) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// The facts that selectors match. Only those that are needed are read: see [`Selectors::facts`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    pub identity: Option<Identity>,
    pub kernel_thread: bool,
    /// The paths of its executable: from /proc/PID/exe, within its own root, and as it was started.
    pub executables: Vec<PathBuf>,
    /// Its cgroup v2 path.
    pub cgroup: Option<PathBuf>,
    /// TCP ports of its listening sockets.
    pub ports: Vec<u16>,
    /// Its parent, its grandparent and so on.
    pub ancestors: Vec<Identity>,
}

/// The validated selectors.
#[derive(Debug, Clone)]
pub struct Selectors {
    myself: Identity,
    all: bool,
    processes: Vec<Identity>,
    trees: Vec<Identity>,
    executables: Vec<Executable>,
    ports: Vec<PortRange>,
    cgroups: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
struct Executable {
    glob: Pattern,
    /// The glob has no slash and matches file names.
    by_name: bool,
}

/// How the file name of every path begins that a selector matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameBeginning<'selector> {
    pub beginning: &'selector str,
    /// This is the whole name.
    pub whole: bool,
}

/// Whether an executable selector matches a process that executed a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The process itself was seen.
    Certain(bool),
    /// It was gone. The path that it was executed by says so.
    ByPath(bool),
    Unknown,
}

/// The result of looking at all processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    pub selected: Vec<u32>,
    /// Processes that could not be read, and might match.
    pub unreadable: u64,
}

impl Selectors {
    /// # Errors
    /// When an option is invalid, or none is given.
    pub fn new(options: &Options) -> Result<Self, SelectError> {
        let mut selectors = Self { all: options.all, ports: options.port.clone(), ..Self::none()? };
        for &pid in &options.pid {
            let process = Process::open(pid).map_err(|why| SelectError::Pid { pid, why })?;
            if process.is_kernel_thread() {
                return Err(SelectError::KernelThread { pid });
            }
            if process.identity() == selectors.myself {
                return Err(SelectError::Myself { pid });
            }
            selectors.processes.push(process.identity());
        }
        for glob in &options.exe {
            selectors.executables.extend(Executable::parse(glob)?);
        }
        for path in &options.cgroup {
            let cgroup = Hierarchy::find().and_then(|hierarchy| hierarchy.resolve(path));
            let cgroup = cgroup.map_err(|why| SelectError::Cgroup { path: path.clone(), why })?;
            selectors.cgroups.push(cgroup);
        }
        if selectors.is_empty() { Err(SelectError::Nothing) } else { Ok(selectors) }
    }

    /// Selects the processes in the cgroup with this path in the hierarchy, and below it.
    pub fn of_cgroup(path: PathBuf) -> Result<Self, Unreadable> {
        Ok(Self { cgroups: vec![path], ..Self::none()? })
    }

    /// Selects a process and its descendants, whatever they execute. Only the kernel side recognises a descendant whose
    /// parent has ended.
    pub fn of_tree(process: &Process) -> Result<Self, Unreadable> {
        Ok(Self { trees: vec![process.identity()], ..Self::none()? })
    }

    fn none() -> Result<Self, Unreadable> {
        Ok(Self {
            myself: Process::myself()?.identity(),
            all: false,
            processes: Vec::new(),
            trees: Vec::new(),
            executables: Vec::new(),
            ports: Vec::new(),
            cgroups: Vec::new(),
        })
    }

    fn is_empty(&self) -> bool {
        !self.all
            && self.processes.is_empty()
            && self.trees.is_empty()
            && self.executables.is_empty()
            && self.ports.is_empty()
            && self.cgroups.is_empty()
    }

    /// Whether a process that moves to another cgroup must be judged again.
    #[must_use]
    pub fn match_cgroups(&self) -> bool {
        !self.cgroups.is_empty()
    }

    /// What the kernel side must report of processes that are not selected: bits of [`interest`].
    ///
    /// Children of selected processes and members of selected cgroups need no report, because the kernel side selects them.
    #[must_use]
    pub fn interest(&self) -> u32 {
        let bit = |bit, needed| if needed { bit } else { 0 };
        let ports = !self.ports.is_empty();
        // A process may execute a program with a listening socket that it inherited.
        bit(interest::EXECS, self.all || ports)
            | bit(interest::NAMES, !self.executables.is_empty())
            | bit(interest::CGROUPS, !self.cgroups.is_empty())
            | bit(interest::LISTENERS, ports)
    }

    /// How the names of the programs begin that executable selectors may match.
    pub fn names(&self) -> impl Iterator<Item = NameBeginning<'_>> {
        self.executables.iter().map(Executable::name)
    }

    /// The kernel's ids of the selected cgroups, which are the inode numbers of their folders.
    #[must_use]
    pub fn cgroup_ids(&self) -> Vec<u64> {
        let Ok(hierarchy) = Hierarchy::find() else { return Vec::new() };
        let folders = self.cgroups.iter().map(|cgroup| hierarchy.folder(cgroup));
        folders.filter_map(|folder| folder.metadata().ok()).map(|folder| folder.ino()).collect()
    }

    /// Whether any selector matches. A missing fact matches nothing.
    #[must_use]
    pub fn matches(&self, facts: &ProcessFacts) -> bool {
        if facts.kernel_thread || facts.identity == Some(self.myself) {
            return false;
        }
        self.all
            || facts.identity.is_some_and(|process| self.processes.contains(&process) || self.trees.contains(&process))
            || facts.ancestors.iter().any(|ancestor| self.trees.contains(ancestor))
            || self.match_executables(&facts.executables)
            || facts.ports.iter().any(|port| self.ports.iter().any(|range| range.contains(*port)))
            || facts.cgroup.iter().any(|path| self.cgroups.iter().any(|cgroup| cgroup::contains(cgroup, path)))
    }

    /// Reads the facts that the selectors need, and no others.
    pub fn facts(&self, process: &Process, listeners: &mut ListeningSockets) -> Result<ProcessFacts, Unreadable> {
        let mut facts = ProcessFacts {
            identity: Some(process.identity()),
            kernel_thread: process.is_kernel_thread(),
            ..ProcessFacts::default()
        };
        if facts.kernel_thread || self.all {
            return Ok(facts);
        }
        if !self.executables.is_empty() {
            facts.executables = executables(process)?;
        }
        if !self.cgroups.is_empty() {
            facts.cgroup = cgroup::path_in(&process.cgroups()?);
        }
        if !self.ports.is_empty() {
            let held = listeners.held_by(process, |port| self.ports.iter().any(|range| range.contains(port)))?;
            facts.ports = held.iter().map(|listener| listener.port).collect();
        }
        if !self.trees.is_empty() {
            facts.ancestors = ancestors(process);
        }
        Ok(facts)
    }

    /// Whether a process is selected, after it executed a program or moved to another cgroup. False if it has ended.
    pub fn select(&self, pid: u32) -> Result<bool, Unreadable> {
        let judged = Process::open(pid).and_then(|process| self.facts(&process, &mut ListeningSockets::default()));
        match judged {
            Ok(facts) => Ok(self.matches(&facts)),
            Err(Unreadable::Gone { .. }) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// The ports that are selected.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().flat_map(|range| range.first.get()..=range.last.get())
    }

    /// Whether a selector other than a port matches.
    #[must_use]
    pub fn match_without_ports(&self, process: &Process) -> bool {
        let others = Self { ports: Vec::new(), ..self.clone() };
        others.facts(process, &mut ListeningSockets::default()).is_ok_and(|facts| others.matches(&facts))
    }

    fn match_executables(&self, paths: &[PathBuf]) -> bool {
        paths.iter().any(|path| self.executables.iter().any(|executable| executable.matches(path)))
    }

    /// Whether an executable selector matches a process that executed the program at `path`, which may be cut off. The
    /// process may have ended or executed another program since.
    #[must_use]
    pub fn judge_execution(&self, pid: u32, path: &Path) -> Judgement {
        let given = path.as_os_str().as_bytes();
        let is_same = |process: &Process| {
            process.started_by().is_none_or(|started| started.as_os_str().as_bytes().starts_with(given))
        };
        if let Ok(process) = Process::open(pid)
            && is_same(&process)
            && let Ok(executables) = executables(&process)
            // An ending process has none.
            && !executables.is_empty()
        {
            return Judgement::Certain(self.match_executables(&executables));
        }
        let target = if path.is_absolute() { path.canonicalize().ok() } else { None };
        let is_found = target.is_some();
        let executables: Vec<_> = target.into_iter().chain([path.to_owned()]).collect();
        match self.match_executables(&executables) {
            true => Judgement::ByPath(true),
            false if is_found => Judgement::ByPath(false),
            false => Judgement::Unknown,
        }
    }

    /// Whether a process is selected because it began to listen on a TCP port.
    #[must_use]
    pub fn select_listening(&self, pid: u32, port: u16) -> bool {
        pid != self.myself.pid && self.ports.iter().any(|range| range.contains(port))
    }

    /// Looks at all processes, once.
    pub fn scan(&self) -> Result<Scan, Unreadable> {
        let mut listeners = ListeningSockets::default();
        let mut scan = Scan::default();
        for process in process::all()? {
            let judged = process.and_then(|process| Ok((process.pid(), self.facts(&process, &mut listeners)?)));
            match judged {
                Ok((pid, facts)) if self.matches(&facts) => scan.selected.push(pid),
                Ok(_) | Err(Unreadable::Gone { .. }) => {}
                Err(Unreadable::Refused { .. }) => scan.unreadable += 1,
            }
        }
        Ok(scan)
    }
}

impl Executable {
    /// Parses a glob. If it is the path of a link, the target matches as well, because /proc shows only targets.
    fn parse(glob: &str) -> Result<Vec<Self>, SelectError> {
        let parse = |glob: &str| {
            let pattern = Pattern::new(glob).map_err(|why| SelectError::Glob { glob: glob.to_owned(), why })?;
            Ok::<_, SelectError>(Self { glob: pattern, by_name: !glob.contains('/') })
        };
        let mut executables = vec![parse(glob)?];
        if glob.starts_with('/')
            && let Ok(target) = Path::new(glob).canonicalize()
            && let Some(target) = target.to_str().filter(|target| *target != glob)
        {
            executables.push(parse(&Pattern::escape(target))?);
        }
        Ok(executables)
    }

    fn name(&self) -> NameBeginning<'_> {
        /// Every pattern has one of them, and so have bracketed slashes.
        const SPECIAL: [char; 4] = ['*', '?', '[', ']'];
        let glob = self.glob.as_str();
        let name = glob.rsplit_once('/').map_or(glob, |(_, name)| name);
        match name.find(SPECIAL) {
            None => NameBeginning { beginning: name, whole: true },
            Some(at) if self.by_name => NameBeginning { beginning: &name[..at], whole: false },
            // A star may match further folders.
            Some(_) => NameBeginning { beginning: "", whole: false },
        }
    }

    fn matches(&self, path: &Path) -> bool {
        // A star also matches slashes: `*/nginx` is nginx in any folder.
        let options = MatchOptions { require_literal_separator: false, ..MatchOptions::new() };
        let whole = self.glob.matches_path_with(path, options);
        whole
            || self.by_name && path.file_name().is_some_and(|name| self.glob.matches_path_with(name.as_ref(), options))
    }
}

/// The paths of the executable, which are none if the process has ended: see [`ProcessFacts::executables`].
fn executables(process: &Process) -> Result<Vec<PathBuf>, Unreadable> {
    let Some(path) = process.executable()? else { return Ok(Vec::new()) };
    let mut executables = Vec::with_capacity(3);
    executables.extend(process::inside(&path, &process.root()?).filter(|inside| *inside != path));
    executables.extend(process.started_by().filter(|started| *started != path));
    executables.push(path);
    Ok(executables)
}

fn ancestors(process: &Process) -> Vec<Identity> {
    let mut ancestors = Vec::new();
    let mut parent = process.parent();
    while ancestors.len() < ANCESTORS_READ
        && let Ok(next) = Process::open(parent)
    {
        ancestors.push(next.identity());
        parent = next.parent();
    }
    ancestors
}

#[cfg(test)]
mod tests;
