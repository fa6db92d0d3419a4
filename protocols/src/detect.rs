//! Recognises a connection's protocol by its bytes. Ports are not consulted.
//!
//! Detection looks at the first bytes of a run, or of a datagram. Each protocol of a [table](crate::PROTOCOLS) judges
//! them. Its rule demands enough to make a mistake rare, not a proof: the parser of a wrong protocol reports
//! [`Unparsable`](crate::Unparsable) within a message or two, and the connection is detected anew.

use crate::moment::Direction;
use crate::spec::Spec;
pub use crate::spec::{ENOUGH, Looks, Sample};

/// The answer of [`detect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// The bytes are this protocol's and travel in this direction. The protocol has a parser.
    Protocol(&'static Spec, Direction),
    /// The bytes are this protocol's, which has no parser.
    Unparsed(&'static Spec),
    /// The bytes could be a known protocol's. Detect again with more of the run, or see [`detect_answered`].
    NeedMore,
    /// The bytes are no known protocol's.
    Unknown,
}

/// Finds the protocol in `table` that `sample` belongs to. The first row that fits decides.
///
/// ```
/// use onlooker_protocols::detect::{Guess, Sample, detect};
/// use onlooker_protocols::{Direction, PROTOCOLS, Transport, http1};
///
/// let mut sample = Sample { transport: Transport::Stream, direction: None, from_start: true, bytes: b"GET / HT" };
/// assert_eq!(detect(PROTOCOLS, &sample), Guess::NeedMore);
/// sample.bytes = b"GET / HTTP/1.1\r\n";
/// assert_eq!(detect(PROTOCOLS, &sample), Guess::Protocol(&http1::SPEC, Direction::ToServer));
/// ```
#[must_use]
pub fn detect(table: &[&'static Spec], sample: &Sample<'_>) -> Guess {
    if sample.bytes.is_empty() {
        return Guess::NeedMore;
    }
    let mut more = false;
    for direction in [Direction::ToServer, Direction::ToClient] {
        if sample.direction.is_some_and(|known| known != direction) {
            continue;
        }
        for &protocol in table.iter().filter(|protocol| protocol.transport == sample.transport) {
            match (protocol.detect)(direction, sample) {
                Looks::Right if protocol.parser.is_some() => return Guess::Protocol(protocol, direction),
                Looks::Right => return Guess::Unparsed(protocol),
                Looks::RightSoFar => more = true,
                Looks::Wrong => {}
            }
        }
    }
    if more && sample.bytes.len() < ENOUGH { Guess::NeedMore } else { Guess::Unknown }
}

/// Finds the protocol in `table` of a connection whose first run, and the run that answers it, are both ambiguous. They
/// prove a protocol if no other fits both.
///
/// ```
/// use onlooker_protocols::detect::{Guess, Sample, detect, detect_answered};
/// use onlooker_protocols::{Direction, PROTOCOLS, Transport, redis};
///
/// let first = Sample { transport: Transport::Stream, direction: None, from_start: true, bytes: b"select 1\r\n" };
/// let second = Sample { from_start: false, bytes: b"+OK\r\n", ..first };
/// assert_eq!([first, second].map(|sample| detect(PROTOCOLS, &sample)), [Guess::NeedMore; 2]);
/// let guess = Guess::Protocol(&redis::SPEC, Direction::ToServer);
/// assert_eq!(detect_answered(PROTOCOLS, &first, &second), guess);
/// ```
#[must_use]
pub fn detect_answered(table: &[&'static Spec], first: &Sample<'_>, second: &Sample<'_>) -> Guess {
    let both = [Direction::ToServer, Direction::ToClient].into_iter().flat_map(|direction| {
        let fits = move |protocol: &&&'static Spec| {
            may_be(protocol, direction, first) && may_be(protocol, direction.opposite(), second)
        };
        table.iter().filter(fits).map(move |&protocol| (protocol, direction))
    });
    let mut both = both.filter(|(protocol, _)| protocol.parser.is_some());
    match (both.next(), both.next()) {
        (Some((protocol, direction)), None) => Guess::Protocol(protocol, direction),
        (Some(_), Some(_)) => Guess::NeedMore,
        (None, _) => Guess::Unknown,
    }
}

/// Whether the sample can be of this protocol and travel in this direction.
#[must_use]
pub fn may_be(protocol: &Spec, direction: Direction, sample: &Sample<'_>) -> bool {
    protocol.transport == sample.transport
        && sample.direction.is_none_or(|known| known == direction)
        && (protocol.detect)(direction, sample) != Looks::Wrong
}
