//! Background work: calls that are made for no request, such as heartbeats, pool pings and polls.
//!
//! The lower rungs of the ladder name a request because it was there when a call began. A call of background work may begin
//! then too. It is recognised by what its unit of work and its connection did before:
//!
//! - they called while no request was open;
//! - the request that the unit read last is over;
//! - the connection is new, and the process opens connections while no request is open.
//!
//! Background work may use a connection for the first time that requests opened. Where the thread does not show who calls,
//! a process that has background work has no parents by `only-candidate` at all, and none by `tick` if that work uses
//! connections again.

use std::collections::VecDeque;

use onlooker_common::unit;
use opentelemetry::trace::{SpanId, TraceId};
use rustc_hash::FxHashMap;

use super::id::NodeId;
use crate::unit::Unit;

/// Units remembered of all processes. An entry has about 80 bytes.
const MAX_UNITS: usize = 65_536;

/// Units of one process that are remembered before its older ones are forgotten. Runtimes make new units for each request.
const GENERATION: usize = 8_192;

/// Calls of one process that are part of the trace that it was started with. A trace must not grow without limit.
const MAX_CONTINUED: u32 = 10_000;

/// How long a process is remembered that ended: longer than its calls wait to be settled.
const PROCESS_REMEMBERED: u64 = 1_000_000_000;

/// How long it is remembered that a process called while no request was open. Polls are rarely further apart.
const IDLE_REMEMBERED: u64 = 300_000_000_000;

/// The same for a process that has not served yet: its start calls too.
const START_REMEMBERED: u64 = 10_000_000_000;

/// What processes do while no request is open.
#[derive(Debug, Default)]
pub(super) struct Background {
    processes: FxHashMap<u32, Callers>,
    /// Units in `processes`.
    units: usize,
    /// Client connections in use, and whether they carried a call while no request was open. A connection that is over is
    /// forgotten.
    connections: FxHashMap<u64, bool>,
    /// Processes that ended, and when.
    ended: VecDeque<(u64, u32)>,
    /// Units that were forgotten since they were last counted.
    evicted: u64,
}

/// What is remembered of one process.
#[derive(Debug, Default)]
struct Callers {
    young: FxHashMap<Unit, Past>,
    old: FxHashMap<Unit, Past>,
    /// It has received a request.
    has_served: bool,
    /// Until then it may have background work, open connections for that, and use connections for that which are open.
    works_until: u64,
    opens_until: u64,
    reuses_until: u64,
    has_ended: bool,
    /// Calls for which the context was taken that the process was started with.
    continued: u32,
}

/// What a unit of work did.
#[derive(Debug, Default, Clone, Copy)]
struct Past {
    /// It called while no request was open.
    is_idle: bool,
    read: Option<LastRead>,
}

/// The request that a unit of work read last.
#[derive(Debug, Clone, Copy)]
pub(super) enum LastRead {
    Unsettled(NodeId),
    /// It was exported.
    Exported(TraceId, SpanId),
    /// It has no span.
    Unknown,
}

/// What is known about the maker of a call when the call begins.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Caller {
    pub(super) unit: Option<Unit>,
    /// No request of its process was open.
    pub(super) is_idle: bool,
    /// It is the first call on its connection.
    pub(super) opens: bool,
    /// What its unit read last.
    pub(super) read: Option<LastRead>,
}

impl Background {
    /// A unit of the process reads a request.
    pub(super) fn reads(&mut self, tgid: u32, unit: Option<Unit>, request: NodeId) {
        self.processes.entry(tgid).or_default().has_served = true;
        if let Some(past) = self.past(tgid, unit) {
            past.read = Some(LastRead::Unsettled(request));
        }
    }

    /// A call begins. `is_idle`: no request of its process is open.
    pub(super) fn calls(&mut self, tgid: u32, cookie: u64, unit: Option<Unit>, is_idle: bool) -> Caller {
        self.processes.entry(tgid).or_default();
        let mut opens = false;
        self.connections.entry(cookie).or_insert_with(|| {
            opens = true;
            false
        });
        let read = self.known(tgid, unit).and_then(|past| past.read);
        let read = match read {
            // Another context may have its address by now.
            Some(_) if unit.is_some_and(Unit::is_reused) => Some(LastRead::Unknown),
            read => read,
        };
        Caller { unit, is_idle, opens, read }
    }

    /// The request that a unit read is settled.
    pub(super) fn settled(&mut self, tgid: u32, unit: Option<Unit>, request: NodeId, exported: LastRead) {
        if let Some(past) = self.known(tgid, unit)
            && matches!(past.read, Some(LastRead::Unsettled(last)) if last == request)
        {
            past.read = Some(exported);
        }
    }

    /// A call at `nanos` was made while no request was open.
    pub(super) fn idle_call(&mut self, tgid: u32, cookie: u64, caller: &Caller, nanos: u64) {
        if let Some(connection) = self.connections.get_mut(&cookie) {
            *connection = true;
        }
        if let Some(past) = self.past(tgid, caller.unit) {
            past.is_idle = true;
        }
        if let Some(callers) = self.processes.get_mut(&tgid) {
            let remembered = if callers.has_served { IDLE_REMEMBERED } else { START_REMEMBERED };
            callers.works_until = callers.works_until.max(nanos.saturating_add(remembered));
            if caller.opens {
                callers.opens_until = callers.works_until;
            } else {
                callers.reuses_until = callers.works_until;
            }
        }
    }

    /// Whether a call at `nanos` may be background work, as far as its unit of work and its connection show.
    pub(super) fn may_have_made(&self, tgid: u32, cookie: u64, caller: &Caller, nanos: u64) -> bool {
        if self.connections.get(&cookie) == Some(&true) {
            return true;
        }
        self.processes.get(&tgid).is_some_and(|callers| {
            caller.opens && nanos < callers.opens_until
                || caller.unit.and_then(|unit| callers.get(unit)).is_some_and(|past| past.is_idle)
        })
    }

    /// Whether nothing shows who makes a call at `nanos`, of a process that has background work.
    pub(super) fn is_anonymous(&self, tgid: u32, caller: &Caller, nanos: u64) -> bool {
        caller.unit.is_none_or(|unit| unit.kind != unit::THREAD)
            && self.processes.get(&tgid).is_some_and(|callers| nanos < callers.works_until)
    }

    /// The same for a process that makes such calls on connections that are open already.
    pub(super) fn is_anonymous_on_any_connection(&self, tgid: u32, caller: &Caller, nanos: u64) -> bool {
        caller.unit.is_none_or(|unit| unit.kind != unit::THREAD)
            && self.processes.get(&tgid).is_some_and(|callers| nanos < callers.reuses_until)
    }

    /// Whether the process's next call may be part of the trace that it was started with.
    pub(super) fn may_continue(&mut self, tgid: u32) -> bool {
        let callers = self.processes.entry(tgid).or_default();
        if callers.has_served || callers.continued >= MAX_CONTINUED {
            return false;
        }
        callers.continued += 1;
        true
    }

    /// The connection is over.
    pub(super) fn connection_ended(&mut self, cookie: u64) {
        self.connections.remove(&cookie);
    }

    /// At `nanos` the process ended, or executed another program.
    pub(super) fn process_ended(&mut self, tgid: u32, nanos: u64) {
        if let Some(callers) = self.processes.get_mut(&tgid)
            && !std::mem::replace(&mut callers.has_ended, true)
        {
            self.ended.push_back((nanos, tgid));
        }
    }

    /// Forgets processes that ended long ago.
    pub(super) fn advance(&mut self, now: u64) {
        while let Some(&(nanos, tgid)) = self.ended.front()
            && nanos.saturating_add(PROCESS_REMEMBERED) <= now
        {
            self.ended.pop_front();
            if let Some(callers) = self.processes.remove(&tgid) {
                self.units -= callers.young.len() + callers.old.len();
            }
        }
    }

    /// How many units were forgotten since the last time.
    pub(super) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.connections.is_empty() && self.units == 0
    }

    fn known(&mut self, tgid: u32, unit: Option<Unit>) -> Option<&mut Past> {
        self.processes.get_mut(&tgid)?.get_mut(unit?)
    }

    /// What is remembered of a unit, from now on. `None` if the unit is unknown, or if there is no room.
    fn past(&mut self, tgid: u32, unit: Option<Unit>) -> Option<&mut Past> {
        let unit = unit?;
        let callers = self.processes.entry(tgid).or_default();
        if !callers.young.contains_key(&unit) {
            let known = callers.old.remove(&unit);
            self.units -= usize::from(known.is_some());
            if callers.young.len() >= GENERATION || self.units >= MAX_UNITS {
                let forgotten = std::mem::replace(&mut callers.old, std::mem::take(&mut callers.young)).len();
                self.units -= forgotten;
                self.evicted += forgotten as u64;
            }
            if self.units >= MAX_UNITS {
                self.evicted += 1;
                return None;
            }
            self.units += 1;
            callers.young.insert(unit, known.unwrap_or_default());
        }
        callers.young.get_mut(&unit)
    }
}

impl Callers {
    fn get(&self, unit: Unit) -> Option<&Past> {
        self.young.get(&unit).or_else(|| self.old.get(&unit))
    }

    fn get_mut(&mut self, unit: Unit) -> Option<&mut Past> {
        self.young.get_mut(&unit).or_else(|| self.old.get_mut(&unit))
    }
}
