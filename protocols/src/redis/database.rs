//! The database that the connection has selected.

use super::command::Effect;
use super::reply::{Reply, Simple};

#[derive(Debug)]
pub(super) struct Database {
    /// The current one, if known.
    number: Option<u32>,
    /// The one selected since MULTI. EXEC makes it the current one.
    queued: Option<Option<u32>>,
}

impl Database {
    /// A new connection uses database 0.
    pub(super) fn new(from_start: bool) -> Self {
        Self { number: from_start.then_some(0), queued: None }
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.number
    }

    pub(super) fn forget(&mut self) {
        *self = Self::new(false);
    }

    /// Whether a command may change it.
    pub(super) fn may_change(&self, effect: Effect) -> bool {
        match effect {
            Effect::Unknown | Effect::Select(_) | Effect::Reset => true,
            Effect::Exec | Effect::Discard => self.queued.is_some(),
            _ => false,
        }
    }

    /// The command runs, and its reply is not seen.
    pub(super) fn pass(&mut self, effect: Effect) {
        if self.may_change(effect) {
            self.number = None;
        }
    }

    /// The command has its reply.
    pub(super) fn follow(&mut self, effect: Effect, reply: &Reply) {
        let is_refused = !reply.error.is_empty();
        match effect {
            Effect::Select(database) if reply.simple == Simple::Queued => self.queued = Some(database),
            Effect::Select(database) if !is_refused => self.number = database,
            Effect::Reset if !is_refused => *self = Self::new(true),
            Effect::Exec => {
                if let Some(database) = self.queued.take()
                    && reply.is_array
                {
                    // If one of several commands failed, it may be the SELECT.
                    self.number = database.filter(|_| !reply.has_errors);
                }
            }
            Effect::Discard => self.queued = None,
            // It may be a SELECT.
            Effect::Unknown => self.number = None,
            _ => {}
        }
    }
}
