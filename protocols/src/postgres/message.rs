//! The messages of protocol version 3 (PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats"), as far
//! as exchanges need them.

use std::ops::RangeInclusive;

use crate::moment::Moment;

/// One message.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    /// The beginning of the body. It ends at the limit of its kind ([`Side::body`]) or at a hole.
    pub(super) body: &'a [u8],
    /// The first byte, and the position just past the last.
    pub(super) start: Moment,
    pub(super) end: Moment,
}

/// The sender. Each has its own kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Frontend,
    Backend,
}

/// Kinds for messages without a type byte: packets before a session, and the answer to a request for encryption.
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
    /// `PasswordMessage`, `SASLInitialResponse`, `SASLResponse`, `GSSResponse`. Their bodies are never kept.
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

/// How many bytes of SQL are kept. The text of a longer one is marked as truncated.
pub(super) const MAX_SQL: usize = 8 * 1024;
/// How many bytes of a statement's or portal's name are kept. The server cuts names to 63.
pub(super) const MAX_NAME: usize = 256;
/// Command tags are shorter (`CREATE TEXT SEARCH CONFIGURATION`).
const MAX_TAG: usize = 64;
/// An error begins with the severity, the untranslated severity and the SQLSTATE.
const MAX_ERROR: usize = 128;
/// The name and value of `standard_conforming_strings`.
const MAX_PARAMETER: usize = 64;
/// The start-up parameters that matter. Others (`application_name`, `options`) are skipped.
const MAX_PARAMETERS: usize = 1024;

/// The server's limit of any message (`MaxAllocSize`).
const MAX_BODY: u32 = 0x3fff_ffff;
/// The body of a packet has at least a code, and at most the server's `MAX_STARTUP_PACKET_LENGTH`.
const PACKET_BODY: RangeInclusive<u32> = 4..=10_000;

const PROTOCOL_MAJOR: u32 = 3;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

pub(super) const HEADER_LENGTH: usize = 5;
pub(super) const PACKET_HEADER_LENGTH: usize = 4;

/// `ReadyForQuery` has the transaction's state: `I`dle, `T`ransaction or failed (`E`).
pub(super) const READY_FOR_QUERY_LENGTH: usize = 6;

impl Side {
    /// The length of the body after this header, and how many of its bytes are kept. `Err` says why there is no such
    /// message.
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

    /// The kind that comes many times in a row.
    pub(super) fn row(self) -> u8 {
        match self {
            Self::Frontend => frontend::COPY_DATA,
            Self::Backend => backend::DATA_ROW,
        }
    }

    /// Whether these bytes are messages from the first byte on. `false` if there are too few.
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

/// How long the body of a kind may be, and how much of it is kept.
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

/// The length of the body, from a length that includes itself.
fn body_length([_, length @ ..]: [u8; HEADER_LENGTH]) -> Option<u32> {
    u32::from_be_bytes(length).checked_sub(4)
}

/// The same for a packet, whose header has no type byte.
pub(super) fn packet(header: [u8; HEADER_LENGTH]) -> Result<(u32, usize), &'static str> {
    let length = body_length(header).ok_or(TOO_SHORT)?;
    if PACKET_BODY.contains(&length) { Ok((length, MAX_PARAMETERS)) } else { Err("no start-up packet") }
}

/// The messages that begin a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// `StartupMessage`, with its database.
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

/// The database of the start-up parameters. Its default is the user's name. Empty if too few parameters were kept.
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

/// The string at the beginning without its NUL, and the bytes after it. `None` without a NUL.
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

/// The command of a `CommandComplete` and its rows: `INSERT 0 5`, `SELECT 5`, `CREATE TABLE`. `None` if it is incomplete.
pub(super) fn command_tag(body: &[u8]) -> Option<(&str, Option<u64>)> {
    let tag = split_string(body).and_then(|(tag, _)| std::str::from_utf8(tag).ok())?;
    let operation = tag.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let rows = tag[operation.len()..].rsplit(' ').next().and_then(|rows| rows.parse().ok());
    Some((operation, rows))
}

/// The outcome of a response whose middle is missing, from the last bytes before its `ReadyForQuery`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An `ErrorResponse`: its last field and its list of fields end with NUL.
    Failed,
    Rows(u64),
    Unknown,
    /// Too few bytes to distinguish failure from success.
    Hidden,
}

pub(super) fn outcome(before_ready: &[u8]) -> Outcome {
    /// The command tags with a row count.
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
    // The words must be the end of such a tag, and more than the space before the number.
    let counts = words.len() > 1
        && COUNTED.iter().any(|counted| match words.len().checked_sub(counted.len()) {
            None => counted.ends_with(words),
            Some(0) => *counted == words,
            // The length before the tag must match.
            Some(_) => words.ends_with(counted),
        });
    let rows = std::str::from_utf8(rows).ok().and_then(|rows| rows.parse().ok());
    rows.filter(|_| counts).map_or(Outcome::Unknown, Outcome::Rows)
}
