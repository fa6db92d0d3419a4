//! Removes secrets from queries, paths and authorities before they leave the parser.
//!
//! A value that may be a secret is replaced as a whole, never masked in part:
//! - a query keeps the names of its parameters;
//! - a path keeps the names of its matrix parameters (`;jsessionid=`);
//! - an authority loses its user and password.

use compact_str::CompactString;

use crate::kit::ascii::all;

/// Stands in place of a value. The word is that of the OpenTelemetry semantic conventions.
pub const REDACTED: &str = "REDACTED";

/// A longer name, or one with characters that names do not have, may be a secret itself.
const MAX_NAME_LENGTH: usize = 64;
/// Names beyond this length are dropped. [`ELLIPSIS`] marks the place.
const MAX_QUERY_LENGTH: usize = 1024;
const ELLIPSIS: char = '…';

/// Replaces every value of a query. `query` has no `?`.
///
/// A parameter without a name may be a bare token, and is replaced as a whole.
///
/// ```
/// use onlooker_protocols::redact;
///
/// assert_eq!(redact::query(b"page=1&token=s3cret"), "page=REDACTED&token=REDACTED");
/// assert_eq!(redact::query(b"eyJhbGciOiJIUzI1NiJ9"), "REDACTED");
/// ```
#[must_use]
pub fn query(query: &[u8]) -> CompactString {
    let mut redacted = CompactString::default();
    for (index, parameter) in query.split(|&byte| byte == b'&').enumerate() {
        if redacted.len() > MAX_QUERY_LENGTH {
            redacted.push(ELLIPSIS);
            break;
        }
        if index > 0 {
            redacted.push('&');
        }
        push_parameter(&mut redacted, parameter);
    }
    redacted
}

/// Replaces the values of a path's matrix parameters (RFC 3986 3.3), also behind a semicolon that was escaped by mistake.
///
/// ```
/// use onlooker_protocols::redact;
///
/// assert_eq!(redact::path("/shop;jsessionid=0123/cart".into()), "/shop;jsessionid=REDACTED/cart");
/// ```
#[must_use]
pub fn path(path: CompactString) -> CompactString {
    if !path.contains(';') && find_semicolon(&path).is_none() {
        return path;
    }
    let mut redacted = CompactString::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            redacted.push('/');
        }
        let mut parts = segment.split(';');
        push_escaped(&mut redacted, parts.next().unwrap_or_default());
        for parameter in parts {
            redacted.push(';');
            push_parameter(&mut redacted, parameter.as_bytes());
        }
    }
    redacted
}

/// Reduces an authority to its host and port.
///
/// Dropped are: user information before `@`; everything from `/`, `?` or `#` on (RFC 3986 3.2); a port that is no number,
/// because it may be a password whose `@` is missing.
///
/// ```
/// use onlooker_protocols::redact;
///
/// assert_eq!(redact::authority(b"user:password@example.com:80"), b"example.com:80");
/// ```
#[must_use]
pub fn authority(authority: &[u8]) -> &[u8] {
    // Nearly every authority is a name, with a port at most.
    let colon = authority.iter().position(|&byte| byte == b':');
    let (name, port) = authority.split_at(colon.unwrap_or(authority.len()));
    if all(name, |byte| byte.is_ascii_alphanumeric() | matches!(byte, b'.' | b'-'))
        && port.iter().skip(1).all(u8::is_ascii_digit)
    {
        return authority;
    }
    let end = memchr::memchr3(b'/', b'?', b'#', authority);
    let authority = &authority[..end.unwrap_or(authority.len())];
    let host = memchr::memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]);
    // An IPv6 address has its colons in brackets.
    let address = if host.starts_with(b"[") { memchr::memchr(b']', host).unwrap_or(host.len()) } else { 0 };
    let Some(colon) = memchr::memchr(b':', &host[address..]).map(|colon| address + colon) else { return host };
    let port = &host[colon + 1..];
    let of_addresses = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let is_bare_address = port.contains(&b':') && host.iter().all(of_addresses);
    if is_bare_address || port.iter().all(u8::is_ascii_digit) { host } else { &host[..colon] }
}

/// Appends a segment that may hold parameters behind escaped semicolons. Without a `=` a parameter is text.
fn push_escaped(redacted: &mut CompactString, mut segment: &str) {
    while let Some(at) = find_semicolon(segment) {
        let (before, rest) = segment.split_at(at);
        let (semicolon, after) = rest.split_at(SEMICOLON.len());
        redacted.push_str(before);
        redacted.push_str(semicolon);
        let (parameter, next) = after.split_at(find_semicolon(after).unwrap_or(after.len()));
        if parameter.contains('=') || find_escape(parameter, "%3D").is_some() {
            push_parameter(redacted, parameter.as_bytes());
        } else {
            redacted.push_str(parameter);
        }
        segment = next;
    }
    redacted.push_str(segment);
}

const SEMICOLON: &str = "%3B";

fn find_semicolon(text: &str) -> Option<usize> {
    find_escape(text, SEMICOLON)
}

/// Finds a percent escape, whose hexadecimal digits may be in either case.
fn find_escape(text: &str, escape: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'%', bytes)
        .find(|&at| bytes[at..].get(..escape.len()).is_some_and(|seen| seen.eq_ignore_ascii_case(escape.as_bytes())))
}

fn push_parameter(redacted: &mut CompactString, parameter: &[u8]) {
    if parameter.is_empty() {
        return;
    }
    if let Some(name) = name(parameter) {
        redacted.push_str(name);
        redacted.push('=');
    }
    redacted.push_str(REDACTED);
}

/// The name of a parameter that has a name and a value. A word followed by nothing but `=` may be padded base64.
fn name(parameter: &[u8]) -> Option<&str> {
    let equals = memchr::memchr(b'=', parameter)?;
    let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
    let of_names = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.~[]$:%!*+@".contains(byte);
    if name.is_empty()
        || name.len() > MAX_NAME_LENGTH
        || !name.iter().all(of_names)
        || value.iter().all(|&byte| byte == b'=')
    {
        return None;
    }
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::values("a=1&password=hunter2", "a=REDACTED&password=REDACTED")]
    #[case::value_with_equals("a=b=c", "a=REDACTED")]
    #[case::bare_token("eyJhbGciOiJIUzI1NiJ9", "REDACTED")]
    #[case::padded_token("dG9rZW4=", "REDACTED")]
    #[case::twice_padded_token("dG9rZQ==", "REDACTED")]
    #[case::no_name("=secret", "REDACTED")]
    #[case::semicolons_are_part_of_the_value("a=1;b=2", "a=REDACTED")]
    #[case::brackets("filter[name]=x&ids%5B%5D=3", "filter[name]=REDACTED&ids%5B%5D=REDACTED")]
    #[case::not_a_name("a b\"c=1", "REDACTED")]
    #[case::empty_parameters("&&a=1&", "&&a=REDACTED&")]
    #[case::empty("", "")]
    fn only_the_names_of_a_query_are_kept(#[case] given: &str, #[case] redacted: &str) {
        assert_eq!(query(given.as_bytes()), redacted);
    }

    #[test]
    fn a_long_name_is_replaced() {
        let (name, secret) = ("n".repeat(64), "s".repeat(65));
        assert_eq!(query(format!("{name}=1&{secret}=1").as_bytes()), format!("{name}=REDACTED&REDACTED"));
    }

    #[test]
    fn a_long_query_is_cut_and_the_cut_is_marked() {
        let redacted = query("abc=1&".repeat(10_000).as_bytes());
        assert!(redacted.len() < MAX_QUERY_LENGTH + 100 && redacted.ends_with("abc=REDACTED…"), "{redacted}");
    }

    #[rstest]
    #[case::plain("/users/7", "/users/7")]
    #[case::session("/shop;jsessionid=0123/cart;v=1;x", "/shop;jsessionid=REDACTED/cart;v=REDACTED;REDACTED")]
    #[case::nothing_after("/a;", "/a;")]
    #[case::escaped("/shop%3Bjsessionid=0123%3bv%3D1/cart", "/shop%3Bjsessionid=REDACTED%3bREDACTED/cart")]
    #[case::escaped_and_not("/shop;v=1%3Bw=2%3Bx=3", "/shop;v=REDACTED")]
    #[case::escaped_text("/tags/a%3B%20b/c%3", "/tags/a%3B%20b/c%3")]
    fn only_the_names_of_a_paths_parameters_are_kept(#[case] given: &str, #[case] redacted: &str) {
        assert_eq!(path(given.into()), redacted);
    }

    #[rstest]
    #[case("user:password@example.com:80", "example.com:80")]
    #[case("a@b@example.com", "example.com")]
    #[case("example.com", "example.com")]
    #[case::path("example.com:80/a@b", "example.com:80")]
    #[case::query("example.com?a=b@c", "example.com")]
    #[case::fragment("example.com#a@b", "example.com")]
    #[case::password_without_its_host("user:pass/word@example.com", "user")]
    #[case::no_port("example.com:http", "example.com")]
    #[case::empty_port("example.com:", "example.com:")]
    #[case::ipv6("[::1]:8080", "[::1]:8080")]
    #[case::ipv6_alone("[fe80::1%25eth0]", "[fe80::1%25eth0]")]
    #[case::ipv6_and_no_port("[::1]:secret", "[::1]")]
    #[case::ipv6_bare("fe80::a", "fe80::a")]
    #[case::bracket_without_end("[::1", "[::1")]
    #[case::empty("", "")]
    fn an_authority_is_reduced_to_host_and_port(#[case] given: &str, #[case] host: &str) {
        assert_eq!(authority(given.as_bytes()), host.as_bytes());
    }
}
