//! Status codes (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>), and what stands for them in HTTP.

use crate::facts::RpcStatus;

/// A status code: its name in gRPC and in Connect, and whether it is a failure of the server (OTel semconv, gRPC).
struct Code {
    grpc: &'static str,
    connect: &'static str,
    is_server_error: bool,
}

/// Indexed by the number of the code.
const CODES: [Code; 17] = [
    code("OK", "", false),
    code("CANCELLED", "canceled", false),
    code("UNKNOWN", "unknown", true),
    code("INVALID_ARGUMENT", "invalid_argument", false),
    code("DEADLINE_EXCEEDED", "deadline_exceeded", true),
    code("NOT_FOUND", "not_found", false),
    code("ALREADY_EXISTS", "already_exists", false),
    code("PERMISSION_DENIED", "permission_denied", false),
    code("RESOURCE_EXHAUSTED", "resource_exhausted", false),
    code("FAILED_PRECONDITION", "failed_precondition", false),
    code("ABORTED", "aborted", false),
    code("OUT_OF_RANGE", "out_of_range", false),
    code("UNIMPLEMENTED", "unimplemented", true),
    code("INTERNAL", "internal", true),
    code("UNAVAILABLE", "unavailable", true),
    code("DATA_LOSS", "data_loss", true),
    code("UNAUTHENTICATED", "unauthenticated", false),
];

const fn code(grpc: &'static str, connect: &'static str, is_server_error: bool) -> Code {
    Code { grpc, connect, is_server_error }
}

/// A status code of gRPC, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(u8);

impl Status {
    pub(super) const OK: Self = Self(0);
    pub(super) const CANCELLED: Self = Self(1);
    pub(super) const UNKNOWN: Self = Self(2);
    pub(super) const DEADLINE_EXCEEDED: Self = Self(4);
    const PERMISSION_DENIED: Self = Self(7);
    const RESOURCE_EXHAUSTED: Self = Self(8);
    const UNIMPLEMENTED: Self = Self(12);
    const INTERNAL: Self = Self(13);
    const UNAVAILABLE: Self = Self(14);
    const UNAUTHENTICATED: Self = Self(16);

    /// The value of the field `grpc-status`. A number that is no code counts as UNKNOWN, as clients do.
    pub(super) fn of_field(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| match text.parse() {
            Ok(number) if usize::from(number) < CODES.len() => Self(number),
            _ => Self::UNKNOWN,
        })
    }

    /// The code of this name in Connect.
    pub(super) fn of_connect(name: &[u8]) -> Option<Self> {
        let number = CODES.iter().position(|code| !code.connect.is_empty() && code.connect.as_bytes() == name)?;
        u8::try_from(number).ok().map(Self)
    }

    /// What a client makes of a response that is no gRPC
    /// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
    pub(super) fn of_http(status: u16) -> Self {
        match status {
            400 => Self::INTERNAL,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 => Self::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// What a client makes of a stream that was reset with this error (PROTOCOL-HTTP2, Errors).
    pub(super) fn of_reset(error: &str) -> Self {
        match error {
            "REFUSED_STREAM" => Self::UNAVAILABLE,
            "CANCEL" => Self::CANCELLED,
            "ENHANCE_YOUR_CALM" => Self::RESOURCE_EXHAUSTED,
            "INADEQUATE_SECURITY" => Self::PERMISSION_DENIED,
            "HTTP_1_1_REQUIRED" | "_OTHER" => Self::UNKNOWN,
            _ => Self::INTERNAL,
        }
    }

    /// The fact. `None` for a call of Connect that succeeded: Connect has no code for it.
    pub(super) fn fact(self, is_connect: bool) -> Option<RpcStatus> {
        let Code { grpc, connect, is_server_error } = CODES[usize::from(self.0)];
        let code = if is_connect { connect } else { grpc };
        let status = RpcStatus { code: code.into(), is_client_error: self != Self::OK, is_server_error };
        (!code.is_empty()).then_some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", Some("OK"))]
    #[case("5", Some("NOT_FOUND"))]
    #[case("16", Some("UNAUTHENTICATED"))]
    #[case("17", Some("UNKNOWN"))]
    #[case("4294967296", Some("UNKNOWN"))]
    #[case("", None)]
    #[case("-1", None)]
    #[case("OK", None)]
    fn a_number_is_a_code(#[case] value: &str, #[case] name: Option<&str>) {
        let status = Status::of_field(value.as_bytes()).and_then(|status| status.fact(false));
        assert_eq!(status.as_ref().map(|status| &*status.code), name);
    }

    /// OTel semconv 1.42, gRPC: the codes that are errors of a server.
    #[test]
    fn six_codes_are_errors_of_the_server_and_all_but_ok_of_the_client() {
        let facts: Vec<_> = (0..17).filter_map(|number| Status(number).fact(false)).collect();
        let of_server: Vec<_> = facts.iter().filter(|it| it.is_server_error).map(|it| &*it.code).collect();
        assert_eq!(
            of_server,
            ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
        );
        assert_eq!(facts.iter().filter(|it| it.is_client_error).count(), 16);
    }

    #[test]
    fn connect_has_a_name_for_every_code_but_ok() {
        let not_found = Status::of_connect(b"not_found").and_then(|status| status.fact(true));
        assert_eq!(not_found.map(|it| it.code), Some("not_found".into()));
        assert_eq!((Status::of_connect(b""), Status::OK.fact(true)), (None, None));
    }
}
