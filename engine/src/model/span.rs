//! Spans: one end's view of one exchange, in OpenTelemetry's terms.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use compact_str::CompactString;
use onlooker_protocols::proxied::Client;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceId};

use super::attributes::Attributes;
use super::service::Service;

/// One end's view of one exchange, ready for export.
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
    /// The service instance. Its spans share it.
    pub service: Arc<Service>,
}

/// The parent of a span, and the evidence for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub span_id: SpanId,
    pub evidence: Evidence,
    /// A header on the wire, or the process's environment, names the parent. It may be a span of a process that is not traced.
    pub remote: bool,
}

/// How a parent was found: a rung of the ladder, and the value of `onlooker.parent.evidence`. The strongest is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// A traceparent header in the request.
    Wire,
    /// Both ends of the connection are on this host: the server received the very bytes that the client sent.
    Host,
    /// A `TRACEPARENT` in the environment of the process that made the call.
    Environment,
    /// The thread that started the process that made the call read the request, and waits for the process.
    Fork,
    /// The goroutine that made the call, or the one that started it, read the request.
    Goroutine,
    /// The virtual thread that made the call read the request.
    VirtualThread,
    /// The task that made the call serves the request, or was woken by the task that does. Tasks of tokio.
    Task,
    /// The asynchronous operation that made the call was born while Node worked on the request.
    AsyncId,
    /// The thread that read the request made the call before it responded.
    Thread,
    /// The unit of work that made the call wrote the response to this request, and to no other request that was open.
    Responder,
    /// Both carry the same request id.
    CorrelationId,
    /// The proxy's only request in flight with the same method, target and host.
    Forwarded,
    /// A task of this request was the last that woke the task that sent the call.
    Wake,
    /// The call was the first message on a connection that was opened for this request.
    Connect,
    /// The event loop's current tick belonged to this request, and no other request was runnable.
    Tick,
    /// No other request was in flight in the process.
    OnlyCandidate,
}

impl Evidence {
    /// Whether a parent by this evidence is certain. All others are likely.
    #[must_use]
    pub fn is_certain(self) -> bool {
        self <= Self::Responder
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Host => "host",
            Self::Environment => "environment",
            Self::Fork => "fork",
            Self::Goroutine => "goroutine",
            Self::VirtualThread => "virtual-thread",
            Self::Task => "task",
            Self::AsyncId => "async-id",
            Self::Thread => "thread",
            Self::Responder => "responder",
            Self::CorrelationId => "correlation-id",
            Self::Forwarded => "forwarded",
            Self::Wake => "wake",
            Self::Connect => "connect",
            Self::Tick => "tick",
            Self::OnlyCandidate => "only-candidate",
        }
    }
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Inet(SocketAddr),
    /// A unix socket. The path is empty if it has no name, and starts with `@` if the name is abstract.
    Unix(CompactString),
    /// The record that names it was lost, or the socket of a plaintext stream is unknown.
    Unknown,
}

impl From<Client> for Address {
    fn from(client: Client) -> Self {
        match client {
            Client::Inet(address) => Self::Inet(address),
            Client::Unix(path) => Self::Unix(path),
        }
    }
}

/// The TLS of a connection, as far as its handshake was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encryption {
    /// As `tls.protocol.version` has it.
    pub version: Option<&'static str>,
    /// The server that the client asked for (RFC 6066 3).
    pub server_name: Option<CompactString>,
}

/// The two ends of a connection, seen from the traced process.
#[derive(Debug)]
pub struct Ends {
    pub role: Role,
    pub local: Address,
    pub peer: Address,
    /// The client that a proxy at the other end named.
    named_client: Option<Address>,
    is_datagram: bool,
    /// `None` for clear text.
    encryption: Option<Encryption>,
    described: OnceLock<[Attributes; 2]>,
}

impl Ends {
    #[must_use]
    pub fn new(role: Role, local: Address, peer: Address) -> Self {
        Self { role, local, peer, named_client: None, is_datagram: false, encryption: None, described: OnceLock::new() }
    }

    /// The ends of a datagram flow.
    #[must_use]
    pub fn of_datagrams(role: Role, local: Address, peer: Address) -> Self {
        Self { is_datagram: true, ..Self::new(role, local, peer) }
    }

    /// The same with the client that a proxy named, if one did.
    #[must_use]
    pub fn for_client(self, named_client: Option<Address>) -> Self {
        Self { named_client, ..self }
    }

    /// The same with TLS.
    #[must_use]
    pub fn encrypted(self, encryption: Option<Encryption>) -> Self {
        Self { encryption, ..self }
    }

    #[must_use]
    pub fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_ref()
    }

    /// The client: the one that a proxy named, or else the client's end of the connection.
    #[must_use]
    pub fn client(&self) -> &Address {
        self.named_client.as_ref().unwrap_or(match self.role {
            Role::Client => &self.local,
            Role::Server => &self.peer,
        })
    }

    #[must_use]
    pub fn is_datagram(&self) -> bool {
        self.is_datagram
    }

    /// The server's end.
    #[must_use]
    pub fn server(&self) -> &Address {
        match self.role {
            Role::Client => &self.peer,
            Role::Server => &self.local,
        }
    }

    /// The attributes that `describe` makes of them. It is called once: all spans of the connection share the result.
    pub(crate) fn described(&self, describe: impl FnOnce(&Self) -> [Attributes; 2]) -> &[Attributes; 2] {
        self.described.get_or_init(|| describe(self))
    }
}

/// What a process is on a connection, or its part in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Client,
    Server,
}

impl Role {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What [`describe`](crate::describe::describe) makes of an exchange: the part of a span that does not depend on its parent.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Description {
    pub name: String,
    pub status: Status,
    pub attributes: Attributes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weaker_evidence_is_greater() {
        use Evidence::{
            AsyncId, Connect, CorrelationId, Forwarded, Goroutine, Host, OnlyCandidate, Responder, Task, Thread, Tick,
            VirtualThread, Wake, Wire,
        };
        let certain = [Wire, Host, Goroutine, VirtualThread, Task, AsyncId, Thread, Responder];
        let likely = [CorrelationId, Forwarded, Wake, Connect, Tick, OnlyCandidate];
        assert!(certain.iter().all(|certain| likely.iter().all(|likely| certain < likely)));
        assert!(certain.iter().all(|evidence| evidence.is_certain()));
        assert!(!likely.iter().any(|evidence| evidence.is_certain()));
        // The order of docs/architecture.md.
        assert!(likely.is_sorted());
    }
}
