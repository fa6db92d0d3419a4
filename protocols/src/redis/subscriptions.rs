//! What answers the commands of the SUBSCRIBE family: confirmations, and how many of them.

use super::command::{Effect, Request};

/// What can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscriptions {
    Channels,
    Patterns,
    ShardChannels,
}

/// How many subscriptions there are of each kind, if every confirmation was seen.
#[derive(Debug)]
pub(super) struct Subscribed(Option<[u64; 3]>);

/// The confirmations that a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmations {
    /// It is another command.
    None,
    /// One for each channel.
    Left(u64),
    /// One for each subscription that there is.
    All(Subscriptions),
}

impl Subscribed {
    pub(super) fn new(from_start: bool) -> Self {
        Self(from_start.then_some([0; 3]))
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Whether they were known before.
    pub(super) fn forget(&mut self) -> bool {
        self.0.take().is_some()
    }

    pub(super) fn end_all(&mut self) {
        self.0 = Some([0; 3]);
    }

    pub(super) fn has_none(&self, of: Subscriptions) -> bool {
        self.0.is_some_and(|left| left[of as usize] == 0)
    }

    /// A confirmation says that so many are left.
    pub(super) fn confirm(&mut self, of: Subscriptions, left: u64) {
        const CHANNELS: usize = Subscriptions::Channels as usize;
        const PATTERNS: usize = Subscriptions::Patterns as usize;
        let Some(subscriptions) = &mut self.0 else { return };
        // Channels and patterns are counted together.
        let others = match of {
            Subscriptions::Channels => subscriptions[PATTERNS],
            Subscriptions::Patterns => subscriptions[CHANNELS],
            Subscriptions::ShardChannels => 0,
        };
        subscriptions[of as usize] = left.saturating_sub(others);
    }
}

impl Confirmations {
    pub(super) fn of(request: &Request) -> Self {
        match (request.effect(), request.arguments) {
            (Effect::Subscribe(subscriptions), Some(0) | None) => Self::All(subscriptions),
            (Effect::Subscribe(_), Some(channels)) => Self::Left(channels),
            _ => Self::None,
        }
    }
}
