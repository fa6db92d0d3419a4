//! What passes, taken off bit by bit.

use crate::Moment;

/// What the caller handed in, and has not been looked at yet.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    content: Content<'a>,
    at: Moment,
    /// How much of it was taken off.
    taken: u64,
    /// Nothing of its run came before it.
    begins_run: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    Gap(u64),
}

impl<'a> Piece<'a> {
    pub(super) fn new(content: Content<'a>, at: Moment, begins_run: bool) -> Self {
        Self { content, at, taken: 0, begins_run }
    }

    /// What is left.
    pub(super) fn content(&self) -> Content<'a> {
        self.content
    }

    pub(super) fn begins_run(&self) -> bool {
        self.begins_run
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> u64 {
        match self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Gap(missing) => missing,
        }
    }

    /// Takes `taken` bytes off and returns the moment just past them.
    pub(super) fn advance(&mut self, taken: u64) -> Moment {
        self.content = match self.content {
            // Never more than there are.
            Content::Bytes(bytes) => Content::Bytes(&bytes[taken as usize..]),
            Content::Gap(missing) => Content::Gap(missing - taken),
        };
        self.taken += taken;
        self.begins_run &= taken == 0;
        self.at()
    }

    /// The moment of what is left.
    pub(super) fn at(&self) -> Moment {
        self.at.advanced(self.taken)
    }

    pub(super) fn use_up(&mut self) -> Moment {
        self.advance(self.len())
    }
}
