//! The heads of messages: request line or status line, and the few fields that matter here (RFC 9112 2 to 5).
//!
//! A head is parsed once it is complete. The parser accepts what servers and clients accept: bare line feeds, folded
//! lines, odd methods. The scanner is our own for that reason, and because it reads a field name only until it is known
//! to be none of the dozen that matter.

use memchr::{memchr, memrchr};

use super::framing::Framing;
use super::lines::{Lines, is_token_char};
use crate::kit::looks::Looks;

/// The largest limit that servers are configured with. nginx and Apache stop at 8 KiB to 32 KiB by default.
pub(super) const MAX_LENGTH: usize = 64 * 1024;
/// Longer than any registered method.
const MAX_METHOD_LENGTH: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) minor_version: u8,
    pub(super) fields: Fields<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResponseHead<'a> {
    pub(super) minor_version: u8,
    pub(super) status: u16,
    pub(super) fields: Fields<'a>,
}

/// The fields that matter, of requests and responses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) content_length: ContentLength,
    pub(super) transfer_coding: TransferCoding,
    pub(super) host: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    pub(super) traceparent: Only<'a>,
    pub(super) tracestate: Vec<&'a [u8]>,
    pub(super) request_id: Option<&'a [u8]>,
    pub(super) correlation_id: Option<&'a [u8]>,
    /// `Expect: 100-continue`
    pub(super) expects_continue: bool,
    /// `Trailer`: trailer fields are announced.
    pub(super) trailer: bool,
}

/// A field that is invalid if it occurs more than once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Only<'a> {
    #[default]
    Absent,
    Value(&'a [u8]),
    Several,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ContentLength {
    #[default]
    Absent,
    Bytes(u64),
    /// Not a number, or several different ones.
    Invalid,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum TransferCoding {
    #[default]
    Absent,
    /// The last coding is chunked.
    Chunked,
    Other,
}

impl<'a> RequestHead<'a> {
    /// `head` begins with the request line. `None` if that is invalid.
    pub(super) fn parse(head: &'a [u8], lines: &Lines) -> Option<Self> {
        let (method, target, minor_version) = request_line(lines.first(head)?)?;
        Some(Self { method, target, minor_version, fields: Fields::parse(head, lines) })
    }

    /// RFC 9112 6.3
    pub(super) fn framing(&self) -> Framing {
        match (self.fields.transfer_coding, self.fields.content_length) {
            (TransferCoding::Chunked, _) if self.minor_version > 0 => {
                Framing::Chunked { trailers: self.fields.trailer }
            }
            (TransferCoding::Chunked | TransferCoding::Other, _) | (_, ContentLength::Invalid) => Framing::Broken,
            (TransferCoding::Absent, ContentLength::Bytes(length)) => Framing::Length(length),
            (TransferCoding::Absent, ContentLength::Absent) => Framing::None,
        }
    }
}

impl<'a> ResponseHead<'a> {
    /// `head` begins with the status line. `None` if that is invalid. An incomplete head is read as far as it goes.
    pub(super) fn parse(head: &'a [u8], lines: &Lines) -> Option<Self> {
        let (minor_version, status) = status_line(lines.first(head).unwrap_or(head))?;
        Some(Self { minor_version, status, fields: Fields::parse(head, lines) })
    }

    /// RFC 9112 6.3. `to_head`: the request was HEAD.
    pub(super) fn framing(&self, to_head: bool) -> Framing {
        if to_head || matches!(self.status, 100..200 | 204 | 304) {
            return Framing::None;
        }
        match (self.fields.transfer_coding, self.fields.content_length) {
            (TransferCoding::Chunked, _) if self.minor_version > 0 => {
                Framing::Chunked { trailers: self.fields.trailer }
            }
            (TransferCoding::Chunked | TransferCoding::Other, _) => Framing::UntilClose,
            (TransferCoding::Absent, ContentLength::Invalid) => Framing::Broken,
            (TransferCoding::Absent, ContentLength::Bytes(length)) => Framing::Length(length),
            (TransferCoding::Absent, ContentLength::Absent) => Framing::UntilClose,
        }
    }
}

impl<'a> Fields<'a> {
    fn parse(head: &'a [u8], lines: &Lines) -> Self {
        let mut fields = Self::default();
        lines.fields(head).for_each(|line| fields.take(line));
        fields
    }

    /// Takes the field if it is one of those. The first letter excludes most fields.
    fn take(&mut self, line: &'a [u8]) {
        let value = |name| value(line, name);
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {
                if let Some(length) = value("content-length") {
                    self.content_length.combine(length);
                }
            }
            Some(b'e') => {
                self.expects_continue |= value("expect").is_some_and(|it| it.eq_ignore_ascii_case(b"100-continue"));
            }
            Some(b'h') => self.host = self.host.or_else(|| value("host")),
            Some(b't') => {
                if let Some(parent) = value("traceparent") {
                    self.traceparent.add(parent);
                } else if let Some(coding) = value("transfer-encoding") {
                    self.transfer_coding.combine(coding);
                }
                self.tracestate.extend(value("tracestate"));
                self.trailer |= value("trailer").is_some();
            }
            Some(b'u') => self.user_agent = self.user_agent.or_else(|| value("user-agent")),
            Some(b'x') => {
                self.request_id = self.request_id.or_else(|| value("x-request-id"));
                self.correlation_id = self.correlation_id.or_else(|| value("x-correlation-id"));
            }
            _ => {}
        }
    }
}

/// The value of the field, if it has this name. Servers accept blanks before the colon.
fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (is_name, rest) = line.split_at_checked(name.len())?;
    if !matches!(rest.first(), Some(b':' | b' ' | b'\t')) || !is_name.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    Some(rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii())
}

impl<'a> Only<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = if *self == Self::Absent { Self::Value(value) } else { Self::Several };
    }

    pub(super) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Several => None,
        }
    }
}

impl ContentLength {
    /// RFC 9110 8.6: the same number several times, in a list or in several fields, counts once.
    fn combine(&mut self, value: &[u8]) {
        for member in value.split(|&byte| byte == b',') {
            *self = match (*self, decimal(member.trim_ascii())) {
                (Self::Absent, Some(length)) => Self::Bytes(length),
                (Self::Bytes(before), Some(length)) if before == length => Self::Bytes(length),
                _ => Self::Invalid,
            };
        }
    }
}

impl TransferCoding {
    /// The last field decides, because its codings were applied last. The obsolete `identity` (RFC 2616 3.6) is no coding.
    fn combine(&mut self, value: &[u8]) {
        let is_none = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
        let mut codings = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        match codings.find(|coding| !is_none(coding)) {
            Some(last) if last.eq_ignore_ascii_case(b"chunked") => *self = Self::Chunked,
            Some(_) => *self = Self::Other,
            None => {}
        }
    }
}

/// 1*DIGIT that fits into 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// RFC 9112 3: method, target and minor version.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], u8)> {
    let line = line.trim_ascii_end();
    let method_end = memchr(b' ', line).filter(|&end| end <= MAX_METHOD_LENGTH && is_token(&line[..end]))?;
    let version_at = memrchr(b' ', line).filter(|&at| at > method_end)?;
    let minor_version = version(&line[version_at + 1..])?;
    let target = line[method_end + 1..version_at].trim_ascii();
    if target.is_empty() { None } else { Some((&line[..method_end], target, minor_version)) }
}

/// RFC 9112 4: minor version and status.
fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let (version_field, rest) = line.split_at_checked(b"HTTP/1.1".len())?;
    let minor_version = version(version_field)?;
    match *rest.trim_ascii_end() {
        [b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', ref reason @ ..]
            if matches!(reason, [] | [b' ', ..]) =>
        {
            let digit = |byte: u8| u16::from(byte - b'0');
            Some((minor_version, digit(hundreds) * 100 + digit(tens) * 10 + digit(ones)))
        }
        _ => None,
    }
}

pub(super) fn is_request_line(line: &[u8]) -> bool {
    request_line(line).is_some()
}

pub(super) fn is_status_line(line: &[u8]) -> bool {
    status_line(line).is_some()
}

/// `HTTP/1.` and the minor version. Later ones than 1 are treated as 1 (RFC 9110 2.5).
fn version(bytes: &[u8]) -> Option<u8> {
    match bytes.strip_prefix(b"HTTP/1.")? {
        [minor @ b'0'..=b'9'] => Some((minor - b'0').min(1)),
        _ => None,
    }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_char(byte))
}

/// Whether an incomplete head may become a valid one. Looks only at its first bytes.
pub(super) fn may_be_request(bytes: &[u8]) -> bool {
    let method = &bytes[..bytes.len().min(MAX_METHOD_LENGTH + 1)];
    match memchr(b' ', method) {
        Some(end) => is_token(&method[..end]),
        None => method.len() <= MAX_METHOD_LENGTH && is_token(method),
    }
}

/// See [`may_be_request`].
pub(super) fn may_be_response(bytes: &[u8]) -> bool {
    let seen = bytes.len().min(b"HTTP/1.".len());
    bytes[..seen] == b"HTTP/1."[..seen]
}

/// Stricter than the parser, for bytes that may be anything: methods are upper-case, targets have no blanks.
pub(super) fn looks_like_request(bytes: &[u8]) -> Looks {
    let method_end = bytes.iter().position(|byte| !(byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')));
    match method_end {
        None if bytes.len() <= MAX_METHOD_LENGTH => return Looks::RightSoFar,
        Some(end) if (1..=MAX_METHOD_LENGTH).contains(&end) && bytes[end] == b' ' => {}
        _ => return Looks::Wrong,
    }
    let after_method = &bytes[method_end.unwrap_or_default() + 1..];
    let Some(target_end) = after_method.iter().position(|&byte| byte <= b' ' || byte == 0x7f) else {
        // A target begins with a path, `*`, a scheme or a host.
        let begins = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'*' | b'[' | b'_');
        return if after_method.first().is_none_or(begins) { Looks::RightSoFar } else { Looks::Wrong };
    };
    let rest = &after_method[target_end..];
    let seen = rest.len().min(b" HTTP/1.".len());
    if target_end == 0 || rest[..seen] != b" HTTP/1."[..seen] {
        return Looks::Wrong;
    }
    match rest[seen..] {
        [] | [b'0' | b'1'] | [b'0' | b'1', b'\r'] => Looks::RightSoFar,
        [b'0' | b'1', b'\n', ..] | [b'0' | b'1', b'\r', b'\n', ..] => Looks::Right,
        _ => Looks::Wrong,
    }
}

/// See [`looks_like_request`].
pub(super) fn looks_like_response(bytes: &[u8]) -> Looks {
    const PATTERN: &[u8] = b"HTTP/1.v nnn";
    let fits = |(&byte, &wanted): (&u8, &u8)| match wanted {
        b'v' => matches!(byte, b'0' | b'1'),
        b'n' => byte.is_ascii_digit(),
        _ => byte == wanted,
    };
    if !bytes.iter().zip(PATTERN).all(fits) {
        return Looks::Wrong;
    }
    match bytes.get(PATTERN.len()) {
        Some(b' ' | b'\r' | b'\n') => Looks::Right,
        Some(_) => Looks::Wrong,
        None => Looks::RightSoFar,
    }
}
