//! Describes an exchange: the name, status and attributes of its span, by OpenTelemetry's conventions.
//!
//! Semantic conventions 1.42. One file per family of facts. `network` describes the connection, and `outcome` how the
//! exchange ended. docs/protocols.md is the same for users: keep them in step.
//!
//! ```
//! use onlooker_engine::describe::describe;
//! use onlooker_engine::model::span::{Address, Description, Ends, Role};
//! use onlooker_engine::route::Routes;
//! use onlooker_protocols::facts::Http;
//! use onlooker_protocols::{Direction, End, Exchange, Facts, Moment};
//!
//! let facts = Http { method: "GET".into(), path: "/users/7".into(), status: Some(200), ..Http::default() };
//! let exchange = Exchange {
//!     direction: Direction::ToServer,
//!     request_start: Moment::default(),
//!     request_end: Moment::default(),
//!     response_start: Some(Moment::default()),
//!     response_end: Some(Moment::default()),
//!     end: End::Complete,
//!     facts: Facts::Http(facts),
//! };
//! let ends = Ends::new(Role::Server, Address::Unknown, Address::Unknown);
//!
//! let mut description = Description::default();
//! describe(&exchange, &ends, &mut Routes::default(), &mut description);
//! assert_eq!(description.name, "GET /users/{id}");
//! assert_eq!(description.attributes.text("url.path").as_deref(), Some("/users/7"));
//! ```

mod database;
mod dns;
mod http;
mod messaging;
mod network;
mod outcome;
mod rpc;

use onlooker_protocols::facts::Operation;
use onlooker_protocols::{Direction, Exchange, Facts};
use opentelemetry::trace::SpanKind;

use crate::model::span::{Description, Ends, Role};
use crate::route::Routes;
#[cfg(test)]
use onlooker_protocols::{End, Moment};
use outcome::Outcome;

pub use http::ignore_environment;
pub use outcome::ONLOOKER_INCOMPLETE;

/// Describes the exchange of the process at `ends.local`. `routes` are those of its service. The contents of `description` are
/// replaced, and its memory is reused.
pub fn describe(exchange: &Exchange, ends: &Ends, routes: &mut Routes, description: &mut Description) {
    description.name.clear();
    description.attributes.clear();
    let outcome = Outcome::of(exchange, ends.role);
    description.status = match &exchange.facts {
        Facts::Http(facts) => http::describe(facts, &outcome, ends, routes, description),
        Facts::Database(facts) => database::describe(facts, &outcome, ends, description),
        Facts::Messaging(facts) => messaging::describe(facts, &outcome, ends, description),
        Facts::Rpc(facts) => rpc::describe(facts, &outcome, ends, description),
        Facts::Dns(facts) => dns::describe(facts, &outcome, ends, description),
    };
}

/// The kind of the span. `role` is that of the process on the connection.
///
/// Messages are produced by the client that sends them, and consumed by the client to which the broker delivers them
/// (OTel semconv messaging, span kind). Every other span is of the end that asks or of the end that answers.
#[must_use]
pub fn kind(exchange: &Exchange, role: Role) -> SpanKind {
    let asks = (role == Role::Client) == (exchange.direction == Direction::ToServer);
    match &exchange.facts {
        Facts::Messaging(facts) if facts.operation == Operation::Send && asks => SpanKind::Producer,
        Facts::Messaging(facts) if facts.operation == Operation::Process && !asks => SpanKind::Consumer,
        _ if asks => SpanKind::Client,
        _ => SpanKind::Server,
    }
}

#[cfg(test)]
fn described(exchange: &Exchange, ends: &Ends) -> Description {
    let mut description = Description::default();
    describe(exchange, ends, &mut Routes::default(), &mut description);
    description
}

/// An exchange of these facts whose response has come.
#[cfg(test)]
fn exchange(facts: Facts, end: End) -> Exchange {
    let passed = Moment::default();
    Exchange {
        direction: Direction::ToServer,
        request_start: passed,
        request_end: passed,
        response_start: Some(passed),
        response_end: Some(passed),
        end,
        facts,
    }
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::facts::Messaging;
    use rstest::rstest;

    use super::*;

    fn messages(operation: Operation) -> Facts {
        Facts::Messaging(Box::new(Messaging { operation, ..Messaging::default() }))
    }

    #[rstest]
    #[case::call(Facts::Rpc(Box::default()), Direction::ToServer, [SpanKind::Client, SpanKind::Server])]
    #[case::call_of_the_server(Facts::Rpc(Box::default()), Direction::ToClient, [SpanKind::Server, SpanKind::Client])]
    #[case::send(messages(Operation::Send), Direction::ToServer, [SpanKind::Producer, SpanKind::Server])]
    #[case::fetch(messages(Operation::Receive), Direction::ToServer, [SpanKind::Client, SpanKind::Server])]
    #[case::delivery(messages(Operation::Process), Direction::ToClient, [SpanKind::Consumer, SpanKind::Client])]
    fn a_span_is_of_the_end_that_asks_or_answers(
        #[case] facts: Facts,
        #[case] direction: Direction,
        #[case] kinds: [SpanKind; 2],
    ) {
        let exchange = Exchange { direction, ..exchange(facts, End::Complete) };
        assert_eq!([Role::Client, Role::Server].map(|role| kind(&exchange, role)), kinds);
    }
}
