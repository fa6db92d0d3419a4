//! What the rules say about processes of this machine.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Uid, User};

use super::rule::Rule;
use super::{Applied, Decision, Judgement, ProcessFacts, Scan, Selectors, Treatment};
use crate::discover::cgroup;
use crate::discover::container;
use crate::discover::process::{self, Identity, Process, Unreadable};
use crate::discover::sockets::ListeningSockets;

/// How many ancestors are read. /proc changes while it is read, so the chain could be endless.
const ANCESTORS_READ: usize = 64;

impl Selectors {
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
        if let Some(treating) = &self.treating {
            return treating.applied_to(process);
        }
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
            // What is above the agent says nothing about a command of `exec`.
            if above.identity() == self.myself {
                break;
            }
            next = decide(&above);
            parent = above.parent();
        }
        Decision::Unmatched
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
    pub(super) fn lasting(&self, executables: &[PathBuf]) -> Option<bool> {
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
