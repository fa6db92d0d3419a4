//! Remote procedure calls: <https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/>.

use std::time::Duration;

use compact_str::CompactString;

/// A call of a remote procedure with its result.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rpc {
    /// The value of `rpc.system.name`, e.g. `grpc`.
    pub system: &'static str,
    /// The full name of the method, with its service, e.g. `shop.Cart/AddItem`: at most 512 bytes. Empty if it is
    /// unknown.
    pub method: CompactString,
    /// Host and port that the call is for. Empty if it names none.
    pub host: CompactString,
    pub status: Option<RpcStatus>,
    /// The time that the client gives the call.
    pub timeout: Option<Duration>,
    /// Messages that the client sent. `None` if the number is unknown.
    pub request_messages: Option<u64>,
    /// Messages that the server sent. `None` if the number is unknown.
    pub response_messages: Option<u64>,
}

/// How a call was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcStatus {
    /// The value of `rpc.response.status_code`, e.g. `NOT_FOUND`. Empty if it is unknown.
    pub code: CompactString,
    /// The caller sees it as an error.
    pub is_client_error: bool,
    /// It is a failure of the server, and no mistake of the caller.
    pub is_server_error: bool,
}
