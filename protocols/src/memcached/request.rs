//! Requests: what is kept of one until it is reported.

pub(super) use super::text::Answered;

use super::binary::{self, Header};
use super::frame::{Encoding, Head};
use super::identity::Identity;
use super::response::Response;
use super::text::Command;
use crate::moment::Moment;

/// The data behind a head: how it is written, and how many bytes it has.
pub(super) type Data = (Encoding, u64);

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) start: Moment,
    /// Just past the last byte that has passed.
    pub(super) end: Moment,
    /// Empty if it is no command that memcached has.
    pub(super) operation: &'static str,
    pub(super) answered: Answered,
    /// The number of keys.
    pub(super) keys: u32,
    pub(super) identity: Identity,
}

impl Request {
    /// Reads the head of a request. With it comes the data that follows, if any does.
    pub(super) fn of(head: &Head<'_>, start: Moment, end: Moment) -> Result<(Self, Option<Data>), &'static str> {
        match head {
            Head::Line(line) => {
                let command = Command::of(*line)?;
                let data = command.data.map(|length| (Encoding::Text, length));
                Ok((Self::of_line(&command, start, end), data))
            }
            Head::Binary(header, _) if !header.is_request => Err("a response among requests"),
            Head::Binary(header, key) => {
                let data = Some((Encoding::Binary, header.data_bytes())).filter(|(_, length)| *length > 0);
                Ok((Self::of_binary(header, *key, start, end), data))
            }
        }
    }

    fn of_line(command: &Command<'_>, start: Moment, end: Moment) -> Self {
        Self {
            start,
            end,
            operation: command.operation,
            answered: command.answered,
            keys: command.keys,
            identity: Identity::of_meta(command.key, command.opaque),
        }
    }

    fn of_binary(header: &Header, key: Option<&[u8]>, start: Moment, end: Moment) -> Self {
        let row = binary::opcode(header.opcode);
        let answered = match (header.opcode, row) {
            (binary::QUIT_QUIETLY, _) => Answered::Never,
            (_, Some(row)) if row.is_quiet => Answered::Unless { sent: &[] },
            _ => Answered::Always,
        };
        Self {
            start,
            end,
            operation: row.map_or("", |row| row.operation),
            answered,
            keys: u32::from(header.key_bytes > 0),
            identity: Identity::of_binary(header, key),
        }
    }

    /// Whether the server closes the connection instead of answering.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self.operation, "quit" | "shutdown")
    }

    /// Whether `response` can be this request's.
    pub(super) fn may_have(&self, response: &Response) -> bool {
        if !self.identity.fits(&response.identity) {
            return false;
        }
        match (self.answered, &response.code) {
            _ if response.error.is_some() => true,
            (Answered::Unless { sent }, Some(code)) => sent.contains(&code.as_str()),
            // Of meta commands only `mn` has this response, and has no other.
            (Answered::Always, Some(code)) => (code == super::text::MN) == (self.operation == "mn"),
            _ => true,
        }
    }
}
