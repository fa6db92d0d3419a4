//! The confirmations that answer the SUBSCRIBE family, and their number.

/// The kinds of subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscriptions {
    Channels,
    Patterns,
    ShardChannels,
}

/// The number of subscriptions of each kind, if every confirmation was seen.
#[derive(Debug)]
pub(super) struct Subscribed(Option<[u64; 3]>);

/// The confirmations that a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmations {
    /// None: it is another command.
    None,
    /// This many more, one for each channel.
    Left(u64),
    /// One for each existing subscription.
    All(Subscriptions),
}

impl Confirmations {
    /// The number of replies, at least.
    pub(super) fn replies(&self) -> u64 {
        match self {
            Self::Left(replies) => *replies,
            Self::None | Self::All(_) => 1,
        }
    }
}

impl Subscribed {
    pub(super) fn new(from_start: bool) -> Self {
        Self(from_start.then_some([0; 3]))
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// The numbers are unknown from now on. Returns whether they were known.
    pub(super) fn forget(&mut self) -> bool {
        self.0.take().is_some()
    }

    pub(super) fn end_all(&mut self) {
        self.0 = Some([0; 3]);
    }

    pub(super) fn has_none(&self, of: Subscriptions) -> bool {
        self.0.is_some_and(|left| left[of as usize] == 0)
    }

    /// A confirmation says how many are left.
    pub(super) fn confirm(&mut self, of: Subscriptions, left: u64) {
        const CHANNELS: usize = Subscriptions::Channels as usize;
        const PATTERNS: usize = Subscriptions::Patterns as usize;
        let Some(subscriptions) = &mut self.0 else { return };
        // Redis counts channels and patterns together.
        let others = match of {
            Subscriptions::Channels => subscriptions[PATTERNS],
            Subscriptions::Patterns => subscriptions[CHANNELS],
            Subscriptions::ShardChannels => 0,
        };
        subscriptions[of as usize] = left.saturating_sub(others);
    }
}
