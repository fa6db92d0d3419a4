//! What an exchange says of itself: the name, status and attributes of its span, in OpenTelemetry's words.
//!
//! Semantic conventions 1.42. One file per protocol; `network` says what every protocol says of its connection, and
//! `outcome` how the exchange ended. docs/protocols.md tells the same to users: keep them in step.

mod database;
mod http;
mod network;
mod outcome;

use onlooker_protocols::{Details, Exchange};
use opentelemetry::trace::Status;

use crate::model::span::{Description, Ends};
use crate::route::Routes;
use outcome::Outcome;

/// Why a span ends where it does although its exchange may not have: `aged`, `process_exit` or `shutdown`.
pub const ONLOOKER_INCOMPLETE: &str = "onlooker.incomplete";

/// Describes the exchange that the process at `ends.local` had; `routes` are those of its service. What `description`
/// said before is gone, its memory is used again.
pub fn describe(exchange: &Exchange, ends: &Ends, routes: &mut Routes, description: &mut Description) {
    description.name.clear();
    description.attributes.clear();
    let outcome = Outcome::of(exchange);
    description.status = match &exchange.details {
        Details::Http1(http) => http::describe(http, &outcome, ends, routes, description),
        Details::Postgres(query) => database::postgres::describe(query, &outcome, ends, description),
        Details::Redis(command) => database::redis::describe(command, &outcome, ends, description),
    };
}

/// A status that is explained by an attribute.
fn error() -> Status {
    Status::Error { description: "".into() }
}

#[cfg(test)]
fn described(exchange: &Exchange, ends: &Ends) -> Description {
    let mut description = Description::default();
    describe(exchange, ends, &mut Routes::default(), &mut description);
    description
}
