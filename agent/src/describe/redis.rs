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
    attributes.set_text(DB_RESPONSE_STATUS_CODE, command.error_code.as_str());
    let failed = !command.error_code.is_empty();
    let status = outcome.settle(failed.then(|| command.error_code.into_string()), &mut attributes);
    // The database's number is left out of the name: it would look like a key.
    Description { name: database::name(&command.operation, "", SYSTEM), status, attributes: attributes.0 }
}
