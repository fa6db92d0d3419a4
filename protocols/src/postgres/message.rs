//! The messages of protocol version 3, as far as an exchange needs them (PostgreSQL documentation, chapter
//! "Frontend/Backend Protocol", section "Message Formats").

use crate::parser::Moment;

/// One message, or as much of it as was kept.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    /// The beginning of the body, to what [`Side::keeps`] says of its kind, or to where bytes were not captured.
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
/// The server's `MAX_STARTUP_PACKET_LENGTH`.
const MAX_PACKET: u32 = 10_000;

const PROTOCOL_MAJOR: u32 = 3;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

pub(super) const HEADER_LENGTH: usize = 5;
pub(super) const PACKET_HEADER_LENGTH: usize = 4;

/// The end of every response: how the transaction stands (`I`dle, `T`ransaction, failed: `E`).
pub(super) const READY_FOR_QUERY_LENGTH: usize = 6;

impl Side {
    /// How many bytes of the body are kept, of a message of this kind with a body this long; `None` if there is none.
    pub(super) fn keeps(self, kind: u8, body: u32) -> Option<usize> {
        let (range, kept) = match self {
            Self::Frontend => frontend_message(kind)?,
            Self::Backend => backend_message(kind)?,
        };
        range.contains(&body).then_some(kept)
    }

    /// Whether these bytes, as far as they go, are messages from the first byte on. Too few to tell are not.
    pub(super) fn is_spoken_in(self, mut bytes: &[u8]) -> bool {
        if bytes.len() < HEADER_LENGTH {
            return false;
        }
        while let Some((&header, rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() {
            let Some(body) = body_length(header) else { return false };
            if self.keeps(header[0], body).is_none() {
                return false;
            }
            bytes = rest.get(body as usize..).unwrap_or_default();
        }
        true
    }
}

type Shape = (std::ops::RangeInclusive<u32>, usize);

fn frontend_message(kind: u8) -> Option<Shape> {
    Some(match kind {
        frontend::QUERY => (1..=MAX_BODY, MAX_SQL),
        frontend::PARSE => (4..=MAX_BODY, MAX_SQL + MAX_NAME),
        frontend::BIND => (8..=MAX_BODY, 2 * MAX_NAME),
        frontend::EXECUTE => (5..=MAX_BODY, MAX_NAME + 5),
        frontend::DESCRIBE | frontend::CLOSE => (2..=MAX_BODY, MAX_NAME + 2),
        frontend::SYNC | frontend::FLUSH | frontend::TERMINATE | frontend::COPY_DONE => (0..=0, 0),
        frontend::COPY_DATA => (0..=MAX_BODY, 0),
        frontend::COPY_FAIL => (1..=MAX_BODY, 0),
        frontend::FUNCTION_CALL => (10..=MAX_BODY, 0),
        frontend::PASSWORD => (0..=MAX_BODY, 0),
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
        | backend::COPY_DONE => (0..=0, 0),
        backend::READY_FOR_QUERY => (1..=1, 1),
        backend::COMMAND_COMPLETE => (1..=MAX_BODY, MAX_TAG),
        backend::ERROR_RESPONSE => (1..=MAX_BODY, MAX_ERROR),
        backend::PARAMETER_STATUS => (2..=MAX_BODY, MAX_PARAMETER),
        backend::NOTICE_RESPONSE => (1..=MAX_BODY, 0),
        backend::DATA_ROW | backend::ROW_DESCRIPTION | backend::PARAMETER_DESCRIPTION => (2..=MAX_BODY, 0),
        backend::COPY_IN_RESPONSE | backend::COPY_OUT_RESPONSE | backend::COPY_BOTH_RESPONSE => (3..=MAX_BODY, 0),
        backend::COPY_DATA => (0..=MAX_BODY, 0),
        backend::NOTIFICATION_RESPONSE => (6..=MAX_BODY, 0),
        backend::BACKEND_KEY_DATA => (8..=MAX_BODY, 0),
        backend::AUTHENTICATION | backend::FUNCTION_CALL_RESPONSE => (4..=MAX_BODY, 0),
        backend::NEGOTIATE_PROTOCOL_VERSION => (8..=MAX_BODY, 0),
        _ => return None,
    })
}

/// Length of the body, from a header of a type byte and a length that counts itself.
pub(super) fn body_length([_, length @ ..]: [u8; HEADER_LENGTH]) -> Option<u32> {
    u32::from_be_bytes(length).checked_sub(4)
}

/// How much is kept of a packet with a body this long; `None` if there is no such packet.
pub(super) fn packet_keeps(body: u32) -> Option<usize> {
    (4..=MAX_PACKET).contains(&body).then_some(MAX_PARAMETERS)
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
        bytes.split_first_chunk::<PACKET_HEADER_LENGTH>().is_some_and(|(&length, body)| {
            u32::from_be_bytes(length).checked_sub(4).and_then(packet_keeps).is_some() && Self::parse(body).is_some()
        })
    }
}

/// The database of the start-up parameters; the user's name is its default.
fn database(mut parameters: &[u8]) -> &[u8] {
    let mut user: &[u8] = b"";
    while let Some((name, rest)) = split_string(parameters) {
        let Some((value, rest)) = split_string(rest) else { break };
        match name {
            b"database" => return value,
            b"user" => user = value,
            _ => {}
        }
        parameters = rest;
    }
    user
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

/// What a `CommandComplete` says was done, and to how many rows: `INSERT 0 5`, `SELECT 5`, `CREATE TABLE`.
pub(super) fn command_tag(body: &[u8]) -> (&str, Option<u64>) {
    let tag = split_string(body).and_then(|(tag, _)| std::str::from_utf8(tag).ok()).unwrap_or_default();
    let operation = tag.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let rows = tag[operation.len()..].rsplit(' ').next().and_then(|rows| rows.parse().ok());
    (operation, rows)
}

/// What can be told from the last bytes before a `ReadyForQuery` of a response whose middle is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An `ErrorResponse` (its last field, and its list of fields, end in NUL).
    Failed,
    Rows(u64),
    Unknown,
}

pub(super) fn outcome(before_ready: &[u8]) -> Outcome {
    /// The tags that count rows.
    const COUNTED: [&[u8]; 8] =
        [b"SELECT ", b"INSERT 0 ", b"UPDATE ", b"DELETE ", b"MERGE ", b"FETCH ", b"MOVE ", b"COPY "];
    let Some(tag) = before_ready.strip_suffix(&[0]) else { return Outcome::Unknown };
    if tag.ends_with(&[0]) {
        return Outcome::Failed;
    }
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
