//! How an exchange ended, where its own protocol does not show it.

use onlooker_protocols::{Close, End, Exchange};
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::ERROR_TYPE;

use crate::model::attributes::Attributes;
use crate::model::errno;

/// Why a span ends where it does although its exchange may not have: `aged`, `process_exit`, `shutdown` or `unseen_end`.
pub const ONLOOKER_INCOMPLETE: &str = "onlooker.incomplete";

/// What the end of the connection did to an exchange.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// `error.type` and the status description.
    failure: Option<(&'static str, &'static str)>,
    /// `onlooker.incomplete`.
    incomplete: Option<&'static str>,
}

impl Outcome {
    pub(super) fn of(exchange: &Exchange) -> Self {
        let why = match exchange.end {
            End::Complete => return Self::default(),
            End::Unseen => return Self { failure: None, incomplete: Some("unseen_end") },
            End::Closed(why, _) => why,
        };
        let has_response = exchange.response_start.is_some();
        let failed = |error, unanswered, cut| Some((error, if has_response { cut } else { unanswered }));
        match why {
            Close::Normal => Self {
                failure: failed(
                    "connection_closed",
                    "the connection was closed before a response",
                    "the connection was closed within the response",
                ),
                incomplete: None,
            },
            Close::Error(errno) => Self { failure: Some(connection_error(errno)), incomplete: None },
            Close::ProcessExit => Self {
                failure: failed(
                    "process_exit",
                    "the process ended before a response",
                    "the process ended within the response",
                ),
                incomplete: Some("process_exit"),
            },
            // An exchange that lasts long is no failure: it may be a long poll or a stream of events. How it ends is unknown.
            Close::Aged => Self { failure: None, incomplete: Some("aged") },
            // The connection goes on unseen.
            Close::Shutdown => Self { failure: None, incomplete: Some("shutdown") },
        }
    }

    /// The server did not execute the command, because an earlier one in the pipeline had failed.
    pub(super) fn skipped() -> Self {
        let failure = Some(("skipped", "not executed: a command before it in the pipeline failed"));
        Self { failure, incomplete: None }
    }

    /// Sets the error attributes, and returns the span's status. `protocol_error` is the error code of the response, which
    /// says more than the end of the connection. A status that a code explains has no description (OTel semconv, recording
    /// errors).
    pub(super) fn settle(&self, protocol_error: Option<&str>, attributes: &mut Attributes) -> Status {
        if let Some(reason) = self.incomplete {
            attributes.set(ONLOOKER_INCOMPLETE, reason);
        }
        match (protocol_error, self.failure) {
            (Some(code), _) => {
                attributes.set(ERROR_TYPE, code);
                error()
            }
            (None, Some((error, description))) => {
                attributes.set(ERROR_TYPE, error);
                Status::error(description)
            }
            (None, None) => Status::Unset,
        }
    }
}

/// A status that is explained by an attribute.
pub(super) fn error() -> Status {
    Status::Error { description: "".into() }
}

/// `error.type` and description of an errno.
fn connection_error(errno: i32) -> (&'static str, &'static str) {
    match errno {
        errno::ECONNRESET => ("connection_reset", "the connection was reset"),
        errno::EPIPE => ("broken_pipe", "the connection was closed by the peer while it was written to"),
        errno::ETIMEDOUT => ("timeout", "the peer acknowledged nothing for too long"),
        errno::ECONNREFUSED => ("connection_refused", "the connection was refused"),
        errno::ECONNABORTED => ("connection_aborted", "the connection was aborted"),
        errno::EHOSTUNREACH => ("host_unreachable", "the host was unreachable"),
        errno::ENETUNREACH | errno::ENETDOWN => ("network_unreachable", "the network was unreachable"),
        _ => ("_OTHER", "the connection failed"),
    }
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::{Direction, Facts, Moment, facts};
    use rstest::rstest;

    use super::*;

    fn outcome(end: End, has_response: bool) -> Outcome {
        Outcome::of(&Exchange {
            direction: Direction::ToServer,
            request_start: Moment::default(),
            request_end: Moment::default(),
            response_start: has_response.then(Moment::default),
            response_end: None,
            end,
            facts: Facts::Http(facts::Http::default()),
        })
    }

    #[rstest]
    #[case::closed(Close::Normal, false, Some("connection_closed"), None)]
    #[case::closed_within(Close::Normal, true, Some("connection_closed"), None)]
    #[case::reset(Close::Error(errno::ECONNRESET), true, Some("connection_reset"), None)]
    #[case::timeout(Close::Error(errno::ETIMEDOUT), false, Some("timeout"), None)]
    #[case::peer_gone(Close::Error(errno::EPIPE), true, Some("broken_pipe"), None)]
    #[case::unknown_errno(Close::Error(105), false, Some("_OTHER"), None)]
    #[case::exit(Close::ProcessExit, false, Some("process_exit"), Some("process_exit"))]
    #[case::exit_within(Close::ProcessExit, true, Some("process_exit"), Some("process_exit"))]
    #[case::aged(Close::Aged, false, None, Some("aged"))]
    #[case::stream(Close::Aged, true, None, Some("aged"))]
    #[case::shutdown(Close::Shutdown, false, None, Some("shutdown"))]
    #[case::shutdown_within(Close::Shutdown, true, None, Some("shutdown"))]
    fn the_end_of_a_connection_is_the_outcome(
        #[case] why: Close,
        #[case] has_response: bool,
        #[case] error: Option<&str>,
        #[case] incomplete: Option<&str>,
    ) {
        let outcome = outcome(End::Closed(why, Moment::default()), has_response);
        let mut attributes = Attributes::default();
        let status = outcome.settle(None, &mut attributes);
        assert_eq!(attributes.text(ERROR_TYPE).as_deref(), error);
        assert_eq!(attributes.text(ONLOOKER_INCOMPLETE).as_deref(), incomplete);
        match status {
            Status::Error { description } => assert!(error.is_some() && !description.is_empty()),
            other => assert!(error.is_none() && other == Status::Unset),
        }
    }

    #[test]
    fn an_error_in_the_response_outranks_that_of_the_connection() {
        let outcome = outcome(End::Closed(Close::Error(errno::ECONNRESET), Moment::default()), true);
        let mut attributes = Attributes::default();
        assert_eq!(outcome.settle(Some("503"), &mut attributes), error());
        assert_eq!(attributes.said(), ["error.type=503"]);
    }

    #[test]
    fn a_complete_exchange_has_no_failure() {
        assert_eq!(outcome(End::Complete, true), Outcome::default());
        assert_eq!(outcome(End::Unseen, true), Outcome { failure: None, incomplete: Some("unseen_end") });
    }
}
