//! Takes the header of the PROXY protocol off the beginning of a connection.
//!
//! The bytes behind it go on to detection and parser as if nothing had passed before them. Their positions stay what they are,
//! so both ends of a connection on this host are joined as without a header.

use onlooker_protocols::Moment;
use onlooker_protocols::proxied::{Client, Parsed, parse};

use crate::content::Piece;
use crate::order::Way;

/// How far the beginning of a connection is.
#[derive(Debug, Default)]
pub(crate) enum Preamble {
    /// The connection's first bytes are still to come.
    #[default]
    Awaited,
    /// The bytes so far may be the beginning of a header.
    Held(Vec<Piece>),
    /// So many bytes of a header are still to come.
    Skipped(Way, u64),
    Over,
}

/// What a piece did to the preamble.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is part of a header, or may be.
    Taken,
    /// These pieces belong to the connection's own protocol. There was no header.
    Released(Vec<Piece>),
    /// A header came this way. The piece, if there is one, follows it.
    Header(Way, Option<Client>, Option<Piece>),
    /// A part of the piece follows the header.
    Rest(Piece),
}

impl Preamble {
    /// Whether these bytes and all further ones belong to the connection's own protocol. Nearly always they do.
    #[inline]
    pub(crate) fn is_over(&mut self, bytes: &[u8]) -> bool {
        if matches!(self, Self::Awaited) && parse(bytes) == Parsed::NoHeader {
            *self = Self::Over;
        }
        matches!(self, Self::Over)
    }

    /// Takes the next piece of a connection that is followed from its first byte.
    pub(crate) fn take(&mut self, way: Way, bytes: &[u8], missing: u64, at: Moment) -> Outcome {
        let piece = Piece { way, bytes: bytes.to_vec(), missing, at };
        match std::mem::replace(self, Self::Over) {
            Self::Awaited => self.hold(Vec::new(), piece),
            Self::Held(pieces) => self.hold(pieces, piece),
            Self::Skipped(of, left) if of == way => {
                let passed = piece.bytes.len() as u64 + piece.missing;
                if passed < left {
                    *self = Self::Skipped(of, left - passed);
                }
                behind(piece, left).map_or(Outcome::Taken, Outcome::Rest)
            }
            Self::Skipped(..) | Self::Over => Outcome::Rest(piece),
        }
    }

    fn hold(&mut self, mut pieces: Vec<Piece>, piece: Piece) -> Outcome {
        let way = piece.way;
        let is_continued = pieces.iter().all(|held| held.way == way) && piece.missing == 0;
        pieces.push(piece);
        if !is_continued {
            return Outcome::Released(pieces);
        }
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect();
        let header = match parse(&bytes) {
            Parsed::Header(header) => header,
            Parsed::NoHeader => return Outcome::Released(pieces),
            Parsed::NeedMore => {
                *self = Self::Held(pieces);
                return Outcome::Taken;
            }
        };
        let seen = bytes.len() as u64;
        if seen < header.length {
            *self = Self::Skipped(way, header.length - seen);
        }
        // The last piece completed the header, so only that can go beyond it.
        let rest = pieces.pop().and_then(|last| {
            let before = seen - last.bytes.len() as u64;
            behind(last, header.length - before)
        });
        Outcome::Header(way, header.client, rest)
    }
}

/// The part of a piece behind its first `length` bytes. `None` if nothing is.
fn behind(mut piece: Piece, length: u64) -> Option<Piece> {
    let captured = piece.bytes.len() as u64;
    if length >= captured + piece.missing {
        return None;
    }
    // At most all bytes.
    piece.bytes.drain(..length.min(captured) as usize);
    piece.missing -= length.saturating_sub(captured);
    piece.at = piece.at.advanced(length);
    Some(piece)
}
