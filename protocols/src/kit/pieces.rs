//! The pieces in which a stream reaches a parser, consumed step by step.

use crate::Moment;

/// Bytes, or a hole of this many bytes.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    Bytes(&'a [u8]),
    Hole(u64),
}

impl<'a> Content<'a> {
    /// The first `most` bytes, or all if there are fewer.
    pub(crate) fn first(self, most: u64) -> Self {
        match self {
            Self::Bytes(bytes) => {
                Self::Bytes(&bytes[..usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()))])
            }
            Self::Hole(missing) => Self::Hole(missing.min(most)),
        }
    }

    pub(crate) fn len(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Hole(missing) => missing,
        }
    }

    /// The rest behind the first `taken` bytes. Empty if there are not as many.
    pub(crate) fn after(self, taken: u64) -> Self {
        match self {
            Self::Bytes(bytes) => {
                Self::Bytes(&bytes[usize::try_from(taken).map_or(bytes.len(), |taken| taken.min(bytes.len()))..])
            }
            Self::Hole(missing) => Self::Hole(missing.saturating_sub(taken)),
        }
    }
}

/// A piece, as far as it was not consumed yet.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    content: Content<'a>,
    /// The moment of the first byte that is left.
    at: Moment,
    begins_run: bool,
}

impl<'a> Piece<'a> {
    pub(crate) fn new(content: Content<'a>, at: Moment, begins_run: bool) -> Self {
        Self { content, at, begins_run }
    }

    pub(crate) fn content(&self) -> Content<'a> {
        self.content
    }

    /// The moment of the first byte that is left.
    pub(crate) fn at(&self) -> Moment {
        self.at
    }

    /// Nothing of its run has passed before what is left.
    pub(crate) fn begins_run(&self) -> bool {
        self.begins_run
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.content.len() == 0
    }

    /// Consumes `taken` bytes and returns the moment just past them. `taken` is no more than are left.
    pub(crate) fn advance(&mut self, taken: u64) -> Moment {
        self.content = self.content.after(taken);
        self.at = self.at.advanced(taken);
        self.begins_run &= taken == 0;
        self.at
    }

    pub(crate) fn use_up(&mut self) -> Moment {
        self.advance(self.content.len())
    }
}

/// A piece of bytes, as far as it was not consumed yet.
#[derive(Debug)]
pub(crate) struct BytePiece<'a> {
    pub(crate) bytes: &'a [u8],
    /// The moment of the first of `bytes`.
    pub(crate) at: Moment,
}

impl<'a> BytePiece<'a> {
    /// Consumes up to `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.at = self.at.advanced(taken.len() as u64);
        self.bytes = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_consumed_at_the_positions_of_its_bytes() {
        let at = Moment { position: 10, ..Moment::default() };
        let mut piece = Piece::new(Content::Bytes(b"abcd"), at, true);
        assert!(piece.begins_run() && !piece.is_used_up());
        assert_eq!(piece.advance(3).position, 13);
        assert!(!piece.begins_run());
        assert!(matches!(piece.content(), Content::Bytes(b"d")));
        assert_eq!((piece.use_up().position, piece.is_used_up()), (14, true));
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        assert_eq!(Content::Hole(3).after(5).len(), 0);
        assert_eq!(Content::Bytes(b"abc").after(u64::MAX).len(), 0);
        let mut piece = BytePiece { bytes: b"abc", at: Moment::default() };
        assert_eq!((piece.take(2), piece.take(2), piece.at.position), (&b"ab"[..], &b"c"[..], 3));
    }
}
