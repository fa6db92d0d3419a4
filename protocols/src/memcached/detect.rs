//! Recognises memcached, text and binary.

use super::binary::{self, Header};
use super::frame::Line;
use super::text::{Command, Reply, words};
use crate::detect::ENOUGH;
use crate::moment::Direction;
use crate::spec::{Looks, Sample};

pub(super) fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    match (direction, sample.bytes) {
        (Direction::ToServer, [binary::REQUEST, ..]) => header(sample.bytes),
        // The response decides.
        (Direction::ToServer, bytes) if !sample.from_start && is_of_beanstalkd(bytes) => Looks::RightSoFar,
        (Direction::ToServer, bytes) => command(bytes, sample.from_start || sample.direction.is_some()),
        // The server never speaks first.
        (Direction::ToClient, _) if sample.from_start => Looks::Wrong,
        (Direction::ToClient, [binary::RESPONSE, ..]) => header(sample.bytes),
        (Direction::ToClient, bytes) => reply(bytes),
    }
}

/// Whether the line is a command of beanstalkd as well.
fn is_of_beanstalkd(first: &[u8]) -> bool {
    match first.strip_suffix(b"\r\n") {
        Some(b"stats") => true,
        Some(line) => line.strip_prefix(b"delete ").is_some_and(|id| id.iter().all(u8::is_ascii_digit)),
        None => false,
    }
}

/// Whether the first bytes of a run may begin a request.
pub(super) fn may_begin_request(first: &[u8]) -> bool {
    match first {
        [binary::REQUEST, ..] => header(first) != Looks::Wrong,
        _ => command(first, true) != Looks::Wrong,
    }
}

/// Whether the first bytes of a run may begin a response.
pub(super) fn may_begin_response(first: &[u8]) -> bool {
    match first {
        [binary::RESPONSE, ..] => header(first) != Looks::Wrong,
        _ => {
            let end = memchr::memchr(b'\n', first).unwrap_or(first.len());
            let text = first[..end].strip_suffix(b"\r").unwrap_or(&first[..end]);
            end == first.len() || Reply::of(Line { text, words: 0 }).is_ok()
        }
    }
}

/// A header whose opcode exists, with the extras that the opcode demands of a request.
fn header(first: &[u8]) -> Looks {
    if first.len() < binary::HEADER_BYTES {
        return if Header::may_be(first) { Looks::RightSoFar } else { Looks::Wrong };
    }
    match Header::of(first) {
        Some(header) if header.is_request && header.has_right_extras() => Looks::Right,
        Some(header) if !header.is_request && binary::opcode(header.opcode).is_some() => Looks::Right,
        _ => Looks::Wrong,
    }
}

/// A command line with as many arguments as its command has. `is_certain`: the bytes begin a connection or are known to
/// be a client's, so that a line with few arguments is enough.
fn command(first: &[u8], is_certain: bool) -> Looks {
    /// Name, least and most arguments, and whether a line with so few numbers is enough amid a connection.
    const SHAPES: [(&str, usize, usize, bool); 22] = [
        ("get", 1, usize::MAX, false),
        ("gets", 1, usize::MAX, false),
        ("gat", 2, usize::MAX, false),
        ("gats", 2, usize::MAX, false),
        ("set", 4, 5, true),
        ("add", 4, 5, true),
        ("replace", 4, 5, true),
        ("append", 4, 5, true),
        ("prepend", 4, 5, true),
        ("cas", 5, 6, true),
        ("delete", 1, 3, false),
        ("incr", 2, 3, false),
        ("decr", 2, 3, false),
        ("touch", 2, 3, false),
        ("mg", 1, usize::MAX, false),
        ("ms", 2, usize::MAX, false),
        ("md", 1, usize::MAX, false),
        ("ma", 1, usize::MAX, false),
        ("mn", 0, 0, false),
        ("version", 0, 0, false),
        ("stats", 0, 3, false),
        ("flush_all", 0, 2, false),
    ];
    let end = memchr::memchr(b'\n', first);
    let line = &first[..end.unwrap_or(first.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.iter().any(u8::is_ascii_control) {
        return Looks::Wrong;
    }
    let has_name = end.is_some() || line.contains(&b' ');
    let name = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    if !has_name {
        let begins = SHAPES.iter().any(|(known, ..)| known.as_bytes().starts_with(name));
        return if begins { Looks::RightSoFar } else { Looks::Wrong };
    }
    let Some(&(_, least, most, is_distinct)) = SHAPES.iter().find(|(known, ..)| known.as_bytes() == name) else {
        return Looks::Wrong;
    };
    if !is_certain && !is_distinct {
        return Looks::Wrong;
    }
    if end.is_none() {
        return if line.len() >= ENOUGH { Looks::Right } else { Looks::RightSoFar };
    }
    let arguments = words(line).skip(1);
    let count = arguments.clone().count();
    // A server of HTTP may accept methods in lower case.
    let is_http = words(line).next_back().is_some_and(|last| last.starts_with(b"HTTP/"));
    let are_numbers = |from: usize, count: usize| {
        arguments.clone().skip(from).take(count).all(|word| word.iter().all(u8::is_ascii_digit))
    };
    let has_numbers = !is_distinct || (are_numbers(1, 1) && are_numbers(3, 1));
    let fits = (least..=most).contains(&count) && has_numbers && !is_http;
    let readable = Command::of(Line { text: line, words: 0 }).is_ok();
    if fits && readable { Looks::Right } else { Looks::Wrong }
}

/// A line that only memcached's responses have. Those that other protocols have too are recognised by their requests.
fn reply(first: &[u8]) -> Looks {
    const DISTINCT: [&str; 6] = ["VALUE", "END", "STORED", "NOT_STORED", "VA", "HD"];
    let Some(end) = memchr::memchr(b'\n', first) else {
        let begins = DISTINCT.iter().any(|word| {
            let seen = word.len().min(first.len());
            word.as_bytes()[..seen] == first[..seen]
        });
        return if begins && first.len() < ENOUGH { Looks::RightSoFar } else { Looks::Wrong };
    };
    let Some(text) = first[..end].strip_suffix(b"\r") else { return Looks::Wrong };
    let code = words(text).next().unwrap_or_default();
    let is_distinct = DISTINCT.iter().any(|word| word.as_bytes() == code);
    let is_alone = !matches!(code, b"END" | b"STORED" | b"NOT_STORED") || text == code;
    let readable = Reply::of(Line { text, words: 0 }).is_ok();
    if is_distinct && is_alone && readable { Looks::Right } else { Looks::Wrong }
}
