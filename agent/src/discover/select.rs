//! Decides which processes are traced.
//!
//! Selection is a list of rules, and the first that matches a process decides. Options of the command line are rules too, and
//! come first. Kernel threads and the agent itself are never traced. The children of a selected process are selected too, and
//! stay selected whatever they execute, unless a rule excludes them: what a service starts is part of its work.

mod executable;
mod options;
mod pod;
mod rule;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Uid, User};
use onlooker_common::selection::interest;
use onlooker_engine::model::reporting::Reporting;

use self::executable::Executable;
use self::rule::{Cgroups, Rule};
use super::cgroup::{self, Hierarchy};
use super::container;
use super::process::{self, Identity, Process, Unreadable};
use super::sockets::ListeningSockets;
use crate::kubernetes::Pods;
use crate::runtimes::Recogniser;

pub use self::executable::NameBeginning;
pub use self::options::{Options, PodOptions, PortRange, PortRangeError, RuleOptions, SelectError, Treatment};
pub use self::rule::ProcessFacts;

/// How many ancestors are read. /proc changes while it is read, so the chain could be endless.
const ANCESTORS_READ: usize = 64;

/// The validated rules, in their order.
#[derive(Debug, Clone)]
pub struct Selectors {
    myself: Identity,
    rules: Vec<Rule>,
    /// How many of the rules are options of the command line.
    of_options: usize,
    /// What is reported of processes to which no rule of the file applies.
    general: Arc<Reporting>,
    excluded: Arc<Reporting>,
    recogniser: Arc<Recogniser>,
    /// The pods of this node, if they are followed.
    pods: Option<Arc<Pods>>,
}

/// What the rules say about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The rule with this index includes it.
    Included(usize),
    Excluded,
    /// No rule matches. It is traced only if it descends from one that is.
    Unmatched,
}

/// What the rules say about a process that executed a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The process itself was seen. `lasting`: what holds for every process that executes this file.
    Certain {
        selected: bool,
        lasting: Option<bool>,
    },
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
    /// The rules of the command line.
    ///
    /// # Errors
    /// When an option is invalid, or none is given.
    pub fn new(options: &Options) -> Result<Self, SelectError> {
        Self::with_rules(options, &[], &Treatment::default())
    }

    /// The rules of the command line, followed by those of the configuration file.
    ///
    /// # Errors
    /// When an option is invalid, or nothing is included.
    pub fn with_rules(options: &Options, rules: &[RuleOptions], general: &Treatment) -> Result<Self, SelectError> {
        let mut selectors = Self::none()?.reporting(general);
        let mut processes = Vec::new();
        for &pid in &options.pid {
            let process = Process::open(pid).map_err(|why| SelectError::Pid { pid, why })?;
            if process.is_kernel_thread() {
                return Err(SelectError::KernelThread { pid });
            }
            if process.identity() == selectors.myself {
                return Err(SelectError::Myself { pid });
            }
            processes.push(process.identity());
        }
        let mut executables = Vec::new();
        for glob in &options.exe {
            let parsed = Executable::parse(glob).map_err(|why| SelectError::Glob { glob: glob.clone(), why })?;
            executables.extend(parsed);
        }
        let mut cgroups = Vec::new();
        for path in &options.cgroup {
            let cgroup = Hierarchy::find().and_then(|hierarchy| hierarchy.resolve(path));
            let cgroup = cgroup.map_err(|why| SelectError::Cgroup { path: path.clone(), why })?;
            cgroups.push(Cgroups::Path(cgroup));
        }
        // Any option suffices, so each is a rule of its own.
        let of_options = [
            Rule { processes, ..Rule::default() },
            Rule { executables, ..Rule::default() },
            Rule { ports: options.port.clone(), ..Rule::default() },
            Rule { cgroups, ..Rule::default() },
            Rule { all: options.all, ..Rule::default() },
        ];
        let reporting = Arc::clone(&selectors.general);
        let with_reporting = |rule| Rule { reporting: Arc::clone(&reporting), ..rule };
        selectors.rules.extend(of_options.into_iter().filter(Rule::has_conditions).map(with_reporting));
        selectors.of_options = selectors.rules.len();
        selectors.followed_by(rules, general)
    }

    /// The same rules of the command line, followed by other rules of the configuration file. What the options named at the start counts: a pid
    /// that is gone is no mistake now.
    ///
    /// # Errors
    /// When nothing is included.
    pub fn followed_by(&self, rules: &[RuleOptions], general: &Treatment) -> Result<Self, SelectError> {
        let mut selectors = self.clone();
        selectors.rules.truncate(self.of_options);
        selectors = selectors.reporting(general);
        for rule in rules {
            selectors.rules.push(Rule::of_file(rule, general)?);
        }
        if selectors.rules.iter().all(|rule| rule.excludes) { Err(SelectError::Nothing) } else { Ok(selectors) }
    }

    /// Selects the processes in the cgroup with this path in the hierarchy, and below it.
    pub fn of_cgroup(path: PathBuf) -> Result<Self, Unreadable> {
        let rule = Rule { cgroups: vec![Cgroups::Path(path)], ..Rule::default() };
        Ok(Self { rules: vec![rule], ..Self::none()? })
    }

    /// Selects a process and its descendants, whatever they execute. Only the kernel side recognises a descendant whose
    /// parent has ended.
    pub fn of_tree(process: &Process) -> Result<Self, Unreadable> {
        let rule = Rule { trees: vec![process.identity()], ..Rule::default() };
        Ok(Self { rules: vec![rule], ..Self::none()? })
    }

    fn none() -> Result<Self, Unreadable> {
        let excluded = Arc::new(Reporting { is_excluded: true, ..Reporting::default() });
        Ok(Self {
            myself: Process::myself()?.identity(),
            rules: Vec::new(),
            of_options: 0,
            general: Arc::default(),
            excluded,
            recogniser: Arc::default(),
            pods: None,
        })
    }

    /// The same, with what is reported of processes to which no rule of the file applies.
    #[must_use]
    pub fn reporting(mut self, general: &Treatment) -> Self {
        self.general = Arc::new(general.reporting(general));
        for rule in &mut self.rules {
            rule.reporting = Arc::clone(&self.general);
        }
        self
    }

    /// What is reported of processes to which no rule of the file applies.
    #[must_use]
    pub fn general(&self) -> &Arc<Reporting> {
        &self.general
    }

    /// Whether any request may not be reported.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        let of_rules = self.rules.iter().map(|rule| &rule.reporting);
        self.can_exclude() || of_rules.chain([&self.general]).any(|reporting| reporting.is_restricted())
    }

    /// Recognises the runtimes of processes, which rules may be about.
    #[must_use]
    pub fn recogniser(&self) -> &Arc<Recogniser> {
        &self.recogniser
    }

    /// Goes on with what others remember.
    #[must_use]
    pub fn with_memory_of(self, before: &Self) -> Self {
        Self { recogniser: Arc::clone(&before.recogniser), pods: before.pods.clone(), ..self }
    }

    /// Looks up pods of processes here.
    #[must_use]
    pub fn with_pods(self, pods: Arc<Pods>) -> Self {
        Self { pods: Some(pods), ..self }
    }

    /// The pods of this node, if they are followed.
    #[must_use]
    pub fn pods(&self) -> Option<&Arc<Pods>> {
        self.pods.as_ref()
    }

    /// Whether any rule is about Kubernetes pods.
    #[must_use]
    pub fn match_pods(&self) -> bool {
        self.rules.iter().any(|rule| !rule.pod.is_empty())
    }

    fn including(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !rule.excludes)
    }

    /// Whether any rule excludes processes.
    #[must_use]
    pub fn can_exclude(&self) -> bool {
        self.rules.iter().any(|rule| rule.excludes)
    }

    /// Whether a process that moves to another cgroup must be judged again.
    #[must_use]
    pub fn match_cgroups(&self) -> bool {
        self.rules.iter().any(|rule| !rule.cgroups.is_empty())
    }

    /// What the kernel side must report of processes that are not selected: bits of [`interest`].
    ///
    /// Children of selected processes and members of cgroups that the kernel side selects need no report.
    #[must_use]
    pub fn interest(&self) -> u32 {
        let bit = |bit, needed| if needed { bit } else { 0 };
        let by_kernel = self.selected_by_kernel();
        let needs_execs = |(index, rule): (usize, &Rule)| {
            let is_by_name = !rule.executables.is_empty();
            // A process may execute a program with a listening socket that it inherited.
            !rule.excludes
                && (!rule.ports.is_empty()
                    || !is_by_name
                        && !rule.is_about_known_processes()
                        && !by_kernel.iter().any(|(known, _)| *known == index))
        };
        bit(interest::EXECS, self.rules.iter().enumerate().any(needs_execs))
            | bit(interest::NAMES, self.including().any(|rule| !rule.executables.is_empty()))
            | bit(interest::CGROUPS, !by_kernel.is_empty())
            | bit(interest::LISTENERS, self.including().any(|rule| !rule.ports.is_empty()))
    }

    /// How the names of the programs begin that executable selectors may match.
    pub fn names(&self) -> impl Iterator<Item = NameBeginning<'_>> {
        self.including().flat_map(|rule| &rule.executables).map(Executable::name)
    }

    /// The cgroups of rules that name one, as paths in the hierarchy.
    pub fn cgroups(&self) -> impl Iterator<Item = &Path> {
        self.including().flat_map(|rule| &rule.cgroups).filter_map(Cgroups::path)
    }

    /// The kernel's ids of the cgroups whose processes the kernel side selects by itself.
    #[must_use]
    pub fn cgroup_ids(&self) -> Vec<u64> {
        self.selected_by_kernel().into_iter().flat_map(|(_, ids)| ids).collect()
    }

    /// Rules whose processes the kernel side selects by itself: those about cgroups, if no rule before excludes processes. The index
    /// of each, and the kernel's ids of its cgroups.
    fn selected_by_kernel(&self) -> Vec<(usize, Vec<u64>)> {
        let Ok(hierarchy) = Hierarchy::find() else { return Vec::new() };
        let before_excluding = self.rules.iter().enumerate().take_while(|(_, rule)| !rule.excludes);
        let of_cgroups = before_excluding.filter(|(_, rule)| rule.is_about_cgroups());
        let with_ids = of_cgroups.map(|(index, rule)| {
            let ids = rule.cgroups.iter().filter_map(|cgroup| cgroup.id(&hierarchy));
            (index, ids.collect())
        });
        with_ids.collect()
    }

    /// What the rules say about a process with these facts.
    #[must_use]
    pub fn decide(&self, facts: &ProcessFacts) -> Decision {
        self.decide_by(facts, |_| true)
    }

    fn decide_by(&self, facts: &ProcessFacts, counts: impl Fn(&Rule) -> bool) -> Decision {
        if facts.kernel_thread || facts.identity == Some(self.myself) {
            return Decision::Unmatched;
        }
        let found = self.rules.iter().enumerate().find(|(_, rule)| counts(rule) && rule.matches(facts));
        match found {
            Some((_, rule)) if rule.excludes => Decision::Excluded,
            Some((index, _)) => Decision::Included(index),
            None => Decision::Unmatched,
        }
    }

    /// Whether the rules include a process with these facts.
    #[must_use]
    pub fn matches(&self, facts: &ProcessFacts) -> bool {
        matches!(self.decide(facts), Decision::Included(_))
    }

    /// Reads the facts that the rules need, and no others.
    pub fn facts(&self, process: &Process, listeners: &mut ListeningSockets) -> Result<ProcessFacts, Unreadable> {
        let mut facts = ProcessFacts {
            identity: Some(process.identity()),
            kernel_thread: process.is_kernel_thread(),
            ..ProcessFacts::default()
        };
        if facts.kernel_thread || self.rules.first().is_some_and(Rule::is_about_all) {
            return Ok(facts);
        }
        let need = |has: fn(&Rule) -> bool| self.rules.iter().any(has);
        if need(|rule| !rule.executables.is_empty()) {
            facts.executables = executables(process)?;
        }
        if need(|rule| !rule.arguments.is_empty()) {
            facts.arguments = Some(process.arguments().join(" "));
        }
        if need(|rule| !rule.cgroups.is_empty()) {
            facts.cgroup = cgroup::path_in(&process.cgroups()?);
        }
        if need(|rule| !rule.ports.is_empty()) {
            let held = listeners.held_by(process, |port| self.rules.iter().any(|rule| rule.has_port(port)))?;
            facts.ports = held.iter().map(|listener| listener.port).collect();
        }
        if need(|rule| !rule.trees.is_empty()) {
            facts.ancestors = ancestors(process);
        }
        if need(|rule| !rule.users.is_empty()) {
            facts.user = process.uid().map(|uid| (uid, user_name(uid)));
        }
        if need(|rule| !rule.containers.is_empty()) {
            facts.container = container::of(process).map(|container| container.id);
        }
        if let Some(pods) = self.pods.as_ref().filter(|_| self.match_pods()) {
            facts.pod = container::of(process).and_then(|container| pods.find_or_wait(process.pid(), &container));
        }
        if self.rules.iter().any(|rule| !rule.languages.is_empty() && rule.matches_but_for_language(&facts)) {
            facts.language = self.recogniser.recognise(process).runtime.sdk_language;
        }
        Ok(facts)
    }

    /// What the rules say about a process, after it executed a program or moved to another cgroup. Nothing if it has ended.
    pub fn select(&self, pid: u32) -> Result<Decision, Unreadable> {
        let judged = Process::open(pid).and_then(|process| self.facts(&process, &mut ListeningSockets::default()));
        match judged {
            Ok(facts) => Ok(self.decide(&facts)),
            Err(Unreadable::Gone { .. }) => Ok(Decision::Unmatched),
            Err(refused) => Err(refused),
        }
    }

    /// What applies to a selected process: the rule that matches it, or else the nearest process that it descends from.
    #[must_use]
    pub fn applied_to(&self, process: &Process) -> Applied<'_> {
        let none = || Applied { rule: None, treatment: None, reporting: Arc::clone(&self.general) };
        if !self.can_exclude() && self.rules.iter().all(|rule| rule.treatment == Treatment::default()) {
            return none();
        }
        match self.decide_by_descent(process) {
            Decision::Included(index) => {
                let Rule { treatment, reporting, .. } = &self.rules[index];
                Applied { rule: Some(index), treatment: Some(treatment), reporting: Arc::clone(reporting) }
            }
            Decision::Excluded => {
                Applied { rule: Some(usize::MAX), treatment: None, reporting: Arc::clone(&self.excluded) }
            }
            Decision::Unmatched => none(),
        }
    }

    /// What the rules say about a process, or else about the nearest process that it descends from and that a rule matches.
    #[must_use]
    pub fn decide_by_descent(&self, process: &Process) -> Decision {
        let mut listeners = ListeningSockets::default();
        let mut decide = |process: &Process| self.facts(process, &mut listeners).map(|facts| self.decide(&facts));
        let mut next = decide(process);
        let mut parent = process.parent();
        for _ in 0..ANCESTORS_READ {
            if let Ok(decision @ (Decision::Included(_) | Decision::Excluded)) = next {
                return decision;
            }
            let Ok(above) = Process::open(parent) else { break };
            next = decide(&above);
            parent = above.parent();
        }
        Decision::Unmatched
    }

    /// The ports of rules that include processes.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.including().flat_map(|rule| &rule.ports).flat_map(|range| range.all())
    }

    /// Whether a rule that is not about a port includes the process.
    #[must_use]
    pub fn match_without_ports(&self, process: &Process) -> bool {
        let decide = |facts: &ProcessFacts| self.decide_by(facts, |rule| rule.excludes || rule.ports.is_empty());
        let facts = self.facts(process, &mut ListeningSockets::default());
        facts.is_ok_and(|facts| matches!(decide(&facts), Decision::Included(_)))
    }

    /// What the rules say about a process that executed the program at `path`, which may be cut off. The process may have ended
    /// or executed another program since.
    #[must_use]
    pub fn judge_execution(&self, pid: u32, path: &Path) -> Judgement {
        let given = path.as_os_str().as_bytes();
        let is_same = |process: &Process| {
            process.started_by().is_none_or(|started| started.as_os_str().as_bytes().starts_with(given))
        };
        if let Ok(process) = Process::open(pid)
            && is_same(&process)
            && let Ok(facts) = self.facts(&process, &mut ListeningSockets::default())
            // An ending process has none.
            && !facts.executables.is_empty()
        {
            return Judgement::Certain { selected: self.matches(&facts), lasting: self.lasting(&facts.executables) };
        }
        let target = if path.is_absolute() { path.canonicalize().ok() } else { None };
        let is_found = target.is_some();
        let executables: Vec<_> = target.into_iter().chain([path.to_owned()]).collect();
        match self.lasting(&executables) {
            Some(true) => Judgement::ByPath(true),
            Some(false) if is_found || self.match_executables(&executables) => Judgement::ByPath(false),
            Some(false) | None => Judgement::Unknown,
        }
    }

    fn match_executables(&self, paths: &[PathBuf]) -> bool {
        self.rules.iter().any(|rule| rule.match_executables(paths))
    }

    /// Whether executable rules alone select every process with this executable, or none. None if other conditions matter.
    fn lasting(&self, executables: &[PathBuf]) -> Option<bool> {
        match self.rules.iter().find(|rule| rule.match_executables(executables)) {
            None => Some(false),
            Some(first) => {
                let mut before = self.rules.iter().take_while(|rule| !std::ptr::eq(*rule, first));
                // An excluding rule before could match for other reasons.
                let is_decided = first.is_about_executables()
                    && before.all(|rule| !rule.executables.is_empty() || rule.excludes == first.excludes);
                is_decided.then_some(!first.excludes)
            }
        }
    }

    /// Whether a process is included that began to listen on a TCP port.
    #[must_use]
    pub fn select_listening(&self, pid: u32, port: u16) -> bool {
        if pid == self.myself.pid || !self.including().any(|rule| rule.has_port(port)) {
            return false;
        }
        let facts = Process::open(pid).and_then(|process| self.facts(&process, &mut ListeningSockets::default()));
        let mut facts = facts.unwrap_or_default();
        facts.ports.push(port);
        self.matches(&facts)
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

/// What applies to a process.
#[derive(Debug, Clone)]
pub struct Applied<'a> {
    /// Tells rules apart. None if no rule applies.
    pub rule: Option<usize>,
    pub treatment: Option<&'a Treatment>,
    pub reporting: Arc<Reporting>,
}

/// The name of a user on the host, or else its id.
fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
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
