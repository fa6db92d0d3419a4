//! Recognizes PostgreSQL's protocol, at the start of a connection and in its middle.

use crate::moment::Direction;
use crate::spec::{Looks, Sample};

/// Longer statements exist, but a longer first message is more likely of another protocol.
const LONGEST_MESSAGE: u32 = 64 << 20;
/// This much text in a statement is no coincidence.
const ENOUGH_TEXT: usize = 6;
/// Neither are this many consecutive messages.
const ENOUGH_MESSAGES: usize = 2;

pub(super) fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    match direction {
        Direction::ToServer if sample.from_start => startup(sample.bytes),
        // The server never speaks first.
        Direction::ToClient if sample.from_start => Looks::Wrong,
        Direction::ToServer => messages(sample.bytes, request_message),
        Direction::ToClient => messages(sample.bytes, response_message),
    }
}

/// The only messages without a type: a length and a code.
fn startup(first: &[u8]) -> Looks {
    const LONGEST_STARTUP: u32 = 10_000;
    let Some((length, rest)) = first.split_first_chunk() else {
        return if first.iter().take(2).all(|&byte| byte == 0) { Looks::RightSoFar } else { Looks::Wrong };
    };
    let length = u32::from_be_bytes(*length);
    if !(8..=LONGEST_STARTUP).contains(&length) {
        return Looks::Wrong;
    }
    let Some(code) = rest.first_chunk() else {
        return if b"\x00\x03\x00".starts_with(rest) || b"\x04\xd2\x16".starts_with(rest) {
            Looks::RightSoFar
        } else {
            Looks::Wrong
        };
    };
    match (u32::from_be_bytes(*code), length) {
        // Version 3.x and a parameter. Kafka's metadata request has the same bytes, but a number after them.
        (0x0003_0000..=0x0003_ffff, 9..) => match rest.get(code.len()) {
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => Looks::Right,
            Some(_) => Looks::Wrong,
            None => Looks::RightSoFar,
        },
        // SSLRequest and GSSENCRequest; CancelRequest.
        (80_877_103 | 80_877_104, 8) | (80_877_102, 16..) => Looks::Right,
        _ => Looks::Wrong,
    }
}

/// Whether the visible part of a message matches its type.
type Fits = fn(kind: u8, length: u32, body: &[u8]) -> Fit;

enum Fit {
    No,
    /// As well as any message of that length would.
    Yes,
    /// As only this type does.
    Surely,
}

/// Walks over the messages as far as the bytes go.
fn messages(first: &[u8], fits: Fits) -> Looks {
    let mut rest = first;
    let mut fitting = 0;
    while let Some(([kind, length @ ..], body)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(*length);
        if !(4..=LONGEST_MESSAGE).contains(&length) {
            return Looks::Wrong;
        }
        let seen = &body[..body.len().min(length as usize - 4)];
        match fits(*kind, length - 4, seen) {
            Fit::No => return Looks::Wrong,
            Fit::Surely => return Looks::Right,
            Fit::Yes => {}
        }
        fitting += 1;
        if fitting == ENOUGH_MESSAGES {
            return Looks::Right;
        }
        rest = &body[seen.len()..];
    }
    match (fitting, rest) {
        (0, [kind]) if !kind.is_ascii_alphanumeric() => Looks::Wrong,
        // The first byte of every plausible length.
        (0, [_, high, ..]) if u32::from(*high) > LONGEST_MESSAGE >> 24 => Looks::Wrong,
        _ => Looks::RightSoFar,
    }
}

fn request_message(kind: u8, length: u32, body: &[u8]) -> Fit {
    let whole = body.len() == length as usize;
    match kind {
        b'Q' => statement(body, whole),
        // Parse: the name of the statement, then the statement.
        b'P' => match split_text(body) {
            Some((_, sql)) => match split_text(sql) {
                Some((sql, _)) => statement_text(sql),
                None => statement(sql, false),
            },
            None if whole => Fit::No,
            None => text_so_far(body),
        },
        // Bind: portal and statement; Execute: portal and how many rows.
        b'B' | b'E' if length >= 5 => match split_text(body) {
            Some((_, rest)) if kind == b'E' && whole && rest.len() != 4 => Fit::No,
            Some(_) => Fit::Yes,
            None if whole => Fit::No,
            None => text_so_far(body),
        },
        // Describe, Close: a statement or a portal, and its name.
        b'D' | b'C' if length >= 2 => match body {
            [] => Fit::Yes,
            [b'S' | b'P', name @ ..] if !whole || name.last() == Some(&0) => {
                text_so_far(name.strip_suffix(b"\0").unwrap_or(name))
            }
            _ => Fit::No,
        },
        // Sync, Flush, CopyDone, Terminate
        b'S' | b'H' | b'c' | b'X' if length == 0 => Fit::Surely,
        // CopyData, CopyFail, a password
        b'd' | b'f' | b'p' => Fit::Yes,
        _ => Fit::No,
    }
}

fn response_message(kind: u8, length: u32, body: &[u8]) -> Fit {
    let whole = body.len() == length as usize;
    match kind {
        // ReadyForQuery
        b'Z' if length == 1 => match body {
            [] => Fit::Yes,
            [b'I' | b'T' | b'E'] => Fit::Surely,
            _ => Fit::No,
        },
        // ParseComplete, BindComplete, CloseComplete, NoData, EmptyQueryResponse, PortalSuspended, CopyDone
        b'1' | b'2' | b'3' | b'n' | b'I' | b's' | b'c' if length == 0 => Fit::Yes,
        // CommandComplete: SELECT 1
        b'C' if length > 1 => match split_text(body) {
            Some((tag, rest)) if whole && rest.is_empty() && tag.first().is_some_and(u8::is_ascii_uppercase) => {
                Fit::Surely
            }
            None if !whole => text_so_far(body),
            _ => Fit::No,
        },
        // ErrorResponse, NoticeResponse: fields of a letter and a text, the first being the severity
        b'E' | b'N' if length > 1 => match body {
            [] => Fit::Yes,
            [b'S', severity @ ..] => text_so_far(severity.split(|&byte| byte == 0).next().unwrap_or_default()),
            _ => Fit::No,
        },
        // RowDescription, DataRow, ParameterDescription, CopyIn-, CopyOut- and CopyBothResponse
        b'T' | b'D' | b't' if length >= 2 => Fit::Yes,
        b'G' | b'H' | b'W' if length >= 3 => Fit::Yes,
        // CopyData, Authentication, ParameterStatus, BackendKeyData, NotificationResponse
        b'd' => Fit::Yes,
        b'R' | b'S' | b'K' | b'A' if length >= 4 => Fit::Yes,
        _ => Fit::No,
    }
}

/// A string up to its NUL, and the bytes after it.
fn split_text(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, body)?;
    Some((&body[..end], &body[end + 1..]))
}

/// A statement with its NUL, or the beginning of one.
fn statement(body: &[u8], whole: bool) -> Fit {
    match (body.strip_suffix(b"\0"), whole) {
        (Some(sql), true) => statement_text(sql),
        (None, true) => Fit::No,
        (_, false) if body.len() < ENOUGH_TEXT => text_so_far(body),
        (_, false) => statement_text(body),
    }
}

fn statement_text(sql: &[u8]) -> Fit {
    match text_so_far(sql) {
        Fit::Yes if sql.len() >= ENOUGH_TEXT => Fit::Surely,
        fit => fit,
    }
}

fn text_so_far(text: &[u8]) -> Fit {
    let of_text = |&byte: &u8| byte >= b' ' && byte != 0x7f || matches!(byte, b'\t' | b'\n' | b'\r');
    if text.iter().all(of_text) { Fit::Yes } else { Fit::No }
}
