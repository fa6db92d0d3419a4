//! The input of one call, consumed step by step.

use crate::Moment;

/// The part of the input that is not consumed.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    content: Content<'a>,
    at: Moment,
    /// Bytes consumed.
    taken: u64,
    /// It is the first of its run.
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

    /// The bytes or the hole that is left.
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

    /// Consumes `taken` bytes and returns the moment just past them.
    pub(super) fn advance(&mut self, taken: u64) -> Moment {
        self.content = match self.content {
            // `taken` is at most the length.
            Content::Bytes(bytes) => Content::Bytes(&bytes[taken as usize..]),
            Content::Gap(missing) => Content::Gap(missing - taken),
        };
        self.taken += taken;
        self.begins_run &= taken == 0;
        self.at()
    }

    /// The moment of the first byte left.
    pub(super) fn at(&self) -> Moment {
        self.at.advanced(self.taken)
    }

    pub(super) fn use_up(&mut self) -> Moment {
        self.advance(self.len())
    }
}
