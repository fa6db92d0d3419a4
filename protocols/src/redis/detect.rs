//! Recognizes RESP, the protocol of Redis.

use crate::moment::Direction;
use crate::spec::{Looks, Sample};

/// More arguments than any command has.
const MOST_ARGUMENTS: u64 = 1 << 20;
/// The default of proto-max-bulk-len, the limit of a string.
const LONGEST_STRING: u64 = 512 << 20;

/// Inline commands of people and health checks. Only upper-case ones, because memcached's commands are lower-case.
const INLINE: [&str; 14] = [
    "PING", "GET", "SET", "DEL", "EXISTS", "INCR", "DECR", "KEYS", "INFO", "ECHO", "SELECT", "DBSIZE", "COMMAND",
    "QUIT",
];

pub(super) fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    match direction {
        Direction::ToServer => match sample.bytes {
            [b'*', rest @ ..] => command(rest, sample),
            // In the middle of a connection a line may belong to any protocol.
            _ if sample.from_start => inline(sample.bytes),
            _ => Looks::Wrong,
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

/// Commands that nearly every connection uses. Others are recognized when the direction is known.
fn is_command(word: &[u8], arguments: u64) -> bool {
    const WITH_ARGUMENTS: [&str; 40] = [
        "GET",
        "SET",
        "DEL",
        "MGET",
        "MSET",
        "SETEX",
        "SETNX",
        "EXISTS",
        "EXPIRE",
        "PEXPIRE",
        "TTL",
        "PTTL",
        "INCR",
        "INCRBY",
        "DECR",
        "HGET",
        "HSET",
        "HMGET",
        "HMSET",
        "HGETALL",
        "HDEL",
        "LPUSH",
        "RPUSH",
        "LPOP",
        "RPOP",
        "LRANGE",
        "BLPOP",
        "BRPOP",
        "SADD",
        "SREM",
        "SMEMBERS",
        "ZADD",
        "ZRANGE",
        "EVAL",
        "EVALSHA",
        "PUBLISH",
        "SUBSCRIBE",
        "XADD",
        "XREADGROUP",
        "CLIENT",
    ];
    const ALONE: [&str; 7] = ["PING", "MULTI", "EXEC", "INFO", "HELLO", "DBSIZE", "DISCARD"];
    let is_among = |names: &[&str]| names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(word));
    (arguments > 1 && is_among(&WITH_ARGUMENTS)) || is_among(&ALONE)
}

fn inline(first: &[u8]) -> Looks {
    let of_commands = first.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let (word, rest) = first.split_at(of_commands);
    if rest.is_empty() {
        let begins = INLINE.iter().any(|name| name.as_bytes().starts_with(word));
        return if begins { Looks::RightSoFar } else { Looks::Wrong };
    }
    if !INLINE.iter().any(|name| name.as_bytes() == word) || !matches!(rest[0], b' ' | b'\r' | b'\n') {
        return Looks::Wrong;
    }
    let Some(end) = memchr::memchr(b'\n', rest) else { return Looks::RightSoFar };
    let text = rest[..end].iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r'));
    if text { Looks::Right } else { Looks::Wrong }
}

/// One line of any type of RESP2 or RESP3, from the middle of a connection.
fn reply(first: &[u8]) -> Looks {
    let Some((&kind, rest)) = first.split_first() else { return Looks::RightSoFar };
    let Some(end) = memchr::memchr(b'\n', rest) else {
        let known = b"+-:$*_#,(!=%~>".contains(&kind) && rest.iter().all(|&byte| matches!(byte, b' '..=b'~' | b'\r'));
        return if known { Looks::RightSoFar } else { Looks::Wrong };
    };
    let Some(line) = rest[..end].strip_suffix(b"\r") else { return Looks::Wrong };
    let digits = |line: &[u8]| !line.is_empty() && line.len() <= 20 && line.iter().all(u8::is_ascii_digit);
    let right = match kind {
        // An upper-case word: OK, QUEUED, ERR, WRONGTYPE, ...
        b'+' | b'-' => {
            let word = line.split(|&byte| byte == b' ').next().unwrap_or_default();
            word.len() > 1 && word.iter().all(u8::is_ascii_uppercase) && (kind == b'+' || line.len() > word.len())
        }
        b':' | b'(' => digits(line.strip_prefix(b"-").unwrap_or(line)),
        b'$' | b'*' => digits(line) || line == b"-1",
        b'!' | b'=' | b'%' | b'~' | b'>' => digits(line),
        b'_' => line.is_empty(),
        b'#' => matches!(line, b"t" | b"f"),
        b',' => matches!(line, b"inf" | b"-inf" | b"nan") || line.iter().all(|byte| b"0123456789+-.eE".contains(byte)),
        _ => false,
    };
    if right { Looks::Right } else { Looks::Wrong }
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
