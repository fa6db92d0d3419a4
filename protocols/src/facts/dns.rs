//! DNS: <https://opentelemetry.io/docs/specs/semconv/registry/attributes/dns/>.

use std::net::IpAddr;

use compact_str::CompactString;

/// A lookup with its answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dns {
    /// The name asked for, without the last dot: at most 255 bytes, as RFC 1035 2.3.4 says.
    pub question: CompactString,
    /// The type of record asked for, e.g. `AAAA`, `TYPE65`.
    pub record_type: CompactString,
    /// `None` if there was no answer, or its head was not captured.
    pub response: Option<ResponseCode>,
    /// The addresses in the answer, at most 16 of them.
    pub answers: Vec<IpAddr>,
}

/// RFC 1035 4.1.1 and RFC 6895 2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub u16);

impl ResponseCode {
    /// The name of an error, e.g. `NXDOMAIN`. `None` for success.
    #[must_use]
    pub fn error(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => return None,
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            _ => "_OTHER",
        })
    }
}
