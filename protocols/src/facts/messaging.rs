//! Messaging: <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>.

use compact_str::CompactString;

/// A request of a message broker's client or server with its response: a send, a fetch, a delivery.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Messaging {
    /// The value of `messaging.system`, e.g. `kafka`.
    pub system: &'static str,
    pub operation: Operation,
    /// What the protocol calls the operation, e.g. `basic.publish`: a word of the protocol, never of the messages.
    pub operation_name: &'static str,
    /// The topic, queue or subject, at most 255 bytes. Empty if it is unknown, or there are several.
    pub destination: CompactString,
    /// The destination was made for one client, so that its name is of high cardinality.
    pub is_temporary: bool,
    /// The partition of the destination. Empty if there is none, or there are several.
    pub partition: CompactString,
    /// At most 255 bytes. Empty if there is none.
    pub consumer_group: CompactString,
    /// At most 255 bytes. Empty if the client gave none.
    pub client_id: CompactString,
    /// The only message's own id, at most 255 bytes. Empty if there is none, or there are several messages.
    pub message_id: CompactString,
    /// The number of messages, where the protocol carries several in one request.
    pub batch_size: Option<u32>,
    /// Bytes of the only message's body. `None` if there are several, or it is unknown.
    pub body_size: Option<u64>,
    /// The broker's error code, e.g. `NOT_LEADER_OR_FOLLOWER`. Empty if it reported none.
    pub error: CompactString,
}

/// The value of `messaging.operation.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Operation {
    /// A client gives messages to the broker.
    #[default]
    Send,
    /// A client asks the broker for messages.
    Receive,
    /// The broker pushes messages to a client.
    Process,
    /// A client says what became of messages: acknowledged, rejected.
    Settle,
}

impl Operation {
    /// The word of the semantic conventions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Process => "process",
            Self::Settle => "settle",
        }
    }
}
