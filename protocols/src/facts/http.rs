//! HTTP: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>.

use compact_str::CompactString;

/// An HTTP request with its response, of any version of HTTP.
///
/// Paths are cut after 2048 bytes and other texts after 512. A cut text ends in `…`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Http {
    /// As sent, in the sender's case.
    pub method: CompactString,
    /// The path of the request target, without query. `*` for OPTIONS, empty for CONNECT.
    pub path: CompactString,
    /// The names of the query's parameters. Every value is replaced by `REDACTED`. Empty if there is no query.
    pub query: CompactString,
    /// Empty if the request does not name it, as HTTP/1's origin-form.
    pub scheme: CompactString,
    /// Host and port that the request is for, without user information. Empty if it names none.
    pub host: CompactString,
    /// The User-Agent field. Empty if there is none.
    pub user_agent: CompactString,
    /// The version of the request.
    pub version: HttpVersion,
    /// Status code of the final response, 100 to 999. `None` if none began, or it was not captured.
    pub status: Option<u16>,
    /// Bytes of the request's body on the wire, without transfer coding, as far as they passed before the connection
    /// ended. `None` if a hole hides the number, or the response ended before the request.
    pub request_body: Option<u64>,
    /// The same of the response's body.
    pub response_body: Option<u64>,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpVersion {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl HttpVersion {
    /// The value of `network.protocol.version`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}
