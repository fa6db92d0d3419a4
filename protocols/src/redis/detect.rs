//! Recognizes RESP, the protocol of Redis.

use super::line::{CR_LF, is_reply_type};
use super::shapes::{may_be_name, shape};
use crate::moment::Direction;
use crate::spec::{Looks, Sample};

/// More arguments than any command has.
const MOST_ARGUMENTS: u64 = 1 << 20;
/// The default of proto-max-bulk-len, the limit of a string.
const LONGEST_STRING: u64 = 512 << 20;

pub(super) fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    match direction {
        Direction::ToServer => match sample.bytes {
            [b'*', rest @ ..] => command(rest, sample),
            line => inline(line, sample.from_start),
        },
        // The server never speaks first.
        Direction::ToClient if sample.from_start => Looks::Wrong,
        // An array is a command or a reply. Its direction decides.
        Direction::ToClient if sample.direction.is_none() && sample.bytes.starts_with(b"*") => Looks::Wrong,
        Direction::ToClient => reply(sample.bytes),
    }
}

/// `*2\r\n$3\r\nGET\r\n...`: an array of strings. A reply may look the same. Then the first word decides.
fn command(rest: &[u8], sample: &Sample<'_>) -> Looks {
    let (arguments, rest) = match number(rest) {
        Number::Is(arguments, rest) if (1..=MOST_ARGUMENTS).contains(&arguments) => (arguments, rest),
        Number::NeedMore => return Looks::RightSoFar,
        _ => return Looks::Wrong,
    };
    let length = match rest {
        [] => return Looks::RightSoFar,
        [b'$', length @ ..] => length,
        _ => return Looks::Wrong,
    };
    let (length, word) = match number(length) {
        Number::Is(length, word) if (1..=LONGEST_STRING).contains(&length) => (length as usize, word),
        Number::NeedMore => return Looks::RightSoFar,
        _ => return Looks::Wrong,
    };
    if sample.direction.is_some() || sample.from_start {
        return Looks::Right;
    }
    let word = &word[..word.len().min(length)];
    let of_commands = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'_' | b'-');
    match (word.iter().all(of_commands), word.len() == length) {
        (true, true) if is_command(word, arguments) => Looks::Right,
        (true, false) if length <= LONGEST_COMMAND => Looks::RightSoFar,
        _ => Looks::Wrong,
    }
}

/// Longer than the name of any command.
const LONGEST_COMMAND: usize = 32;

/// Whether the command is one that nearly every connection uses. Others are recognized when the direction is known.
fn is_command(word: &[u8], strings: u64) -> bool {
    shape(word).is_some_and(|shape| shape.is_common && shape.fits(strings - 1))
}

/// A line with a command and its arguments.
///
/// Upper-case commands that begin a connection are Redis': the servers of other protocols with such lines speak first. In
/// lower case, and in the middle of a connection, other protocols have such lines too. Then the reply decides.
fn inline(first: &[u8], from_start: bool) -> Looks {
    let end = memchr::memchr(b'\n', first);
    let line = &first[..end.unwrap_or(first.len())];
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r')) {
        return Looks::Wrong;
    }
    let name = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if end.is_none() && name.len() == line.len() {
        return if may_be_name(name) { Looks::RightSoFar } else { Looks::Wrong };
    }
    let Some(shape) = shape(name) else { return Looks::Wrong };
    let arguments = line[name.len()..].trim_ascii();
    // A server of NATS begins with `INFO {...}`, and a request of HTTP ends with its version.
    let is_last_http = arguments.rsplit(u8::is_ascii_whitespace).next().is_some_and(|last| last.starts_with(b"HTTP/"));
    if arguments.starts_with(b"{") || is_last_http {
        return Looks::Wrong;
    }
    if end.is_none() {
        return Looks::RightSoFar;
    }
    let words = arguments.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count() as u64;
    // With quotes, blanks do not separate all words.
    let is_quoted = memchr::memchr2(b'"', b'\'', arguments).is_some();
    match (shape.fits(words) || (is_quoted && words > 0), from_start && name.iter().all(u8::is_ascii_uppercase)) {
        (false, _) => Looks::Wrong,
        (true, true) => Looks::Right,
        (true, false) => Looks::RightSoFar,
    }
}

/// The first message of RESP2 or RESP3, from the middle of a connection. If POP3 and NATS have it as well, the one behind it
/// decides.
fn reply(mut first: &[u8]) -> Looks {
    while let Some((&kind, rest)) = first.split_first() {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            let is_text = rest.iter().all(|&byte| matches!(byte, b' '..=b'~' | b'\r'));
            return if is_reply_type(kind) && is_text { Looks::RightSoFar } else { Looks::Wrong };
        };
        let (line, rest) = (&rest[..end], &rest[end + 1..]);
        match line.strip_suffix(b"\r").map_or(Fit::No, |line| fit(kind, line, rest)) {
            Fit::No => return Looks::Wrong,
            Fit::Surely => return Looks::Right,
            Fit::AsInOthers => first = rest,
        }
    }
    Looks::RightSoFar
}

/// Whether a line is a reply.
enum Fit {
    No,
    /// In other protocols it is a reply as well.
    AsInOthers,
    Surely,
}

/// Judges the line of a reply. `rest` follows it.
fn fit(kind: u8, line: &[u8], rest: &[u8]) -> Fit {
    let is_number = |line: &[u8]| !line.is_empty() && line.len() <= 20 && line.iter().all(u8::is_ascii_digit);
    let is_followed_by_value = |count: &[u8]| {
        is_number(count) && (matches!(count, b"0") || rest.first().is_none_or(|&kind| is_reply_type(kind)))
    };
    let is_right = match kind {
        b'+' if line == b"OK" => return Fit::AsInOthers,
        b'-' if line.starts_with(b"ERR ") => return Fit::AsInOthers,
        // An upper-case word: PONG, QUEUED, WRONGTYPE, ... Only POP3 has text after `+OK`.
        b'+' | b'-' => {
            let word = line.split(|&byte| byte == b' ').next().unwrap_or_default();
            let is_word = word.len() > 1 && word.iter().all(u8::is_ascii_uppercase);
            is_word && !matches!(word, b"OK" | b"ERR") && (kind == b'+' || line.len() > word.len())
        }
        b':' | b'(' => is_number(line.strip_prefix(b"-").unwrap_or(line)),
        b'$' | b'=' | b'!' => (kind == b'$' && line == b"-1") || is_string(line, rest),
        b'*' => line == b"-1" || is_followed_by_value(line),
        b'%' | b'~' | b'>' | b'|' => is_followed_by_value(line),
        b'_' => line.is_empty(),
        b'#' => matches!(line, b"t" | b"f"),
        b',' => {
            let digits = line.iter().any(u8::is_ascii_digit);
            let is_decimal = digits && line.iter().all(|byte| b"0123456789+-.eE".contains(byte));
            is_decimal || matches!(line, b"inf" | b"-inf" | b"nan")
        }
        _ => false,
    };
    if is_right { Fit::Surely } else { Fit::No }
}

/// Whether a string of this length ends where it must.
fn is_string(length: &[u8], rest: &[u8]) -> bool {
    let Some(length) = std::str::from_utf8(length).ok().and_then(|digits| digits.parse::<usize>().ok()) else {
        return false;
    };
    length as u64 <= LONGEST_STRING
        && rest.get(length..).is_none_or(|after| Looks::begins_with(after, CR_LF) != Looks::Wrong)
}

enum Number<'a> {
    Is(u64, &'a [u8]),
    NeedMore,
    No,
}

/// Digits and a line end.
fn number(bytes: &[u8]) -> Number<'_> {
    const MOST_DIGITS: usize = 10;
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > MOST_DIGITS {
        return Number::No;
    }
    let value = bytes[..digits].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    match &bytes[digits..] {
        [b'\r', b'\n', rest @ ..] if digits > 0 => Number::Is(value, rest),
        [] => Number::NeedMore,
        [b'\r'] if digits > 0 => Number::NeedMore,
        _ => Number::No,
    }
}
