//! What selectors are made from: options of the command line, and rules of the configuration file.

use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use onlooker_engine::model::reporting::Reporting;
use onlooker_engine::route::PathPattern;

use crate::discover::cgroup::CgroupError;
use crate::discover::process::Unreadable;

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

/// A rule of the configuration file. All kinds of conditions that it has must hold, and one of each kind suffices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleOptions {
    /// Processes that match are not traced.
    pub excludes: bool,
    /// Every process matches.
    pub all: bool,
    pub executables: Vec<String>,
    pub arguments: Vec<String>,
    pub ports: Vec<PortRange>,
    pub pids: Vec<u32>,
    pub cgroups: Vec<String>,
    pub users: Vec<String>,
    pub containers: Vec<String>,
    pub pod: PodOptions,
    pub languages: Vec<String>,
    pub treatment: Treatment,
}

/// Conditions about the Kubernetes pod of a process. All are globs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodOptions {
    pub namespaces: Vec<String>,
    pub pods: Vec<String>,
    /// Names of owners, or `KIND/NAME`.
    pub owners: Vec<String>,
    /// `NAME=VALUE`, or only the name.
    pub labels: Vec<String>,
    pub annotations: Vec<String>,
    /// Names of containers.
    pub containers: Vec<String>,
}

/// What a rule says about the processes that it includes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Treatment {
    /// The name of their service.
    pub service_name: Option<String>,
    /// The namespace of their service.
    pub service_namespace: Option<String>,
    /// The names of the protocols that are reported.
    pub protocols: Option<Vec<String>>,
    /// Patterns that are the routes of paths. See [`PathPattern`].
    pub routes: Option<Vec<String>>,
    /// Patterns of paths whose requests are ignored.
    pub ignored: Option<Vec<String>>,
    /// Whether a trace context is added to their requests.
    pub inject: Option<bool>,
}

impl Treatment {
    /// Whether a trace context is added to requests. Where this says nothing, `general` counts.
    pub(super) fn injects(&self, general: &Self) -> bool {
        self.inject.or(general.inject).unwrap_or_default()
    }

    /// What is reported. Where this says nothing, `general` counts. What is no pattern is left out: the reader of the file has
    /// checked it.
    pub(super) fn reporting(&self, general: &Self) -> Reporting {
        let patterns = |own: &Option<Vec<String>>, general: &Option<Vec<String>>| {
            let texts = own.as_ref().or(general.as_ref()).map(Vec::as_slice).unwrap_or_default();
            texts.iter().filter_map(|text| PathPattern::parse(text).ok()).collect()
        };
        let protocols = self.protocols.as_ref().or(general.protocols.as_ref());
        Reporting {
            is_excluded: false,
            protocols: protocols.map(|names| names.iter().map(|name| name.as_str().into()).collect()),
            routes: patterns(&self.routes, &general.routes),
            ignored: patterns(&self.ignored, &general.ignored),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error(
        "nothing is selected: choose what to trace with --pid, --exe, --port, --cgroup or --all, or by rules in a configuration file"
    )]
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
    #[error("{what} `{glob}` of a rule: {why}")]
    RuleGlob { what: &'static str, glob: String, why: glob::PatternError },
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
    /// Every port of the range.
    pub fn all(self) -> impl Iterator<Item = u16> {
        self.first.get()..=self.last.get()
    }

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
