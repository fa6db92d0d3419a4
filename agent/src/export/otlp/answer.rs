//! What the agent and a collector say to each other, in either protocol.

use std::error::Error;
use std::time::Duration;

/// Identifies the agent to collectors and in their logs.
pub(super) const USER_AGENT: &str = concat!("onlooker/", env!("CARGO_PKG_VERSION"), " (OTLP exporter; Rust)");

/// The collector's answer to a request that it accepted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) rejected_spans: u64,
    pub(super) message: String,
}

impl Accepted {
    /// The answer in words, for a request of `spans` spans.
    pub(super) fn remark(&self, spans: usize) -> String {
        match (self.rejected_spans, self.message.as_str()) {
            (0, message) => format!("accepted {spans} spans with the message: {message}"),
            (rejected, "") => format!("rejected {rejected} of {spans} spans"),
            (rejected, message) => format!("rejected {rejected} of {spans} spans: {message}"),
        }
    }
}

/// Why a request was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) retry: Retry,
    pub(super) why: String,
}

/// Whether the same request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Later,
    /// Not before this time has passed, as the collector asked.
    After(Duration),
}

/// An error with all its causes, in one line. The outermost alone is always "error sending request".
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
