//! The extended query protocol: groups its messages into requests and finds their statements.

use std::sync::Arc;

use super::message::{Message, split_string};
use super::open::{Answer, Extended, Open, Request, Stage};
use super::overflow::Group;
use super::session::{Session, too_many};
use super::statements::Unnamed;
use crate::exchange::Finding;
use crate::kit::in_order::Entry;
use crate::moment::Moment;
use crate::sql::Normalized;

impl Session {
    pub(super) fn parse(&mut self, message: &Message<'_>, opened: bool, found: &mut Vec<Finding>) {
        if !opened {
            self.open_parse(message.start, message.end, found);
        }
        let Some((name, sql)) = split_string(message.body) else {
            // Only the unnamed statement can be replaced.
            self.statements.remove(b"");
            return;
        };
        let statement = if name.is_empty() { self.normalize_unnamed(sql) } else { self.normalize(sql) };
        let proposed = self.statements.propose(name, &statement);
        if let Some(open) = self.building() {
            open.request_end = message.end;
            open.prepares = proposed.map(Box::new);
            self.hold(statement);
        }
    }

    /// Begins a group with each `Parse`, unless the current group has none.
    pub(super) fn open_parse(&mut self, start: Moment, end: Moment, found: &mut Vec<Finding>) {
        let has_its_own = self.building().is_some_and(|open| open.statement.is_some())
            || self.overflow.group.is_some_and(|group| group.counts);
        if has_its_own {
            self.end_group(found);
        }
        if self.extend_group(start, end, true, found) {
            self.begin(found);
        }
    }

    pub(super) fn bind(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let (portal, rest) = split_string(message.body).unwrap_or_default();
        let statement = split_string(rest).and_then(|(name, _)| self.statements.get(name));
        self.portals.set(portal, statement);
        self.extend_group(message.start, message.end, false, found);
    }

    pub(super) fn describe(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let name = message.body.strip_prefix(b"S").and_then(split_string).map(|(name, _)| name);
        if self.extend_group(message.start, message.end, name.is_some(), found)
            && let Some(name) = name
        {
            let statement = self.statements.get(name);
            if let Some(open) = self.building() {
                open.statement = open.statement.take().or(statement);
            }
            self.begin(found);
        }
    }

    pub(super) fn close_named(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.extend_group(message.start, message.end, false, found);
        match message.body.split_first().map(|(kind, name)| (kind, split_string(name))) {
            Some((b'S', Some((name, _)))) => self.statements.remove(name),
            Some((b'P', Some((name, _)))) => self.portals.remove(name),
            _ => {}
        }
    }

    pub(super) fn execute(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let portal = split_string(message.body);
        let statement = portal.and_then(|(portal, _)| self.portals.get(portal));
        self.settings_may_change = true;
        let limit = portal.and_then(|(_, rest)| rest.first_chunk()).map_or(0, |&limit| u32::from_be_bytes(limit));
        if !self.extend_group(message.start, message.end, false, found) {
            if let Some(group) = self.overflow.group.take() {
                too_many(group.start, found);
                self.overflow.unsynced = true;
            }
            return;
        }
        if let Some(open) = self.building() {
            open.statement = statement;
            if let Some(extended) = open.as_extended_mut() {
                // Its own answer comes after those to the messages before.
                *extended = Extended { stage: Stage::Executed, due: 0, limit, ..*extended };
            }
        }
        if self.preparation.is_some() {
            self.fold_preparation();
        }
        self.begin(found);
    }

    /// Ends the group, because the server answers it now.
    pub(super) fn flush(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        if let Some(open) = self.requests.back_mut()
            && matches!(open.request, Request::Extended(Extended { synced: false, .. }))
        {
            open.request_end = message.end;
        }
        self.end_group(found);
    }

    pub(super) fn sync(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.end_group(found);
        let overflows = std::mem::take(&mut self.overflow).unsynced;
        // The group is no request. Its answers come with those of the one before.
        if self.building().is_some() {
            self.drop_back();
        }
        if let Some(open) = self.requests.back_mut()
            && let Request::Extended(extended) = &mut open.request
            && !extended.synced
            && !overflows
        {
            extended.synced = true;
            open.request_end = message.end;
        } else {
            self.pass(message.end);
        }
    }

    /// The current group.
    pub(super) fn building(&mut self) -> Option<&mut Open> {
        self.requests.back_mut().filter(|open| open.is(Stage::Building))
    }

    /// Adds a message to the current group, or begins one. `false` if the group is not kept.
    fn extend_group(&mut self, start: Moment, end: Moment, counts: bool, found: &mut Vec<Finding>) -> bool {
        if self.building().is_none() {
            if self.is_full() {
                let group = self.overflow.group.get_or_insert(Group { start, counts: false });
                group.counts |= counts;
                return false;
            }
            self.settle(found);
            self.requests.push(Open::extended(start, end));
        }
        if let Some(open) = self.building() {
            open.request_end = end;
            if let Some(extended) = open.as_extended_mut() {
                extended.due = extended.due.saturating_add(1);
            }
        }
        true
    }

    /// Ends the current group without an `Execute`. It prepares its statement, if it has one.
    pub(super) fn end_group(&mut self, found: &mut Vec<Finding>) {
        if let Some(open) = self.building()
            && open.begun
            && let Some(extended) = open.as_extended_mut()
        {
            extended.stage = Stage::Prepared;
            if extended.due == 0 {
                open.answer = Answer::Whole;
            }
        }
        if let Some(group) = self.overflow.group.take_if(|group| group.counts) {
            too_many(group.start, found);
            self.overflow.unsynced = true;
        }
    }

    /// Drops a group that was not announced.
    pub(super) fn drop_back(&mut self) {
        if let Some(Entry::Open(open)) = self.requests.pop_back() {
            self.held_bytes -= open.held_bytes;
        }
    }

    /// Normalizes the unnamed statement. Many clients parse the same one for each execution.
    fn normalize_unnamed(&mut self, body: &[u8]) -> Arc<Normalized> {
        let dialect = self.dialect();
        if let Some(last) = &self.last_unnamed
            && *last.body == *body
            && last.dialect.is_none_or(|of_last| of_last == dialect)
        {
            return Arc::clone(&last.statement);
        }
        let statement = self.normalize(body);
        let dialect = memchr::memchr(b'\\', body).map(|_| dialect);
        self.last_unnamed = Some(Unnamed { body: body.into(), dialect, statement: Arc::clone(&statement) });
        statement
    }
}
