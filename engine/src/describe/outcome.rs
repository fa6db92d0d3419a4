//! How an exchange ended, where its own protocol does not show it.

use onlooker_protocols::{Close, Direction, End, Exchange, Reset};
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::ERROR_TYPE;

use crate::model::attributes::Attributes;
use crate::model::errno;
use crate::model::span::Role;

/// Why a span ends where it does although its exchange may not have: `aged`, `deselected`, `process_exit`, `shutdown` or `unseen_end`.
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
    /// `role`: that of the process on the connection.
    pub(super) fn of(exchange: &Exchange, role: Role) -> Self {
        let why = match exchange.end {
            End::Complete => return Self::default(),
            End::Unseen => return Self { failure: None, incomplete: Some("unseen_end") },
            End::Reset(reset, _) => return Self { failure: given_up(exchange, reset, role), incomplete: None },
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
            Close::Deselected => Self { failure: None, incomplete: Some("deselected") },
        }
    }

    /// The server did not execute the command, because an earlier one in the pipeline had failed.
    pub(super) fn skipped() -> Self {
        let failure = Some(("skipped", "not executed: a command before it in the pipeline failed"));
        Self { failure, incomplete: None }
    }

    /// The same of an exchange whose own status says whether it failed.
    pub(super) fn without_failure(&self) -> Self {
        Self { failure: None, ..*self }
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

/// What a reset means to one of the ends. A server does not fail when its client needs the response no longer.
fn given_up(exchange: &Exchange, reset: Reset, role: Role) -> Option<(&'static str, &'static str)> {
    let asker = if exchange.direction == Direction::ToServer { Role::Client } else { Role::Server };
    let by_asker = reset.by == exchange.direction;
    if by_asker && role != asker && matches!(reset.code, "CANCEL" | "NO_ERROR") {
        return None;
    }
    let description = match (by_asker, exchange.response_start) {
        (true, None) => "the client gave the request up before a response",
        (true, Some(_)) => "the client gave the request up within the response",
        (false, None) => "the server gave the request up before a response",
        (false, Some(_)) => "the server gave the request up within the response",
    };
    Some((reset.code, description))
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
    use onlooker_protocols::{Facts, Moment, facts};
    use rstest::rstest;

    use super::*;

    fn outcome(end: End, has_response: bool) -> Outcome {
        let exchange = Exchange {
            direction: Direction::ToServer,
            request_start: Moment::default(),
            request_end: Moment::default(),
            response_start: has_response.then(Moment::default),
            response_end: None,
            end,
            facts: Facts::Http(facts::Http::default()),
        };
        Outcome::of(&exchange, Role::Client)
    }

    #[rstest]
    #[case::client_cancels("CANCEL", Direction::ToServer, [Some("CANCEL"), None])]
    #[case::client_finds_an_error("PROTOCOL_ERROR", Direction::ToServer, [Some("PROTOCOL_ERROR"); 2])]
    #[case::server_refuses("REFUSED_STREAM", Direction::ToClient, [Some("REFUSED_STREAM"); 2])]
    #[case::server_cancels("CANCEL", Direction::ToClient, [Some("CANCEL"); 2])]
    fn a_reset_is_an_error_of_the_end_that_misses_something(
        #[case] code: &'static str,
        #[case] by: Direction,
        #[case] errors: [Option<&str>; 2],
    ) {
        let exchange = Exchange {
            direction: Direction::ToServer,
            request_start: Moment::default(),
            request_end: Moment::default(),
            response_start: None,
            response_end: None,
            end: End::Reset(Reset { code, by }, Moment::default()),
            facts: Facts::Http(facts::Http::default()),
        };
        let seen = [Role::Client, Role::Server].map(|role| {
            let mut attributes = Attributes::default();
            Outcome::of(&exchange, role).settle(None, &mut attributes);
            attributes.text(ERROR_TYPE)
        });
        assert_eq!(seen.each_ref().map(|error| error.as_deref()), errors);
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
    #[case::deselected(Close::Deselected, false, None, Some("deselected"))]
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
