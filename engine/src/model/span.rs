//! A span: one side of one exchange, in OpenTelemetry's words.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use compact_str::CompactString;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceId};

use super::attributes::Attributes;
use super::service::Service;

/// One side of one exchange, ready for export.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<Parent>,
    /// W3C tracestate of the trace, empty if none.
    pub trace_state: CompactString,
    pub kind: SpanKind,
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    pub end: u64,
    pub status: Status,
    pub attributes: Attributes,
    pub links: Vec<SpanContext>,
    /// PendingService span it is; spans of one service instance share it.
    pub service: Arc<Service>,
}

/// PendingService child a span is, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub span_id: SpanId,
    pub evidence: Evidence,
    /// The parent was named by a header on the wire: it may be nobody's whom we trace.
    pub remote: bool,
}

/// The rung of the ladder a parent stands on: the value of `onlooker.parent.evidence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// A traceparent header in the request.
    Wire,
    /// Both ends of the connection are on this host: the very bytes the client sent.
    Host,
    /// The thread that read the request made the call before it answered.
    Thread,
    /// The call was the first message on a connection opened while this request was worked on.
    Connect,
    /// The event loop's turn belonged to this request and to no other that could be meant.
    Tick,
    /// Both carry the same request id.
    CorrelationId,
    /// No other request was in flight in the process.
    OnlyCandidate,
}

impl Evidence {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Host => "host",
            Self::Thread => "thread",
            Self::Connect => "connect",
            Self::Tick => "tick",
            Self::CorrelationId => "correlation-id",
            Self::OnlyCandidate => "only-candidate",
        }
    }
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Inet(SocketAddr),
    /// A unix socket; the path is empty for an unnamed one, starts with `@` for an abstract one.
    Unix(CompactString),
    /// The event that names it was lost.
    Unknown,
}

/// The two ends of a connection, seen from the process whose spans are made.
#[derive(Debug)]
pub struct Ends {
    pub role: Role,
    pub local: Address,
    pub peer: Address,
    told: OnceLock<[Attributes; 2]>,
}

impl Ends {
    #[must_use]
    pub fn new(role: Role, local: Address, peer: Address) -> Self {
        Self { role, local, peer, told: OnceLock::new() }
    }

    /// The server's end.
    #[must_use]
    pub fn server(&self) -> &Address {
        match self.role {
            Role::Client => &self.peer,
            Role::Server => &self.local,
        }
    }

    /// What `tell` says of them. All spans of the connection say the same: only the first asks.
    pub(crate) fn told(&self, tell: impl FnOnce(&Self) -> [Attributes; 2]) -> &[Attributes; 2] {
        self.told.get_or_init(|| tell(self))
    }
}

/// What the traced process was on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Client,
    Server,
}

/// What an exchange says of itself, before it is known whose child it is: see `describe`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Description {
    pub name: String,
    pub status: Status,
    pub attributes: Attributes,
}
