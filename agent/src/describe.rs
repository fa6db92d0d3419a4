//! What an exchange says of itself: the name, status and attributes of its span, in OpenTelemetry's words.
//!
//! Semantic conventions 1.42. One file per protocol; `network` says what every protocol says of its connection, and
//! `outcome` how the exchange ended. docs/protocols.md tells the same to users: keep them in step.

mod database;
mod http;
mod network;
mod outcome;
mod postgres;
mod redis;

use onlooker_protocols::{Details, Exchange};
use opentelemetry::trace::Status;
use opentelemetry::{Key, KeyValue, Value};

use crate::route::Routes;
use crate::span::{Description, Ends};
use outcome::Outcome;

/// Why a span ends where it does although its exchange may not have: `aged`, `process_exit` or `shutdown`.
pub const ONLOOKER_INCOMPLETE: &str = "onlooker.incomplete";

/// Describes the exchange that the process at `ends.local` had; `routes` are those of its service.
#[must_use]
pub fn describe(exchange: Exchange, ends: &Ends, routes: &mut Routes) -> Description {
    let outcome = Outcome::of(&exchange);
    match exchange.details {
        Details::Http1(http) => http::describe(http, &outcome, ends, routes),
        Details::Postgres(query) => postgres::describe(query, &outcome, ends),
        Details::Redis(command) => redis::describe(command, &outcome, ends),
    }
}

/// The attributes of one span, as they come together.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// Room for what a span of any of the protocols says in the ordinary case.
    fn new() -> Self {
        Self(Vec::with_capacity(24))
    }

    fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(Key::from_static_str(key), value));
    }

    /// What is empty is not known, and not said.
    fn set_text(&mut self, key: &'static str, text: impl Into<String> + AsRef<str>) {
        if !text.as_ref().is_empty() {
            self.set(key, text.into());
        }
    }

    fn set_count(&mut self, key: &'static str, count: u64) {
        self.set(key, i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// A status that is explained by an attribute.
fn error() -> Status {
    Status::Error { description: "".into() }
}
