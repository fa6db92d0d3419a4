//! Which holes in the responses passed at a known time.
//!
//! A hole has the time of the operation that it is part of. If the record of the operation itself was lost, only
//! positions show the hole, when the next piece comes: then it has the time of the piece before, the earliest it can have
//! passed. Both look the same when they are reported. The next piece tells them apart:
//!
//! | next | hole |
//! |---|---|
//! | a response of the same time | skipped: the captured end of the same operation |
//! | a response of another time | unrecorded: the piece that shows it |
//! | a request | skipped: nothing has shown a lost record |
//! | the end of the connection | unrecorded |

use crate::Moment;

/// What hides the bytes of a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hole {
    /// They were not captured. They passed at the time of the hole.
    Skipped,
    /// The record of their operation was lost. They passed at an unknown later time.
    Unrecorded,
}

/// Holds a hole back until it is known which it is.
#[derive(Debug, Default)]
pub(crate) struct ResponseHoles {
    /// The time of the last response bytes.
    before: Option<u64>,
    held: Option<(u64, Moment)>,
}

/// The length of a hole, its moment and what it is.
pub(crate) type Released = (u64, Moment, Hole);

impl ResponseHoles {
    /// Whether a hole is held back.
    #[inline]
    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Response bytes, or a hole, come at `at`.
    #[inline]
    pub(crate) fn note(&mut self, at: Moment) {
        self.before = Some(at.nanos);
    }

    /// Response bytes, or a hole, come at `at`. Gives back what is held.
    pub(crate) fn response(&mut self, at: Moment) -> Option<Released> {
        let (missing, hole) = self.held.take()?;
        let is_same = hole.nanos == at.nanos;
        Some((missing, hole, if is_same { Hole::Skipped } else { Hole::Unrecorded }))
    }

    /// Request bytes come. Gives back what is held.
    pub(crate) fn request(&mut self) -> Option<Released> {
        self.held.take().map(|(missing, hole)| (missing, hole, Hole::Skipped))
    }

    /// No more comes. Gives back what is held.
    pub(crate) fn end(&mut self) -> Option<Released> {
        self.held.take().map(|(missing, hole)| (missing, hole, Hole::Unrecorded))
    }

    /// Whether a hole has the time of the piece before, so that the next piece must tell what it is.
    pub(crate) fn is_ambiguous(&self, hole: Moment) -> bool {
        self.before.is_none_or(|before| before == hole.nanos)
    }

    pub(crate) fn hold(&mut self, missing: u64, hole: Moment) {
        self.held = Some((missing, hole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment { nanos, ..Moment::default() }
    }

    /// Responses pass at 5, and a hole of that time follows.
    fn held() -> ResponseHoles {
        let mut holes = ResponseHoles::default();
        holes.note(at(5));
        assert_eq!(holes.response(at(5)), None);
        assert!(holes.is_ambiguous(at(5)) && !holes.is_ambiguous(at(6)));
        holes.hold(9, at(5));
        holes
    }

    #[test]
    fn the_next_piece_tells_what_a_hole_is() {
        assert_eq!(held().response(at(5)), Some((9, at(5), Hole::Skipped)));
        assert_eq!(held().response(at(6)), Some((9, at(5), Hole::Unrecorded)));
        assert_eq!(held().request(), Some((9, at(5), Hole::Skipped)));
        assert_eq!(held().end(), Some((9, at(5), Hole::Unrecorded)));
    }

    #[test]
    fn a_hole_is_given_back_once() {
        let mut holes = held();
        assert!(holes.request().is_some());
        assert_eq!((holes.request(), holes.response(at(6)), holes.end()), (None, None, None));
    }
}
