//! The texts of an HTTP request that a span shows, of any version of HTTP: without secrets and within limits.

use compact_str::CompactString;

use super::ascii::{all, is_printable};
use crate::redact;

/// Bounds the memory of one open request, and so of all of them.
const MAX_PATH_LENGTH: usize = 2048;
const MAX_NAME_LENGTH: usize = 512;
/// Longer values are no ids.
const MAX_CORRELATION_LENGTH: usize = 128;

/// The most frequent methods need no check.
pub(crate) fn method(method: &[u8]) -> CompactString {
    match method {
        b"GET" => CompactString::const_new("GET"),
        b"POST" => CompactString::const_new("POST"),
        b"PUT" => CompactString::const_new("PUT"),
        method => text(method, MAX_NAME_LENGTH),
    }
}

/// A scheme, a user agent or a name.
pub(crate) fn name(bytes: &[u8]) -> CompactString {
    text(bytes, MAX_NAME_LENGTH)
}

/// Host and port.
pub(crate) fn host(authority: &[u8]) -> CompactString {
    name(redact::authority(authority))
}

/// An id that services pass on. `None` if it is no id.
pub(crate) fn correlation(id: &[u8]) -> Option<CompactString> {
    (1..=MAX_CORRELATION_LENGTH).contains(&id.len()).then(|| text(id, MAX_CORRELATION_LENGTH))
}

/// RFC 9112 3.2
#[derive(Debug, Default)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: &'a [u8],
    pub(crate) authority: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    pub(crate) fn parse(method: &[u8], target: &'a [u8]) -> Self {
        if method == b"CONNECT" {
            return Self { authority: target, ..Self::default() };
        }
        let (scheme, authority, rest) =
            if target.starts_with(b"/") { (&[][..], &[][..], target) } else { absolute(target) };
        // Clients do not send fragments. If one does, it is not exported.
        let mark =
            if all(rest, |byte| byte != b'?' && byte != b'#') { None } else { memchr::memchr2(b'?', b'#', rest) };
        let (path, query) = match mark {
            Some(mark) if rest[mark] == b'?' => {
                let query = &rest[mark + 1..];
                (&rest[..mark], Some(&query[..memchr::memchr(b'#', query).unwrap_or(query.len())]))
            }
            Some(mark) => (&rest[..mark], None),
            None => (rest, None),
        };
        // RFC 9110 4.2.3: an empty path means the root.
        Self { scheme, authority, path: if path.is_empty() { b"/" } else { path }, query }
    }

    /// The names of the query's parameters.
    pub(crate) fn redacted_query(&self) -> CompactString {
        self.query.map(redact::query).unwrap_or_default()
    }

    pub(crate) fn redacted_path(&self) -> CompactString {
        let is_path = self.path.starts_with(b"/");
        // Nearly every path needs no other look.
        if is_path
            && self.path.len() <= MAX_PATH_LENGTH
            && all(self.path, |byte| matches!(byte, b'!'..=b'~') && byte != b';' && byte != b'%')
            && let Ok(path) = std::str::from_utf8(self.path)
        {
            return CompactString::new(path);
        }
        // A target of no valid form (RFC 9112 3.2) with values may be a query without its question mark.
        if !is_path && memchr::memchr(b'=', self.path).is_some() {
            return redact::query(self.path);
        }
        // A target has no blanks and no control characters. What follows them may be fields or a query of something else.
        let odd = self.path.iter().position(|&byte| byte <= b' ' || byte == 0x7f);
        match odd.map(|odd| self.path.split_at(odd + 1)) {
            Some((before, after)) if memchr::memchr(b'=', after).is_some() => {
                let mut path = redact::path(text(before, MAX_PATH_LENGTH));
                path.push_str(&redact::query(after));
                path
            }
            _ => redact::path(text(self.path, MAX_PATH_LENGTH)),
        }
    }
}

/// Scheme, authority and rest of an absolute-form. Of any other form everything is rest.
fn absolute(target: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let colon = memchr::memchr(b':', target).filter(|&colon| is_scheme(&target[..colon]));
    let Some(colon) = colon else { return (&[], &[], target) };
    let Some(after) = target[colon + 1..].strip_prefix(b"//") else { return (&[], &[], target) };
    let end = memchr::memchr3(b'/', b'?', b'#', after).unwrap_or(after.len());
    (&target[..colon], &after[..end], &after[end..])
}

/// RFC 3986 3.1
fn is_scheme(scheme: &[u8]) -> bool {
    let of_schemes = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(of_schemes)
}

/// Bytes as text. Invalid UTF-8 and control characters are replaced, and an ellipsis marks a cut.
fn text(bytes: &[u8], limit: usize) -> CompactString {
    if bytes.is_empty() {
        return CompactString::default();
    }
    match std::str::from_utf8(bytes) {
        // The common case.
        Ok(text) if bytes.len() <= limit && is_printable(bytes) => CompactString::new(text),
        _ => printable(&bytes[..bytes.len().min(limit)], bytes.len() > limit, limit),
    }
}

#[cold]
fn printable(bytes: &[u8], mut cut: bool, limit: usize) -> CompactString {
    let mut text = CompactString::default();
    let mut folded = false;
    for letter in String::from_utf8_lossy(bytes).chars() {
        // A replacement character is longer than the byte it replaces.
        if text.len() + letter.len_utf8() > limit {
            cut = true;
            break;
        }
        // RFC 9112 5.2: the end of a folded line and the blanks around it are one blank.
        let blank = matches!(letter, '\r' | '\n' | '\t') || (folded && letter == ' ');
        match (blank, letter.is_control()) {
            (true, _) if !folded => text.push(' '),
            (true, _) => {}
            (false, true) => text.push(char::REPLACEMENT_CHARACTER),
            (false, false) => text.push(letter),
        }
        folded = blank;
    }
    if cut {
        text.push('…');
    }
    text
}
