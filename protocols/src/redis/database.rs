//! Which database the connection's commands are for.

use super::command::Effect;
use super::reply::{Reply, Simple};

#[derive(Debug)]
pub(super) struct Database {
    /// The one in use, where that is known.
    number: Option<u32>,
    /// What was SELECTed since MULTI: to be had with EXEC.
    queued: Option<Option<u32>>,
}

impl Database {
    /// The first one, unless something was SELECTed before we came.
    pub(super) fn new(from_start: bool) -> Self {
        Self { number: from_start.then_some(0), queued: None }
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.number
    }

    pub(super) fn forget(&mut self) {
        *self = Self::new(false);
    }

    /// Whether it may be another after a command; of one whose name was not captured it isn't known.
    pub(super) fn may_change(&self, effect: Effect) -> bool {
        match effect {
            Effect::Unknown | Effect::Select(_) | Effect::Reset => true,
            Effect::Exec | Effect::Discard => self.queued.is_some(),
            _ => false,
        }
    }

    /// The command takes effect, nobody hears how.
    pub(super) fn pass(&mut self, effect: Effect) {
        if self.may_change(effect) {
            self.number = None;
        }
    }

    /// The command was answered.
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
                    // One of several failed; which one is not looked at.
                    self.number = database.filter(|_| !reply.has_errors);
                }
            }
            Effect::Discard => self.queued = None,
            // It may have been a SELECT.
            Effect::Unknown => self.number = None,
            _ => {}
        }
    }
}
