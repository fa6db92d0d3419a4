//! Databases: <https://opentelemetry.io/docs/specs/semconv/db/database-spans/>.
//!
//! The conventions define client spans only. A traced database's own span has the same attributes, with `client.*` for
//! the client.

use compact_str::ToCompactString as _;
use onlooker_protocols::facts::{Database, Namespace, Rows};
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{
    DB_COLLECTION_NAME, DB_NAMESPACE, DB_OPERATION_BATCH_SIZE, DB_OPERATION_NAME, DB_QUERY_SUMMARY, DB_QUERY_TEXT,
    DB_RESPONSE_RETURNED_ROWS, DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME,
};

use super::network;
use super::outcome::Outcome;
use crate::model::span::{Description, Ends};

/// The span includes the round trip that prepared its statement.
const PREPARED: &str = "onlooker.db.prepared";
/// `error.type` of an error without a code: the conventions' fallback.
const OTHER_ERROR: &str = "_OTHER";

pub(super) fn describe(facts: &Database, outcome: &Outcome, ends: &Ends, description: &mut Description) -> Status {
    let Description { name, attributes, .. } = description;
    write_name(facts, name);
    attributes.set(DB_SYSTEM_NAME, facts.system);
    match &facts.namespace {
        Namespace::Name(namespace) => attributes.set_known(DB_NAMESPACE, namespace),
        Namespace::Number(number) => attributes.set(DB_NAMESPACE, &number.to_compact_string()),
    }
    attributes.set_known(DB_OPERATION_NAME, &facts.operation);
    if names_one_collection(facts) {
        attributes.set_known(DB_COLLECTION_NAME, &facts.collection);
    }
    attributes.set_known(DB_QUERY_SUMMARY, &facts.summary);
    attributes.set_known(DB_QUERY_TEXT, &facts.text);
    if let Some(size) = facts.batch_size {
        attributes.set_count(DB_OPERATION_BATCH_SIZE, size.into());
    }
    if facts.prepared {
        attributes.set_flag(PREPARED, true);
    }
    if let Some(Rows::Returned(rows)) = facts.rows {
        attributes.set_count(DB_RESPONSE_RETURNED_ROWS, rows);
    }
    network::describe(ends, None, attributes);
    attributes.set_known(DB_RESPONSE_STATUS_CODE, &facts.status);
    let code = if facts.status.is_empty() { OTHER_ERROR } else { &facts.status };
    let skipped = facts.skipped.then(Outcome::skipped);
    skipped.as_ref().unwrap_or(outcome).settle(facts.failed.then_some(code), attributes)
}

/// Writes the summary, or else `{operation} {target}` or what is known of it, or else the system.
///
/// The conventions' last resort for a target, `server.address:server.port`, is left out: a socket's address is that of
/// one instance, and changes with each instance that is started. So is the number of a database, which would look like
/// a key.
fn write_name(facts: &Database, name: &mut String) {
    if !facts.summary.is_empty() {
        return name.push_str(&facts.summary);
    }
    let target = match (&*facts.collection, &facts.namespace) {
        ("", Namespace::Name(namespace)) => namespace,
        (collection, _) => collection,
    };
    match (&*facts.operation, target) {
        ("", "") => name.push_str(facts.system),
        (one, "") | ("", one) => name.push_str(one),
        (operation, target) => name.extend([operation, " ", target]),
    }
}

/// `db.collection.name` must not be taken from a statement that names several. The summary shows whether there are
/// others.
fn names_one_collection(facts: &Database) -> bool {
    facts.summary.is_empty()
        || facts
            .summary
            .strip_prefix(facts.operation.as_str())
            .and_then(|rest| rest.strip_prefix(' '))
            .is_some_and(|rest| rest == facts.collection)
}

#[cfg(test)]
mod tests;
