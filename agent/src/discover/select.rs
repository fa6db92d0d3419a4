//! Decides which processes are traced.
//!
//! Selection is a list of rules, and the first that matches a process decides. Options of the command line are rules too, and
//! come first. Kernel threads and the agent itself are never traced. The children of a selected process are selected too, and
//! stay selected whatever they execute, unless a rule excludes them: what a service starts is part of its work.

mod executable;
mod globs;
mod judging;
mod options;
mod pod;
mod rule;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onlooker_common::selection::interest;
use onlooker_engine::model::reporting::Reporting;

use self::executable::Executable;
use self::rule::{Cgroups, Rule};
use super::cgroup::Hierarchy;
use super::process::{Identity, Process, Unreadable};
use crate::kubernetes::Pods;
use crate::runtimes::Recogniser;

pub use self::executable::NameBeginning;
pub use self::options::{Options, PodOptions, PortRange, PortRangeError, RuleOptions, SelectError, Treatment};
pub use self::rule::ProcessFacts;

/// The validated rules, in their order.
#[derive(Debug, Clone)]
pub struct Selectors {
    myself: Identity,
    rules: Vec<Rule>,
    /// How many of the rules are options of the command line.
    of_options: usize,
    /// What is reported of processes to which no rule of the file applies.
    general: Arc<Reporting>,
    /// Whether a trace context is added to requests of such processes.
    injects: bool,
    excluded: Arc<Reporting>,
    recogniser: Arc<Recogniser>,
    /// The pods of this node, if they are followed.
    pods: Option<Arc<Pods>>,
    /// Rules that say how processes are treated, where they do not say which are selected.
    treating: Option<Box<Self>>,
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
        selectors.rules.extend(of_options.into_iter().filter(Rule::has_conditions));
        selectors.of_options = selectors.rules.len();
        selectors.followed_by(rules, general)
    }

    /// The same rules of the command line, followed by other rules of the configuration file. What the options named at the start counts: a pid
    /// that is gone is no mistake now.
    ///
    /// # Errors
    /// When nothing is included.
    pub fn followed_by(&self, rules: &[RuleOptions], general: &Treatment) -> Result<Self, SelectError> {
        if self.treating.is_some() {
            return self.treated_by(rules, general);
        }
        let mut selectors = self.clone();
        selectors.rules.truncate(self.of_options);
        selectors = selectors.reporting(general);
        for rule in rules {
            selectors.rules.push(Rule::of_file(rule, general)?);
        }
        if selectors.rules.iter().all(|rule| rule.excludes) { Err(SelectError::Nothing) } else { Ok(selectors) }
    }

    /// The same selection. The rules of the configuration file only say how its processes are treated, so one that they exclude is treated as
    /// one that none matches.
    ///
    /// # Errors
    /// When a rule is invalid.
    pub fn treated_by(&self, rules: &[RuleOptions], general: &Treatment) -> Result<Self, SelectError> {
        let mut treating = Self::none()?.with_memory_of(self).reporting(general);
        for rule in rules {
            let treatment = if rule.excludes { Treatment::default() } else { rule.treatment.clone() };
            treating.rules.push(Rule::of_file(&RuleOptions { excludes: false, treatment, ..rule.clone() }, general)?);
        }
        Ok(Self { treating: Some(Box::new(treating)), ..self.clone().reporting(general) })
    }

    /// The rules that say how processes are treated.
    fn treating(&self) -> &Self {
        self.treating.as_deref().unwrap_or(self)
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
            injects: false,
            excluded,
            recogniser: Arc::default(),
            pods: None,
            treating: None,
        })
    }

    /// The same, with what is done for processes to which no rule of the file applies.
    #[must_use]
    pub fn reporting(mut self, general: &Treatment) -> Self {
        self.general = Arc::new(general.reporting(general));
        self.injects = general.injects(general);
        for rule in &mut self.rules {
            rule.reporting = Arc::clone(&self.general);
            rule.injects = self.injects;
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
        let of_rules = self.treating().rules.iter().map(|rule| &rule.reporting);
        self.can_exclude() || of_rules.chain([&self.general]).any(|reporting| reporting.is_restricted())
    }

    /// Whether a trace context is added to requests of some processes.
    #[must_use]
    pub fn can_inject(&self) -> bool {
        self.injects || self.treating().including().any(|rule| rule.injects)
    }

    /// Whether a trace context is added to requests of some processes only.
    #[must_use]
    pub fn limit_injection(&self) -> bool {
        !self.injects || !self.treating().including().all(|rule| rule.injects)
    }

    /// Whether a trace context is added to requests of a selected process.
    #[must_use]
    pub fn inject_into(&self, process: &Process) -> bool {
        if !self.limit_injection() || !self.can_inject() {
            return self.injects;
        }
        let treating = self.treating();
        match treating.decide_by_descent(process) {
            Decision::Included(index) => treating.rules[index].injects,
            Decision::Excluded => false,
            Decision::Unmatched => self.injects,
        }
    }

    /// Whether it may depend on a listening port how a process is treated.
    #[must_use]
    pub fn treat_by_port(&self, port: u16) -> bool {
        self.treating().including().any(|rule| rule.has_port(port) && rule.treatment != Treatment::default())
    }

    /// Recognises the runtimes of processes, which rules may be about.
    #[must_use]
    pub fn recogniser(&self) -> &Arc<Recogniser> {
        &self.recogniser
    }

    /// Goes on with what others remember.
    #[must_use]
    pub fn with_memory_of(self, before: &Self) -> Self {
        let treating = self.treating.map(|treating| Box::new(treating.with_memory_of(before)));
        Self { recogniser: Arc::clone(&before.recogniser), pods: before.pods.clone(), treating, ..self }
    }

    /// Looks up pods of processes here.
    #[must_use]
    pub fn with_pods(self, pods: Arc<Pods>) -> Self {
        let treating = self.treating.map(|treating| Box::new(treating.with_pods(Arc::clone(&pods))));
        Self { pods: Some(pods), treating, ..self }
    }

    /// The pods of this node, if they are followed.
    #[must_use]
    pub fn pods(&self) -> Option<&Arc<Pods>> {
        self.pods.as_ref()
    }

    /// Whether any rule is about Kubernetes pods.
    #[must_use]
    pub fn match_pods(&self) -> bool {
        self.rules.iter().chain(&self.treating().rules).any(|rule| !rule.pod.is_empty())
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

    /// The cgroups that rules name one by one, as paths in the hierarchy, if a trace context is added to requests from there.
    pub fn cgroups_to_inject(&self) -> impl Iterator<Item = &Path> {
        self.including().filter(|rule| rule.injects).flat_map(|rule| &rule.cgroups).filter_map(Cgroups::path)
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

    /// The ports of rules that include processes.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.including().flat_map(|rule| &rule.ports).flat_map(|range| range.all())
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

#[cfg(test)]
mod tests;
