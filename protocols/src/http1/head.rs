//! The heads of messages: request line or status line, and the few fields that matter here (RFC 9112 2 to 5).
//!
//! A head is parsed once it is complete. The parser accepts what servers and clients accept: bare line feeds, folded
//! lines, odd methods. The scanner is our own for that reason, and because it reads a field name only until it is known
//! to be none of the dozen that matter.

use memchr::memchr;
use smallvec::SmallVec;

use super::framing::Framing;
use super::lines::{Lines, is_token_char};
use crate::kit::looks::Looks;
use crate::propagation::Header;
use crate::spec::ENOUGH;

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
    /// Those of trace contexts, in their order.
    pub(super) propagation: SmallVec<[(Header, &'a [u8]); 2]>,
    pub(super) request_id: Option<&'a [u8]>,
    pub(super) correlation_id: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a [u8]>,
    /// `Connect-Protocol-Version`: the request is a unary call of Connect.
    pub(super) is_connect: bool,
    pub(super) connect_timeout: Option<&'a [u8]>,
    pub(super) grpc_timeout: Option<&'a [u8]>,
    pub(super) grpc_status: Option<&'a [u8]>,
    /// `Expect: 100-continue`
    pub(super) expects_continue: bool,
    /// `Trailer`: trailer fields are announced.
    pub(super) trailer: bool,
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

/// Content types of a raw stream that takes over the connection, in Docker's API.
const RAW_STREAMS: [&str; 2] = ["application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"];

/// Whether the content type says that a raw stream follows the head.
pub(super) fn is_raw_stream(content_type: &[u8]) -> bool {
    RAW_STREAMS.iter().any(|it| it.as_bytes().eq_ignore_ascii_case(content_type))
}

/// Whether the field of a 101 names HTTP/2 (RFC 7540 3.2).
pub(super) fn upgrades_to_http2(field: &[u8]) -> bool {
    value(field, b"upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"h2c"))
}

impl<'a> Fields<'a> {
    /// Inlined, so that the fields are not moved into the head.
    #[inline(always)]
    fn parse(head: &'a [u8], lines: &Lines) -> Self {
        let mut fields = Self::default();
        lines.fields(head).for_each(|line| fields.take(line));
        fields
    }

    /// Takes the field if it is one of those. The first letter excludes most fields.
    fn take(&mut self, line: &'a [u8]) {
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {
                if let Some(length) = value(line, b"content-length") {
                    self.content_length.combine(length);
                } else if let Some(kind) = value(line, b"content-type") {
                    self.content_type = self.content_type.or(Some(kind));
                } else if line.first_chunk().is_some_and(|it| is_same(it, CONNECT)) {
                    self.is_connect |= value(line, b"connect-protocol-version").is_some();
                    self.connect_timeout = self.connect_timeout.or_else(|| value(line, b"connect-timeout-ms"));
                }
            }
            Some(b'e') => {
                self.expects_continue |=
                    value(line, b"expect").is_some_and(|it| it.eq_ignore_ascii_case(b"100-continue"));
            }
            Some(b'g') => {
                self.grpc_timeout = self.grpc_timeout.or_else(|| value(line, b"grpc-timeout"));
                self.grpc_status = self.grpc_status.or_else(|| value(line, b"grpc-status"));
            }
            Some(b'h') => self.host = self.host.or_else(|| value(line, b"host")),
            Some(b't') => {
                if let Some(parent) = value(line, b"traceparent") {
                    self.propagation.push((Header::TRACEPARENT, parent));
                } else if let Some(coding) = value(line, b"transfer-encoding") {
                    self.transfer_coding.combine(coding);
                } else {
                    self.trailer |= value(line, b"trailer").is_some();
                    self.propagation.extend(propagation(line));
                }
            }
            Some(b'u') => match line.get(1).map(u8::to_ascii_lowercase) {
                Some(b's') => self.user_agent = self.user_agent.or_else(|| value(line, b"user-agent")),
                Some(b'b') => self.propagation.extend(propagation(line)),
                _ => {}
            },
            // Most others begin with `x-forwarded`.
            Some(b'x') => match line.get(2).map(u8::to_ascii_lowercase) {
                Some(b'r') => self.request_id = self.request_id.or_else(|| value(line, b"x-request-id")),
                Some(b'c') => self.correlation_id = self.correlation_id.or_else(|| value(line, b"x-correlation-id")),
                Some(b'a' | b'b') => self.propagation.extend(propagation(line)),
                _ => {}
            },
            Some(b'b' | b'o') => self.propagation.extend(propagation(line)),
            _ => {}
        }
    }
}

/// What the names of Connect's fields begin with. It excludes `Connection` and `Cookie`.
const CONNECT: &[u8; 8] = b"connect-";

/// The field and its value, if it is one of a trace context.
#[inline(never)]
fn propagation(line: &[u8]) -> Option<(Header, &[u8])> {
    let (name, value) = line.split_at(memchr(b':', line)?);
    Some((Header::named(name.trim_ascii_end())?, value[1..].trim_ascii()))
}

/// The value of the field, if it has this name. Servers accept blanks before the colon.
#[inline(always)]
fn value<'a, const N: usize>(line: &'a [u8], name: &'static [u8; N]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_first_chunk::<N>()?;
    if !matches!(rest.first(), Some(b':' | b' ' | b'\t')) || !is_same(found, name) {
        return None;
    }
    Some(rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii())
}

/// Whether `found`, in any case, is `name`, which is in lower case and constant. Compiles to a comparison for each eight bytes.
#[inline(always)]
fn is_same<const N: usize>(found: &[u8; N], name: &'static [u8; N]) -> bool {
    let case = name.map(|letter| if letter.is_ascii_lowercase() { 0x20 } else { 0 });
    let is_same = |at: usize, length: usize| {
        let word = |bytes: &[u8; N]| {
            let mut word = [0; 8];
            word[..length].copy_from_slice(&bytes[at..at + length]);
            u64::from_ne_bytes(word)
        };
        word(found) | word(&case) == word(name)
    };
    // The last word overlaps the one before.
    match N {
        ..4 => is_same(0, N),
        4..8 => is_same(0, 4) & is_same(N - 4, 4),
        8..16 => is_same(0, 8) & is_same(N - 8, 8),
        16..24 => is_same(0, 8) & is_same(8, 8) & is_same(N - 8, 8),
        _ => (0..N / 8).all(|word| is_same(word * 8, 8)) & is_same(N - 8, 8),
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

/// RFC 9112 3: method, target and minor version. Servers accept any blanks between them, and any bytes in the target.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], u8)> {
    let (rest, version_field) = line.trim_ascii_end().split_last_chunk::<VERSION_LENGTH>()?;
    let minor_version = version(version_field)?;
    let (method, target) = rest.split_at(method_length(rest)?);
    // Without a blank before the version, `HTTP/1.1` is the end of the target.
    if !target.last().is_some_and(is_blank) {
        return None;
    }
    let target = target.trim_ascii();
    if target.is_empty() { None } else { Some((method, target, minor_version)) }
}

const VERSION_LENGTH: usize = b"HTTP/1.1".len();

/// RFC 9112 3: what may stand between the words of a request line.
fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r')
}

/// The length of the method at the beginning, if a blank follows it.
fn method_length(line: &[u8]) -> Option<usize> {
    let length = line.iter().take(MAX_METHOD_LENGTH + 1).position(|&byte| !is_token_char(byte))?;
    (length > 0 && is_blank(&line[length])).then_some(length)
}

/// RFC 9112 4: minor version and status.
fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let (version_field, rest) = line.split_at_checked(VERSION_LENGTH)?;
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

/// Whether an incomplete head may become a valid one. Looks only at its first bytes.
pub(super) fn may_be_request(bytes: &[u8]) -> bool {
    method_length(bytes).is_some() || may_be_method(bytes)
}

fn may_be_method(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_METHOD_LENGTH && bytes.iter().all(|&byte| is_token_char(byte))
}

/// See [`may_be_request`].
pub(super) fn may_be_response(bytes: &[u8]) -> bool {
    let seen = bytes.len().min(b"HTTP/1.".len());
    bytes[..seen] == b"HTTP/1."[..seen]
}

/// Whether the first bytes of a connection begin a request. The answer is final with [`ENOUGH`] bytes.
///
/// A complete line is judged as the parser does: no other protocol has a line that ends in `HTTP/1.1`. An incomplete line
/// may become one. If it is long, it must be as clients usually write it.
pub(super) fn begins_with_request(bytes: &[u8]) -> Looks {
    let first = &bytes[empty_lines(bytes)..];
    if method_length(first).is_none() {
        return if may_be_method(first) && bytes.len() < ENOUGH { Looks::RightSoFar } else { Looks::Wrong };
    }
    if let Some(end) = memchr(b'\n', first) {
        return if is_request_line(&first[..end]) { Looks::Right } else { Looks::Wrong };
    }
    match (bytes.len() < ENOUGH, is_usual(first)) {
        (true, _) => Looks::RightSoFar,
        (false, true) => Looks::Right,
        (false, false) => Looks::Wrong,
    }
}

/// Whether the first bytes of a run begin a request, if they may also be in the middle of anything. The answer is final with
/// [`ENOUGH`] bytes.
///
/// The line must be as clients usually write it. If it is complete, one difference is allowed: a method in lower case, or
/// any bytes in the target.
pub(super) fn looks_like_request(bytes: &[u8]) -> Looks {
    let first = &bytes[empty_lines(bytes)..];
    match memchr(b'\n', first) {
        Some(end) => match request_line(&first[..end]) {
            Some((method, target, _)) if is_usual_method(method) || is_usual_target(target) => Looks::Right,
            _ => Looks::Wrong,
        },
        None if !is_usual(first) => Looks::Wrong,
        None if bytes.len() < ENOUGH => Looks::RightSoFar,
        None => Looks::Right,
    }
}

/// RFC 9112 2.2: empty lines before a request are ignored. Their length.
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Whether an incomplete line is the beginning of one as clients usually write it.
fn is_usual(line: &[u8]) -> bool {
    let Some(method_end) = memchr(b' ', &line[..line.len().min(MAX_METHOD_LENGTH + 1)]) else {
        return line.len() <= MAX_METHOD_LENGTH && is_usual_method(line);
    };
    let (method, target) = (&line[..method_end], &line[method_end + 1..]);
    let target_end = target.iter().position(|&byte| byte <= b' ' || byte == 0x7f).unwrap_or(target.len());
    let (target, version_field) = target.split_at(target_end);
    // A target begins with a path, `*`, a scheme or a host.
    let begins = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'*' | b'[' | b'_');
    is_usual_method(method)
        && (target.first().is_some_and(begins) || line.len() == method_end + 1)
        && Looks::begins_with(version_field, b" HTTP/1.") != Looks::Wrong
}

fn is_usual_method(method: &[u8]) -> bool {
    !method.is_empty() && method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// A path without blanks and control characters.
fn is_usual_target(target: &[u8]) -> bool {
    target.starts_with(b"/") && target.iter().all(|&byte| byte > b' ' && byte != 0x7f)
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
