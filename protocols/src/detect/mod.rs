//! What a connection speaks, told from its bytes; ports are never asked.
//!
//! Asked with the first bytes of a run. A guess may be wrong: the parser finds out within a message or two and says
//! `Unparsable`, upon which the connection is open to another guess. So each protocol's rule asks for as much as
//! makes a mistake rare, not for proof.

mod postgres;
mod redis;

use crate::http1::head::{Looks, looks_like_request, looks_like_response};
use crate::{Direction, Protocol};

/// With this many bytes there is an answer, never [`Guess::NeedMore`].
pub const ENOUGH: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// The bytes are of this protocol, and travel this way.
    Protocol(Protocol, Direction),
    /// They could be something known if they went on: ask again with more of the run.
    NeedMore,
    /// Nothing there is a parser for; a name for a counter: `tls`, `http2`, `ssh`, or `unknown`.
    Unknown(&'static str),
}

/// What `first`, the first bytes of a run, are.
///
/// `direction` is which way they travel, where that is known (who connected is the client). `from_start`: nothing
/// passed on the connection before them; otherwise they may begin in the middle of a message.
#[must_use]
pub fn detect(direction: Option<Direction>, from_start: bool, first: &[u8]) -> Guess {
    if first.is_empty() {
        return Guess::NeedMore;
    }
    let mut more = false;
    for (name, rule) in NAMED {
        match rule(first) {
            Looks::Right => return Guess::Unknown(name),
            Looks::RightSoFar => more = true,
            Looks::Wrong => {}
        }
    }
    for way in [Direction::ToServer, Direction::ToClient] {
        if direction.is_some_and(|known| known != way) {
            continue;
        }
        for (protocol, rule) in RULES {
            match rule(Bytes { way, way_is_known: direction.is_some(), from_start, first }) {
                Looks::Right => return Guess::Protocol(protocol, way),
                Looks::RightSoFar => more = true,
                Looks::Wrong => {}
            }
        }
    }
    if more && first.len() < ENOUGH { Guess::NeedMore } else { Guess::Unknown("unknown") }
}

/// What a rule is asked about.
#[derive(Debug, Clone, Copy)]
struct Bytes<'a> {
    /// The way they travel, or the one that is being tried.
    way: Direction,
    way_is_known: bool,
    from_start: bool,
    first: &'a [u8],
}

type Rule = fn(Bytes<'_>) -> Looks;
/// A rule that needs no more than the bytes.
type PlainRule = fn(&[u8]) -> Looks;

/// In the order of asking: a command of Redis may be in the words of an HTTP request.
const RULES: [(Protocol, Rule); 3] =
    [(Protocol::Http1, http1), (Protocol::Postgres, postgres::rule), (Protocol::Redis, redis::rule)];

/// What there is no parser for and is still worth a name.
const NAMED: [(&str, PlainRule); 3] = [("http2", http2), ("tls", tls), ("ssh", ssh)];

fn http1(bytes: Bytes<'_>) -> Looks {
    let looks = match bytes.way {
        Direction::ToServer => looks_like_request(bytes.first),
        Direction::ToClient => looks_like_response(bytes.first),
    };
    // So long a word, a blank and a target without a blank: only its end is missing.
    if looks == Looks::RightSoFar && bytes.first.len() >= ENOUGH { Looks::Right } else { looks }
}

/// RFC 9113 3.4: what a client says first; what a server says first is a SETTINGS frame on stream 0.
fn http2(first: &[u8]) -> Looks {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 4;
    if let [0, 0, length, SETTINGS, 0, 0, 0, 0, 0, ..] = *first
        && length % 6 == 0
    {
        return Looks::Right;
    }
    begins_with(first, PREFACE)
}

/// RFC 8446 5.1: a record of any type and version.
fn tls(first: &[u8]) -> Looks {
    const CHANGE_CIPHER_SPEC: u8 = 20;
    const APPLICATION_DATA: u8 = 23;
    const LONGEST: u16 = (1 << 14) + 2048;
    match *first {
        [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, 0..=4, high, low, ..] => {
            if (1..=LONGEST).contains(&u16::from_be_bytes([high, low])) { Looks::Right } else { Looks::Wrong }
        }
        [CHANGE_CIPHER_SPEC..=APPLICATION_DATA]
        | [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3]
        | [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, 0..=4]
        | [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, 0..=4, _] => Looks::RightSoFar,
        _ => Looks::Wrong,
    }
}

/// RFC 4253 4.2
fn ssh(first: &[u8]) -> Looks {
    begins_with(first, b"SSH-")
}

fn begins_with(first: &[u8], wanted: &[u8]) -> Looks {
    let seen = first.len().min(wanted.len());
    match (first[..seen] == wanted[..seen], seen == wanted.len()) {
        (true, true) => Looks::Right,
        (true, false) => Looks::RightSoFar,
        (false, _) => Looks::Wrong,
    }
}
