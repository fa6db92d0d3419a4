//! Responses: what is kept of one until it is matched with its request.

use compact_str::{CompactString, format_compact};

use super::binary::{self, Header};
use super::frame::{Encoding, Head};
use super::identity::Identity;
use super::text::{Reply, Then};
use crate::moment::Moment;

/// A response.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) start: Moment,
    /// Just past its last byte.
    pub(super) end: Moment,
    /// The last line's first word. `None` for binary.
    pub(super) code: Option<CompactString>,
    /// The error that it reports: a word of the text protocol, or the status of the binary one, e.g. `0x0082`.
    pub(super) error: Option<CompactString>,
    pub(super) identity: Identity,
}

impl Response {
    /// Reads a head of a response, and what follows it.
    pub(super) fn of(head: &Head<'_>, start: Moment, end: Moment) -> Result<(Self, Encoding, Then), &'static str> {
        match head {
            Head::Line(line) => {
                let reply = Reply::of(*line)?;
                Ok((Self::of_line(&reply, start, end), Encoding::Text, reply.then))
            }
            Head::Binary(header, _) if header.is_request => Err("a request among responses"),
            Head::Binary(header, key) => {
                let length = header.data_bytes();
                // Statistics come one by one. The last has neither key nor value.
                let is_statistic = header.opcode == binary::STAT && header.key_bytes > 0;
                let then = if is_statistic { Then::Item(length) } else { Then::Data(length) };
                Ok((Self::of_binary(header, *key, start, end), Encoding::Binary, then))
            }
        }
    }

    fn of_line(reply: &Reply<'_>, start: Moment, end: Moment) -> Self {
        Self {
            start,
            end,
            code: Some(CompactString::from_utf8_lossy(reply.code)),
            error: reply.error().map(CompactString::const_new),
            identity: Identity::of_meta(reply.key, reply.opaque),
        }
    }

    fn of_binary(header: &Header, key: Option<&[u8]>, start: Moment, end: Moment) -> Self {
        let error = binary::is_error(header.status).then(|| format_compact!("{:#06x}", header.status));
        Self { start, end, code: None, error, identity: Identity::of_binary(header, key) }
    }

    /// Whether it repeats something that only its request has.
    pub(super) fn identifies(&self) -> bool {
        self.identity.opaque.is_some() || self.identity.key.is_some()
    }
}
