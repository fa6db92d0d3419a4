//! The messages of protocol version 3, as far as an exchange needs them (PostgreSQL documentation, chapter
//! "Frontend/Backend Protocol", section "Message Formats").

use std::ops::RangeInclusive;

use crate::parser::Moment;

/// One message, or as much of it as was kept.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    /// The beginning of the body, to what [`Side::body`] says of its kind, or to where bytes were not captured.
    pub(super) body: &'a [u8],
    /// The moments of its first byte, and of its last with the position just past it.
    pub(super) start: Moment,
    pub(super) end: Moment,
}

/// Who sends: the kinds of messages differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Frontend,
    Backend,
}

/// What has no type byte: the packets before a session, and the one byte that answers a request for encryption.
pub(super) const PACKET: u8 = 0;
pub(super) const ANSWER: u8 = 1;

pub(super) mod frontend {
    pub(in super::super) const BIND: u8 = b'B';
    pub(in super::super) const CLOSE: u8 = b'C';
    pub(in super::super) const COPY_DATA: u8 = b'd';
    pub(in super::super) const COPY_DONE: u8 = b'c';
    pub(in super::super) const COPY_FAIL: u8 = b'f';
    pub(in super::super) const DESCRIBE: u8 = b'D';
    pub(in super::super) const EXECUTE: u8 = b'E';
    pub(in super::super) const FLUSH: u8 = b'H';
    pub(in super::super) const FUNCTION_CALL: u8 = b'F';
    pub(in super::super) const PARSE: u8 = b'P';
    /// `PasswordMessage`, `SASLInitialResponse`, `SASLResponse`, `GSSResponse`: never kept.
    pub(in super::super) const PASSWORD: u8 = b'p';
    pub(in super::super) const QUERY: u8 = b'Q';
    pub(in super::super) const SYNC: u8 = b'S';
    pub(in super::super) const TERMINATE: u8 = b'X';
}

pub(super) mod backend {
    pub(in super::super) const AUTHENTICATION: u8 = b'R';
    pub(in super::super) const BACKEND_KEY_DATA: u8 = b'K';
    pub(in super::super) const BIND_COMPLETE: u8 = b'2';
    pub(in super::super) const CLOSE_COMPLETE: u8 = b'3';
    pub(in super::super) const COMMAND_COMPLETE: u8 = b'C';
    pub(in super::super) const COPY_BOTH_RESPONSE: u8 = b'W';
    pub(in super::super) const COPY_DATA: u8 = b'd';
    pub(in super::super) const COPY_DONE: u8 = b'c';
    pub(in super::super) const COPY_IN_RESPONSE: u8 = b'G';
    pub(in super::super) const COPY_OUT_RESPONSE: u8 = b'H';
    pub(in super::super) const DATA_ROW: u8 = b'D';
    pub(in super::super) const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub(in super::super) const ERROR_RESPONSE: u8 = b'E';
    pub(in super::super) const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub(in super::super) const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub(in super::super) const NO_DATA: u8 = b'n';
    pub(in super::super) const NOTICE_RESPONSE: u8 = b'N';
    pub(in super::super) const NOTIFICATION_RESPONSE: u8 = b'A';
    pub(in super::super) const PARAMETER_DESCRIPTION: u8 = b't';
    pub(in super::super) const PARAMETER_STATUS: u8 = b'S';
    pub(in super::super) const PARSE_COMPLETE: u8 = b'1';
    pub(in super::super) const PORTAL_SUSPENDED: u8 = b's';
    pub(in super::super) const READY_FOR_QUERY: u8 = b'Z';
    pub(in super::super) const ROW_DESCRIPTION: u8 = b'T';
}

/// Longest SQL that is kept, in bytes; the rest is stepped over and the text marked as truncated.
pub(super) const MAX_SQL: usize = 8 * 1024;
/// Longest name of a statement or portal that is remembered, in bytes (the server cuts names to 63).
pub(super) const MAX_NAME: usize = 256;
/// Command tags are shorter (`CREATE TEXT SEARCH CONFIGURATION`).
const MAX_TAG: usize = 64;
/// Severity, untranslated severity and SQLSTATE come first in an error.
const MAX_ERROR: usize = 128;
/// The name and value of `standard_conforming_strings`.
const MAX_PARAMETER: usize = 64;
/// The start-up parameters that matter; the rest (`application_name`, `options`) is stepped over.
const MAX_PARAMETERS: usize = 1024;

/// Longest body of any message: the server's own limit (`MaxAllocSize`).
const MAX_BODY: u32 = 0x3fff_ffff;
/// Body of a packet: a code at least, and no longer than the server's `MAX_STARTUP_PACKET_LENGTH`.
const PACKET_BODY: RangeInclusive<u32> = 4..=10_000;

const PROTOCOL_MAJOR: u32 = 3;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

pub(super) const HEADER_LENGTH: usize = 5;
pub(super) const PACKET_HEADER_LENGTH: usize = 4;

/// The end of every response: how the transaction stands (`I`dle, `T`ransaction, failed: `E`).
pub(super) const READY_FOR_QUERY_LENGTH: usize = 6;

impl Side {
    /// Length of the body of the message with this header, and how many bytes of it are kept. `Err` names what is wrong
    /// if there is no such message.
    pub(super) fn body(self, header: [u8; HEADER_LENGTH]) -> Result<(u32, usize), &'static str> {
        let length = body_length(header).ok_or(TOO_SHORT)?;
        let shape = match self {
            Self::Frontend => frontend_message(header[0]),
            Self::Backend => backend_message(header[0]),
        };
        match shape {
            Some(Shape { shortest, longest, kept }) if shortest <= length && length <= longest => Ok((length, kept)),
            _ => Err("no such message"),
        }
    }

    /// The kind of which there are many, one after the other.
    pub(super) fn row(self) -> u8 {
        match self {
            Self::Frontend => frontend::COPY_DATA,
            Self::Backend => backend::DATA_ROW,
        }
    }

    /// Whether these bytes, as far as they go, are messages from the first byte on. Too few to tell are not.
    pub(super) fn is_spoken_in(self, mut bytes: &[u8]) -> bool {
        if bytes.len() < HEADER_LENGTH {
            return false;
        }
        while let Some((&header, rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() {
            let Ok((length, _)) = self.body(header) else { return false };
            bytes = rest.get(length as usize..).unwrap_or_default();
        }
        true
    }
}

const TOO_SHORT: &str = "a message shorter than its length";

/// How long the body of a message may be, and how much of it is kept.
struct Shape {
    shortest: u32,
    longest: u32,
    kept: usize,
}

impl Shape {
    const EMPTY: Self = Self { shortest: 0, longest: 0, kept: 0 };

    const fn at_least(shortest: u32) -> Self {
        Self { shortest, longest: MAX_BODY, kept: 0 }
    }

    const fn keeping(self, kept: usize) -> Self {
        Self { kept, ..self }
    }
}

fn frontend_message(kind: u8) -> Option<Shape> {
    Some(match kind {
        frontend::QUERY => Shape::at_least(1).keeping(MAX_SQL),
        frontend::PARSE => Shape::at_least(4).keeping(MAX_SQL + MAX_NAME),
        frontend::BIND => Shape::at_least(8).keeping(2 * MAX_NAME),
        frontend::EXECUTE => Shape::at_least(5).keeping(MAX_NAME + 5),
        frontend::DESCRIBE | frontend::CLOSE => Shape::at_least(2).keeping(MAX_NAME + 2),
        frontend::SYNC | frontend::FLUSH | frontend::TERMINATE | frontend::COPY_DONE => Shape::EMPTY,
        frontend::COPY_DATA => Shape::at_least(0),
        frontend::COPY_FAIL => Shape::at_least(1),
        frontend::FUNCTION_CALL => Shape::at_least(10),
        frontend::PASSWORD => Shape::at_least(0),
        _ => return None,
    })
}

fn backend_message(kind: u8) -> Option<Shape> {
    Some(match kind {
        backend::PARSE_COMPLETE
        | backend::BIND_COMPLETE
        | backend::CLOSE_COMPLETE
        | backend::NO_DATA
        | backend::EMPTY_QUERY_RESPONSE
        | backend::PORTAL_SUSPENDED
        | backend::COPY_DONE => Shape::EMPTY,
        backend::READY_FOR_QUERY => Shape { shortest: 1, longest: 1, kept: 1 },
        backend::COMMAND_COMPLETE => Shape::at_least(1).keeping(MAX_TAG),
        backend::ERROR_RESPONSE => Shape::at_least(1).keeping(MAX_ERROR),
        backend::PARAMETER_STATUS => Shape::at_least(2).keeping(MAX_PARAMETER),
        backend::NOTICE_RESPONSE => Shape::at_least(1),
        backend::DATA_ROW | backend::ROW_DESCRIPTION | backend::PARAMETER_DESCRIPTION => Shape::at_least(2),
        backend::COPY_IN_RESPONSE | backend::COPY_OUT_RESPONSE | backend::COPY_BOTH_RESPONSE => Shape::at_least(3),
        backend::COPY_DATA => Shape::at_least(0),
        backend::NOTIFICATION_RESPONSE => Shape::at_least(6),
        backend::BACKEND_KEY_DATA => Shape::at_least(8),
        backend::AUTHENTICATION | backend::FUNCTION_CALL_RESPONSE => Shape::at_least(4),
        backend::NEGOTIATE_PROTOCOL_VERSION => Shape::at_least(8),
        _ => return None,
    })
}

/// Length of the body, from a length that counts itself.
fn body_length([_, length @ ..]: [u8; HEADER_LENGTH]) -> Option<u32> {
    u32::from_be_bytes(length).checked_sub(4)
}

/// The same of a packet, from a header whose type byte means nothing.
pub(super) fn packet(header: [u8; HEADER_LENGTH]) -> Result<(u32, usize), &'static str> {
    let length = body_length(header).ok_or(TOO_SHORT)?;
    if PACKET_BODY.contains(&length) { Ok((length, MAX_PARAMETERS)) } else { Err("no start-up packet") }
}

/// What begins a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// With the database it asks for.
    Startup {
        database: &'a [u8],
    },
    /// `SSLRequest` or `GSSENCRequest`: one byte answers.
    Encryption,
    Cancel,
}

impl<'a> Packet<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (&code, parameters) = body.split_first_chunk()?;
        Some(match u32::from_be_bytes(code) {
            CANCEL_REQUEST => Self::Cancel,
            SSL_REQUEST | GSSENC_REQUEST => Self::Encryption,
            version if version >> 16 == PROTOCOL_MAJOR => Self::Startup { database: database(parameters) },
            _ => return None,
        })
    }

    /// Whether these bytes begin with a packet.
    pub(super) fn begins(bytes: &'a [u8]) -> bool {
        bytes
            .split_first_chunk::<PACKET_HEADER_LENGTH>()
            .is_some_and(|(&[a, b, c, d], body)| packet([PACKET, a, b, c, d]).is_ok() && Self::parse(body).is_some())
    }
}

/// The database of the start-up parameters; the user's name is its default. Empty where too little was kept to tell.
fn database(mut parameters: &[u8]) -> &[u8] {
    let mut user: &[u8] = b"";
    while let Some((name, rest)) = split_string(parameters) {
        if name.is_empty() {
            return user;
        }
        let Some((value, rest)) = split_string(rest) else { break };
        match name {
            b"database" => return value,
            b"user" => user = value,
            _ => {}
        }
        parameters = rest;
    }
    b""
}

/// The string at the beginning, without its NUL, and what follows; `None` if it has no end.
pub(super) fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The SQLSTATE of an `ErrorResponse`.
pub(super) fn sqlstate(mut fields: &[u8]) -> Option<&str> {
    while let Some((&field, rest)) = fields.split_first() {
        let (value, rest) = split_string(rest)?;
        if field == b'C' {
            let is_code = value.len() == 5 && value.iter().all(u8::is_ascii_alphanumeric);
            return std::str::from_utf8(value).ok().filter(|_| is_code);
        }
        fields = rest;
    }
    None
}

/// What a `CommandComplete` says was done, and to how many rows: `INSERT 0 5`, `SELECT 5`, `CREATE TABLE`. `None` where
/// not all of it was captured.
pub(super) fn command_tag(body: &[u8]) -> Option<(&str, Option<u64>)> {
    let tag = split_string(body).and_then(|(tag, _)| std::str::from_utf8(tag).ok())?;
    let operation = tag.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let rows = tag[operation.len()..].rsplit(' ').next().and_then(|rows| rows.parse().ok());
    Some((operation, rows))
}

/// What can be told from the last bytes before a `ReadyForQuery` of a response whose middle is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An `ErrorResponse` (its last field, and its list of fields, end in NUL).
    Failed,
    Rows(u64),
    Unknown,
    /// Too little is left to tell a failure from a success.
    Hidden,
}

pub(super) fn outcome(before_ready: &[u8]) -> Outcome {
    /// The tags that count rows.
    const COUNTED: [&[u8]; 8] =
        [b"SELECT ", b"INSERT 0 ", b"UPDATE ", b"DELETE ", b"MERGE ", b"FETCH ", b"MOVE ", b"COPY "];
    let tag = match before_ready {
        [] | [0] => return Outcome::Hidden,
        [.., 0, 0] => return Outcome::Failed,
        [tag @ .., 0] => tag,
        _ => return Outcome::Unknown,
    };
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (words, rows) = tag.split_at(tag.len() - digits);
    // As much of the words as is there must be the end of a tag, and more than the space before the number.
    let counts = words.len() > 1
        && COUNTED.iter().any(|counted| match words.len().checked_sub(counted.len()) {
            None => counted.ends_with(words),
            Some(0) => *counted == words,
            // The length in front of the tag ends in its own size.
            Some(_) => words.ends_with(counted),
        });
    let rows = std::str::from_utf8(rows).ok().and_then(|rows| rows.parse().ok());
    rows.filter(|_| counts).map_or(Outcome::Unknown, Outcome::Rows)
}
