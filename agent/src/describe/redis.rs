//! Redis: <https://opentelemetry.io/docs/specs/semconv/db/redis/>; for its own side see `postgres`.

use onlooker_protocols::redis::Command;
use opentelemetry_semantic_conventions::attribute::{
    DB_NAMESPACE, DB_OPERATION_NAME, DB_QUERY_TEXT, DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME,
};

use super::outcome::Outcome;
use super::{Attributes, database, network};
use crate::span::{Description, Ends};

const SYSTEM: &str = "redis";

pub(super) fn describe(command: Command, outcome: &Outcome, ends: &Ends) -> Description {
    let mut attributes = Attributes::new();
    attributes.set(DB_SYSTEM_NAME, SYSTEM);
    if let Some(database) = command.database {
        attributes.set(DB_NAMESPACE, database.to_string());
    }
    attributes.set_text(DB_OPERATION_NAME, command.operation.as_str());
    attributes.set_text(DB_QUERY_TEXT, command.text);
    network::describe(ends, None, &mut attributes);
    if command.error_code != Command::UNKNOWN_ERROR {
        attributes.set_text(DB_RESPONSE_STATUS_CODE, command.error_code.as_str());
    }
    let failed = !command.error_code.is_empty();
    let status = outcome.settle(failed.then(|| command.error_code.into_string()), &mut attributes);
    // The database's number is left out of the name: it would look like a key.
    Description { name: database::name(&command.operation, "", SYSTEM), status, attributes: attributes.0 }
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::{Details, End, Exchange, Moment};
    use opentelemetry::trace::Status;

    use super::super::network::tests::said;
    use super::*;
    use crate::route::Routes;
    use crate::span::{Address, Role};

    fn described(command: Command) -> Description {
        let exchange = Exchange {
            request_start: Moment::default(),
            request_end: Moment::default(),
            response_start: Some(Moment::default()),
            response_end: Some(Moment::default()),
            end: End::Complete,
            details: Details::Redis(command),
        };
        let ends =
            Ends { role: Role::Client, local: Address::Unix("".into()), peer: Address::Unix("/run/redis.sock".into()) };
        super::super::describe(exchange, &ends, &mut Routes::default())
    }

    #[test]
    fn a_client_span_says_what_the_conventions_ask_for() {
        let span = described(Command {
            operation: "HSET".into(),
            text: "HSET ? ? ?".into(),
            database: Some(3),
            error_code: "WRONGTYPE".into(),
        });
        assert_eq!(span.name, "HSET");
        assert_eq!(span.status, super::super::error());
        assert_eq!(
            said(&span.attributes),
            [
                "db.system.name=redis",
                "db.namespace=3",
                "db.operation.name=HSET",
                "db.query.text=HSET ? ? ?",
                "server.address=/run/redis.sock",
                "network.peer.address=/run/redis.sock",
                "network.transport=unix",
                "db.response.status_code=WRONGTYPE",
                "error.type=WRONGTYPE",
            ]
        );
    }

    #[test]
    fn an_error_without_a_code_has_no_status_code() {
        let said =
            said(&described(Command { error_code: Command::UNKNOWN_ERROR.into(), ..Command::default() }).attributes);
        assert!(said.contains(&"error.type=_OTHER".to_owned()));
        assert!(!said.iter().any(|a| a.starts_with("db.response.status_code")));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let span = described(Command::default());
        assert_eq!(span.name, "redis");
        assert_eq!(span.status, Status::Unset);
        assert_eq!(
            said(&span.attributes),
            [
                "db.system.name=redis",
                "server.address=/run/redis.sock",
                "network.peer.address=/run/redis.sock",
                "network.transport=unix",
            ]
        );
    }
}
