//! What Connect has of its own: errors in JSON, of which only the code is read, and calls that are GETs.

use memchr::memmem;

use super::ending::Text;
use super::status::Status;

/// The code in an error: `{"code": "not_found", ...}`, or the same behind `"error":` at the end of a stream.
///
/// The code comes first in what Connect's libraries write. Elsewhere it could be a part of the message, so it is not looked
/// for.
pub(super) fn code(json: &[u8]) -> Option<Status> {
    let error = after(json, b"{")?;
    let error = match after(error, b"\"error\"") {
        Some(error) => after(after(error, b":")?, b"{")?,
        None => error,
    };
    let value = after(after(after(error, b"\"code\"")?, b":")?, b"\"")?;
    Status::of_connect(&value[..memchr::memchr(b'"', value)?])
}

/// What the message at the end of a stream says: no error means success.
pub(super) fn end_of_stream(json: &Text<'_>) -> Option<Status> {
    if json.is_whole && !json.bytes.is_empty() && memmem::find(&json.bytes, b"\"error\"").is_none() {
        return Some(Status::OK);
    }
    code(&json.bytes)
}

/// Whether the request is a unary call without side effects. Such a call may be a GET, whose query has the message.
pub(crate) fn is_get(method: &[u8], target: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"connect=v1", b"encoding=", b"message="];
    const SHORTEST: usize = "connect=v1&encoding=&message=".len();
    method == b"GET"
        && memchr::memchr(b'?', target).is_some_and(|mark| {
            let query = &target[mark + 1..];
            let has = |name: &[u8]| query.split(|&byte| byte == b'&').any(|parameter| parameter.starts_with(name));
            query.len() >= SHORTEST && memmem::find(query, NAMES[0]).is_some() && NAMES.into_iter().all(has)
        })
}

/// The rest behind blanks and `token`.
fn after<'a>(json: &'a [u8], token: &[u8]) -> Option<&'a [u8]> {
    json.trim_ascii_start().strip_prefix(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::unary(r#"{"code":"not_found","message":"no cart"}"#, Some("not_found"))]
    #[case::blanks("{ \"code\" : \"aborted\"", Some("aborted"))]
    #[case::stream(r#"{"error":{"code":"unavailable"},"metadata":{}}"#, Some("unavailable"))]
    #[case::unknown_word(r#"{"code":"secret"}"#, None)]
    #[case::in_the_message(r#"{"message":"\"code\":\"aborted\""}"#, None)]
    #[case::cut(r#"{"code":"not_f"#, None)]
    fn only_the_code_is_read(#[case] json: &str, #[case] name: Option<&str>) {
        let status = code(json.as_bytes()).and_then(|status| status.fact(true));
        assert_eq!(status.as_ref().map(|status| &*status.code), name);
    }

    #[rstest]
    #[case::success("{}", true, Some(Status::OK))]
    #[case::metadata(r#"{"metadata":{"a":["b"]}}"#, true, Some(Status::OK))]
    #[case::cut(r#"{"metadata":{"a":["b"]}"#, false, None)]
    #[case::error_and_cut(r#"{"error":{"code":"aborted","mess"#, false, Status::of_connect(b"aborted"))]
    #[case::nothing("", true, None)]
    fn a_stream_without_an_error_succeeded(#[case] json: &str, #[case] is_whole: bool, #[case] status: Option<Status>) {
        assert_eq!(end_of_stream(&Text { bytes: json.as_bytes().into(), is_whole }), status);
    }

    #[rstest]
    #[case("GET", "/shop.Cart/Get?connect=v1&encoding=json&message=%7B%7D", true)]
    #[case("GET", "/shop.Cart/Get?message=%7B%7D&encoding=proto&base64=1&connect=v1", true)]
    #[case("POST", "/shop.Cart/Get?connect=v1&encoding=json&message=%7B%7D", false)]
    #[case("GET", "/pay?connect=v1&message=hello", false)]
    #[case("GET", "/shop.Cart/Get", false)]
    fn a_call_may_be_a_get(#[case] method: &str, #[case] target: &str, #[case] is_call: bool) {
        assert_eq!(is_get(method.as_bytes(), target.as_bytes()), is_call);
    }
}
