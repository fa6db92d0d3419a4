//! One rule: the conditions that a process must meet, and what follows if it does.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;
use onlooker_engine::model::reporting::Reporting;

use super::executable::Executable;
use super::globs::{OPTIONS, matches_text, pattern, rule_glob};
use super::options::{PortRange, RuleOptions, SelectError, Treatment};
use super::pod::PodConditions;
use crate::discover::cgroup::{self, Hierarchy};
use crate::discover::process::{Identity, Process};
use crate::kubernetes::Found;

/// The facts that rules are about. Only those that are needed are read.
#[derive(Debug, Clone, Default)]
pub struct ProcessFacts {
    pub identity: Option<Identity>,
    pub kernel_thread: bool,
    /// The paths of its executable: from /proc/PID/exe, within its own root, and as it was started.
    pub executables: Vec<PathBuf>,
    /// Its command line, joined by spaces.
    pub arguments: Option<String>,
    /// Its cgroup v2 path.
    pub cgroup: Option<PathBuf>,
    /// TCP ports of its listening sockets.
    pub ports: Vec<u16>,
    /// Its parent, its grandparent and so on.
    pub ancestors: Vec<Identity>,
    /// The user id and the user's name on the host.
    pub user: Option<(u32, String)>,
    pub container: Option<String>,
    /// Its Kubernetes pod, if that is known.
    pub pod: Option<Found>,
    pub language: Option<&'static str>,
}

/// One of each kind of condition must hold. A rule without conditions matches nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    pub(super) excludes: bool,
    pub(super) all: bool,
    pub(super) processes: Vec<Identity>,
    pub(super) trees: Vec<Identity>,
    pub(super) executables: Vec<Executable>,
    pub(super) arguments: Vec<Pattern>,
    pub(super) ports: Vec<PortRange>,
    pub(super) cgroups: Vec<Cgroups>,
    pub(super) users: Vec<Pattern>,
    pub(super) containers: Vec<Pattern>,
    pub(super) pod: PodConditions,
    pub(super) languages: Vec<String>,
    pub(super) treatment: Treatment,
    pub(super) reporting: Arc<Reporting>,
    /// Whether a trace context is added to requests of the processes that it includes.
    pub(super) injects: bool,
}

/// Cgroups of the v2 hierarchy, with those below them.
#[derive(Debug, Clone)]
pub(super) enum Cgroups {
    /// The one with this path in the hierarchy.
    Path(PathBuf),
    /// Those with matching paths.
    Glob(Pattern),
}

impl Rule {
    /// A rule of the configuration file.
    pub(super) fn of_file(options: &RuleOptions, general: &Treatment) -> Result<Self, SelectError> {
        let mut executables = Vec::new();
        for glob in &options.executables {
            executables.extend(Executable::parse(glob).map_err(|why| rule_glob("executable", glob, why))?);
        }
        let globs =
            |what, globs: &[String]| globs.iter().map(|glob| pattern(what, glob)).collect::<Result<Vec<_>, _>>();
        let cgroups = options.cgroups.iter().map(|path| Cgroups::of_file(path)).collect::<Result<_, _>>()?;
        Ok(Self {
            excludes: options.excludes,
            all: options.all,
            processes: options.pids.iter().filter_map(|pid| existing(*pid)).collect(),
            trees: Vec::new(),
            executables,
            arguments: globs("arguments", &options.arguments)?,
            ports: options.ports.clone(),
            cgroups,
            users: globs("user", &options.users)?,
            containers: globs("container", &options.containers)?,
            pod: PodConditions::of_file(&options.pod)?,
            languages: options.languages.clone(),
            treatment: options.treatment.clone(),
            reporting: Arc::new(options.treatment.reporting(general)),
            injects: options.treatment.injects(general),
        })
    }

    /// Whether a process with these facts matches. A missing fact matches nothing.
    pub(super) fn matches(&self, facts: &ProcessFacts) -> bool {
        let is_listed = |name| self.languages.iter().any(|given| given == name);
        self.matches_but_for_language(facts) && (self.languages.is_empty() || facts.language.is_some_and(is_listed))
    }

    /// Whether it matches if the language is right, which takes longest to find out.
    pub(super) fn matches_but_for_language(&self, facts: &ProcessFacts) -> bool {
        let any = |is_given: bool, holds: bool| !is_given || holds;
        self.has_conditions()
            && any(!self.processes.is_empty() || !self.trees.is_empty(), self.match_identity(facts))
            && any(!self.executables.is_empty(), self.match_executables(&facts.executables))
            && any(!self.arguments.is_empty(), matches_text(&self.arguments, facts.arguments.as_deref()))
            && any(!self.ports.is_empty(), facts.ports.iter().any(|port| self.has_port(*port)))
            && any(
                !self.cgroups.is_empty(),
                facts.cgroup.iter().any(|path| self.cgroups.iter().any(|cgroup| cgroup.contain(path))),
            )
            && any(!self.users.is_empty(), self.match_user(facts))
            && any(!self.containers.is_empty(), matches_text(&self.containers, facts.container.as_deref()))
            && any(!self.pod.is_empty(), self.pod.match_pod(facts.pod.as_ref()))
    }

    pub(super) fn has_conditions(&self) -> bool {
        self.all
            || !self.processes.is_empty()
            || !self.trees.is_empty()
            || !self.executables.is_empty()
            || self.needs_more()
    }

    /// Whether it has a condition besides those on the process itself and on its executable.
    fn needs_more(&self) -> bool {
        !self.arguments.is_empty()
            || !self.ports.is_empty()
            || !self.cgroups.is_empty()
            || !self.users.is_empty()
            || !self.containers.is_empty()
            || !self.pod.is_empty()
            || !self.languages.is_empty()
    }

    /// Whether its only conditions are on the executable.
    pub(super) fn is_about_executables(&self) -> bool {
        !self.executables.is_empty() && self.processes.is_empty() && self.trees.is_empty() && !self.needs_more()
    }

    /// Whether it matches every process.
    pub(super) fn is_about_all(&self) -> bool {
        self.all && !self.is_about_known_processes() && self.executables.is_empty() && !self.needs_more()
    }

    /// Whether its only conditions are on cgroups that exist.
    pub(super) fn is_about_cgroups(&self) -> bool {
        !self.cgroups.is_empty()
            && self.cgroups.iter().all(Cgroups::is_one)
            && self.executables.is_empty()
            && self.processes.is_empty()
            && self.trees.is_empty()
            && self.arguments.is_empty()
            && self.ports.is_empty()
            && self.users.is_empty()
            && self.containers.is_empty()
            && self.pod.is_empty()
            && self.languages.is_empty()
    }

    /// Whether it is about processes that are named one by one, which need not be looked for.
    pub(super) fn is_about_known_processes(&self) -> bool {
        !self.processes.is_empty() || !self.trees.is_empty()
    }

    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(port))
    }

    pub(super) fn match_executables(&self, paths: &[PathBuf]) -> bool {
        paths.iter().any(|path| self.executables.iter().any(|executable| executable.matches(path)))
    }

    fn match_identity(&self, facts: &ProcessFacts) -> bool {
        facts.identity.is_some_and(|process| self.processes.contains(&process) || self.trees.contains(&process))
            || facts.ancestors.iter().any(|ancestor| self.trees.contains(ancestor))
    }

    fn match_user(&self, facts: &ProcessFacts) -> bool {
        let Some((uid, name)) = &facts.user else { return false };
        self.users.iter().any(|glob| glob.as_str() == uid.to_string() || glob.matches_with(name, OPTIONS))
    }
}

impl Cgroups {
    /// A cgroup by its path, or several by a glob.
    fn of_file(given: &str) -> Result<Self, SelectError> {
        let glob = pattern("cgroup", given)?;
        if given.contains(['*', '?', '[']) {
            return Ok(Self::Glob(glob));
        }
        let resolved = Hierarchy::find().and_then(|hierarchy| hierarchy.resolve(given.as_ref()));
        // One that does not exist yet has no id in the kernel.
        Ok(resolved.map_or(Self::Glob(glob), Self::Path))
    }

    pub(super) fn contain(&self, path: &Path) -> bool {
        match self {
            Self::Path(cgroup) => cgroup::contains(cgroup, path),
            Self::Glob(glob) => path.ancestors().any(|above| glob.matches_path_with(above, OPTIONS)),
        }
    }

    /// The kernel's id of the cgroup, which is the inode number of its folder. None if it is gone.
    pub(super) fn id(&self, hierarchy: &Hierarchy) -> Option<u64> {
        match self {
            Self::Path(cgroup) => Some(hierarchy.folder(cgroup).metadata().ok()?.ino()),
            Self::Glob(_) => None,
        }
    }

    /// The path of the cgroup, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(cgroup) => Some(cgroup),
            Self::Glob(_) => None,
        }
    }

    /// Whether the kernel side can select its processes by itself.
    pub(super) fn is_one(&self) -> bool {
        matches!(self, Self::Path(_))
    }
}

/// A process that a rule names by its pid. A pid of the past is no mistake: the file outlives the process.
fn existing(pid: u32) -> Option<Identity> {
    match Process::open(pid) {
        Ok(process) => Some(process.identity()),
        Err(error) => {
            tracing::warn!(%error, "a rule selects a process that does not exist");
            None
        }
    }
}
