//! Which processes were asked for.
//!
//! Nothing is selected unless a selector says so, and then by what is true of the process: a kernel thread and the
//! agent itself never are. What a selected process has forked and forks is selected too, and stays so whatever it
//! executes: what a service starts is part of its work.

use std::fmt;
use std::num::NonZeroU16;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glob::{MatchOptions, Pattern};

use super::cgroup::{self, CgroupError, Hierarchy};
use super::process::{self, Identity, Process, Unreadable};
use super::sockets::Listeners;

/// Longest line of ancestors looked through for one that was asked for: /proc changes while it is read.
const ANCESTORS_READ: usize = 64;

/// What a person may ask for; a process that any of these is true of is selected.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "What to trace")]
pub struct Options {
    /// The process with this id, and what it has forked or will
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Processes whose executable matches: by its path (`'/opt/*/bin/api'`, `'*/nginx'`; also as it is called inside a
    /// container), or by its name if there is no slash (`'python3*'`); links and scripts by their own name too
    #[arg(long, value_name = "GLOB")]
    pub exe: Vec<String>,
    /// Processes that listen on this TCP port, or on one in a range (`8000-8099`)
    #[arg(long, value_name = "PORT")]
    pub port: Vec<PortRange>,
    /// Processes in this cgroup (v2) or below: a folder under the mount, or a path as in /proc/PID/cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,
    /// Every process of this host
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error("nothing is selected: say what to trace with --pid, --exe, --port, --cgroup or --all")]
    Nothing,
    #[error("--pid {pid}: {why}")]
    Pid { pid: u32, why: Unreadable },
    #[error("--pid {pid}: that is a kernel thread, which serves no requests")]
    KernelThread { pid: u32 },
    #[error("--pid {pid}: that is the agent itself, which is never traced")]
    Myself { pid: u32 },
    #[error("--exe `{glob}`: {why}")]
    Glob { glob: String, why: glob::PatternError },
    #[error("--cgroup {asked}: {why}", asked = asked.display())]
    Cgroup { asked: PathBuf, why: CgroupError },
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// TCP ports from one to another, both included.
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
    #[error("a port is a number from 1 to 65535, a range two of them with `-` between, e.g. 8000-8099")]
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

/// What the selectors judge by. Filled as far as they ask: see [`Selectors::facts`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    pub identity: Option<Identity>,
    pub kernel_thread: bool,
    /// What its executable is called: by /proc/PID/exe, inside its own root, and as it was started.
    pub executables: Vec<PathBuf>,
    /// Its cgroup v2 path.
    pub cgroup: Option<PathBuf>,
    /// TCP ports of listening sockets that it holds.
    pub ports: Vec<u16>,
    /// Its parent, that one's parent and so on.
    pub ancestors: Vec<Identity>,
}

/// What was asked for, checked.
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
    /// Without a slash in it the glob is of the file's name.
    by_name: bool,
}

/// What the scan at start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    pub selected: Vec<u32>,
    /// Processes that might have been selected, had /proc told what they are.
    pub unreadable: u64,
}

impl Selectors {
    /// Fails with the first option that cannot be meant.
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
        for asked in &options.cgroup {
            let path = Hierarchy::find().and_then(|hierarchy| hierarchy.resolve(asked));
            let path = path.map_err(|why| SelectError::Cgroup { asked: asked.clone(), why })?;
            selectors.cgroups.push(path);
        }
        if selectors.asks_nothing() { Err(SelectError::Nothing) } else { Ok(selectors) }
    }

    /// The processes in the cgroup with this path in the hierarchy, and below.
    pub fn of_cgroup(path: PathBuf) -> Result<Self, Unreadable> {
        Ok(Self { cgroups: vec![path], ..Self::none()? })
    }

    /// A process and its descendants, whatever they execute. One whose parent has ended is known by the kernel side alone.
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

    fn asks_nothing(&self) -> bool {
        !self.all
            && self.processes.is_empty()
            && self.trees.is_empty()
            && self.executables.is_empty()
            && self.ports.is_empty()
            && self.cgroups.is_empty()
    }

    /// Whether it matters when a process comes into a cgroup.
    #[must_use]
    pub fn ask_cgroups(&self) -> bool {
        !self.cgroups.is_empty()
    }

    /// The ids by which the kernel knows the cgroups that are asked for: the inodes of their folders.
    #[must_use]
    pub fn cgroup_ids(&self) -> Vec<u64> {
        let Ok(hierarchy) = Hierarchy::find() else { return Vec::new() };
        let folders = self.cgroups.iter().map(|cgroup| hierarchy.folder(cgroup));
        folders.filter_map(|folder| folder.metadata().ok()).map(|folder| folder.ino()).collect()
    }

    /// Judges by facts; what they don't hold is not so.
    #[must_use]
    pub fn matches(&self, facts: &ProcessFacts) -> bool {
        if facts.kernel_thread || facts.identity == Some(self.myself) {
            return false;
        }
        let asked = |identities: &[Identity], who: &Identity| identities.contains(who);
        self.all
            || facts.identity.is_some_and(|who| asked(&self.processes, &who) || asked(&self.trees, &who))
            || facts.ancestors.iter().any(|who| asked(&self.trees, who))
            || facts.executables.iter().any(|path| self.executables.iter().any(|asked| asked.matches(path)))
            || facts.ports.iter().any(|port| self.ports.iter().any(|asked| asked.contains(*port)))
            || facts.cgroup.iter().any(|path| self.cgroups.iter().any(|asked| cgroup::contains(asked, path)))
    }

    /// Reads of `process` what the selectors ask for, and nothing else.
    pub fn facts(&self, process: &Process, listeners: &mut Listeners) -> Result<ProcessFacts, Unreadable> {
        let mut facts = ProcessFacts {
            identity: Some(process.identity()),
            kernel_thread: process.is_kernel_thread(),
            ..ProcessFacts::default()
        };
        if facts.kernel_thread || self.all {
            return Ok(facts);
        }
        if !self.executables.is_empty()
            && let Some(path) = process.executable()?
        {
            facts.executables.extend(process::inside(&path, &process.root()?).filter(|inside| *inside != path));
            facts.executables.extend(process.started_by().filter(|started| *started != path));
            facts.executables.push(path);
        }
        if !self.cgroups.is_empty() {
            facts.cgroup = cgroup::path_in(&process.cgroups()?);
        }
        if !self.ports.is_empty() {
            let held = listeners.held_by(process, |port| self.ports.iter().any(|asked| asked.contains(port)))?;
            facts.ports = held.iter().map(|listener| listener.port).collect();
        }
        if !self.trees.is_empty() {
            facts.ancestors = ancestors(process);
        }
        Ok(facts)
    }

    /// Judges the process with this id as it is now: after it executed a program or changed its cgroup.
    /// A process that is gone is not selected.
    pub fn select(&self, pid: u32) -> Result<bool, Unreadable> {
        let judged = Process::open(pid).and_then(|process| self.facts(&process, &mut Listeners::default()));
        match judged {
            Ok(facts) => Ok(self.matches(&facts)),
            Err(Unreadable::Gone { .. }) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// Judges a process that has begun to listen on a TCP port.
    #[must_use]
    pub fn select_listening(&self, pid: u32, port: u16) -> bool {
        pid != self.myself.pid && self.ports.iter().any(|asked| asked.contains(port))
    }

    /// Judges every process there is, once.
    pub fn scan(&self) -> Result<Scan, Unreadable> {
        let mut listeners = Listeners::default();
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
    /// What the glob asks for; if it is the path of a link, what that leads to as well: /proc names no links.
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

    fn matches(&self, path: &Path) -> bool {
        // `*/nginx` is any nginx: a star passes over slashes.
        let options = MatchOptions { require_literal_separator: false, ..MatchOptions::new() };
        let whole = self.glob.matches_path_with(path, options);
        whole
            || self.by_name && path.file_name().is_some_and(|name| self.glob.matches_path_with(name.as_ref(), options))
    }
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
