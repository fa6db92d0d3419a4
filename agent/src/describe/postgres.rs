//! PostgreSQL: <https://opentelemetry.io/docs/specs/semconv/db/postgresql/>.
//!
//! The conventions know client spans only; a database that is traced itself says the same of its own side, with
//! `client.*` for who asked.

use onlooker_protocols::postgres::Query;
use opentelemetry_semantic_conventions::attribute::{
    DB_COLLECTION_NAME, DB_NAMESPACE, DB_OPERATION_NAME, DB_QUERY_SUMMARY, DB_QUERY_TEXT, DB_RESPONSE_RETURNED_ROWS,
    DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME,
};

use super::outcome::Outcome;
use super::{Attributes, database, network};
use crate::span::{Description, Ends};

const SYSTEM: &str = "postgresql";

pub(super) fn describe(query: Query, outcome: &Outcome, ends: &Ends) -> Description {
    let mut attributes = Attributes::new();
    attributes.set(DB_SYSTEM_NAME, SYSTEM);
    attributes.set_text(DB_NAMESPACE, query.database.as_str());
    attributes.set_text(DB_OPERATION_NAME, query.operation.as_str());
    if names_one_collection(&query) {
        attributes.set_text(DB_COLLECTION_NAME, query.collection.as_str());
    }
    attributes.set_text(DB_QUERY_SUMMARY, query.summary.as_str());
    attributes.set_text(DB_QUERY_TEXT, query.text);
    if let Some(rows) = query.rows {
        attributes.set_count(DB_RESPONSE_RETURNED_ROWS, rows);
    }
    network::describe(ends, None, &mut attributes);
    attributes.set_text(DB_RESPONSE_STATUS_CODE, query.error_code.as_str());
    // SQLSTATE classes 00 and 01 are success and warnings.
    let failed = query.error_code.as_bytes() >= b"02".as_slice();
    let status = outcome.settle(failed.then(|| query.error_code.to_string()), &mut attributes);

    let name = if !query.summary.is_empty() {
        query.summary.into_string().into()
    } else {
        let target = if query.collection.is_empty() { &query.database } else { &query.collection };
        database::name(&query.operation, target, SYSTEM)
    };
    Description { name, status, attributes: attributes.0 }
}

/// `db.collection.name` should not be taken from the statement because a statement may name several: it is said where
/// the summary shows that there is no other.
fn names_one_collection(query: &Query) -> bool {
    query.summary.is_empty()
        || query
            .summary
            .strip_prefix(query.operation.as_str())
            .and_then(|rest| rest.strip_prefix(' '))
            .is_some_and(|rest| rest == query.collection)
}
