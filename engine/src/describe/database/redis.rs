//! Redis: <https://opentelemetry.io/docs/specs/semconv/db/redis/>; for its own side see `postgres`.

use compact_str::ToCompactString as _;
use onlooker_protocols::redis::Command;
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{
    DB_NAMESPACE, DB_OPERATION_NAME, DB_QUERY_TEXT, DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME,
};

use crate::describe::network;
use crate::describe::outcome::Outcome;
use crate::model::span::{Description, Ends};

const SYSTEM: &str = "redis";

pub(in crate::describe) fn describe(
    command: &Command,
    outcome: &Outcome,
    ends: &Ends,
    description: &mut Description,
) -> Status {
    let Description { name, attributes, .. } = description;
    // The database's number is left out of the name: it would look like a key.
    super::write_name(&command.operation, "", SYSTEM, name);
    attributes.set(DB_SYSTEM_NAME, SYSTEM);
    if let Some(database) = command.database {
        attributes.set(DB_NAMESPACE, &database.to_compact_string());
    }
    attributes.set_known(DB_OPERATION_NAME, &command.operation);
    attributes.set_known(DB_QUERY_TEXT, &command.text);
    network::describe(ends, None, attributes);
    if command.error_code != Command::UNKNOWN_ERROR {
        attributes.set_known(DB_RESPONSE_STATUS_CODE, &command.error_code);
    }
    let failed = (!command.error_code.is_empty()).then_some(command.error_code.as_str());
    outcome.settle(failed, attributes)
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::{Details, End, Exchange, Moment};

    use super::*;
    use crate::model::span::{Address, Role};

    fn described(command: Command) -> Description {
        let exchange = Exchange {
            request_start: Moment::default(),
            request_end: Moment::default(),
            response_start: Some(Moment::default()),
            response_end: Some(Moment::default()),
            end: End::Complete,
            details: Details::Redis(command),
        };
        let ends = Ends::new(Role::Client, Address::Unix("".into()), Address::Unix("/run/redis.sock".into()));
        crate::describe::described(&exchange, &ends)
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
        assert_eq!(span.status, crate::describe::error());
        assert_eq!(
            span.attributes.said(),
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
        let command = Command { error_code: Command::UNKNOWN_ERROR.into(), ..Command::default() };
        let said = described(command).attributes.said();
        assert!(said.contains(&"error.type=_OTHER".to_owned()));
        assert!(!said.iter().any(|a| a.starts_with("db.response.status_code")));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let span = described(Command::default());
        assert_eq!(span.name, "redis");
        assert_eq!(span.status, Status::Unset);
        assert_eq!(
            span.attributes.said(),
            [
                "db.system.name=redis",
                "server.address=/run/redis.sock",
                "network.peer.address=/run/redis.sock",
                "network.transport=unix",
            ]
        );
    }
}
