//! The error in a response of Connect: JSON of which only the code is read.

use memchr::memmem;

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
pub(super) fn end_of_stream(json: &[u8]) -> Option<Status> {
    if memmem::find(json, b"\"error\"").is_none() && json.trim_ascii_end().ends_with(b"}") {
        return Some(Status::OK);
    }
    code(json)
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
    #[case::success("{}", Some(Status::OK))]
    #[case::metadata(r#"{"metadata":{"a":["b"]}}"#, Some(Status::OK))]
    #[case::cut(r#"{"metadata":{"a":["#, None)]
    fn a_stream_without_an_error_succeeded(#[case] json: &str, #[case] status: Option<Status>) {
        assert_eq!(end_of_stream(json.as_bytes()), status);
    }
}
