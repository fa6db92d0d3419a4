//! PostgreSQL: <https://opentelemetry.io/docs/specs/semconv/db/postgresql/>.
//!
//! The conventions know client spans only; a database that is traced itself says the same of its own side, with
//! `client.*` for who asked.

use onlooker_protocols::postgres::Query;
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{
    DB_COLLECTION_NAME, DB_NAMESPACE, DB_OPERATION_NAME, DB_QUERY_SUMMARY, DB_QUERY_TEXT, DB_RESPONSE_RETURNED_ROWS,
    DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME,
};

use crate::describe::network;
use crate::describe::outcome::Outcome;
use crate::model::span::{Description, Ends};

const SYSTEM: &str = "postgresql";

pub(in crate::describe) fn describe(
    query: &Query,
    outcome: &Outcome,
    ends: &Ends,
    description: &mut Description,
) -> Status {
    let Description { name, attributes, .. } = description;
    write_name(query, name);
    attributes.set(DB_SYSTEM_NAME, SYSTEM);
    attributes.set_known(DB_NAMESPACE, &query.database);
    attributes.set_known(DB_OPERATION_NAME, &query.operation);
    if names_one_collection(query) {
        attributes.set_known(DB_COLLECTION_NAME, &query.collection);
    }
    attributes.set_known(DB_QUERY_SUMMARY, &query.summary);
    attributes.set_known(DB_QUERY_TEXT, &query.text);
    if let Some(rows) = query.rows
        && returns_rows(&query.operation)
    {
        attributes.set_count(DB_RESPONSE_RETURNED_ROWS, rows);
    }
    network::describe(ends, None, attributes);
    let code = query.error_code.as_str();
    if code != Query::UNKNOWN_ERROR {
        attributes.set_known(DB_RESPONSE_STATUS_CODE, code);
    }
    // SQLSTATE classes 00 and 01 are success and warnings.
    let failed = (code >= "02").then_some(code);
    let skipped = query.skipped.then(Outcome::skipped);
    skipped.as_ref().unwrap_or(outcome).settle(failed, attributes)
}

/// The summary; without one the operation and what it was on.
fn write_name(query: &Query, name: &mut String) {
    if query.summary.is_empty() {
        let target = if query.collection.is_empty() { &query.database } else { &query.collection };
        super::write_name(&query.operation, target, SYSTEM, name);
    } else {
        name.push_str(&query.summary);
    }
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

/// Whether the count of rows is that of rows returned; of the others it is that of rows changed.
fn returns_rows(operation: &str) -> bool {
    ["SELECT", "FETCH", "VALUES", "TABLE"].iter().any(|one| one.eq_ignore_ascii_case(operation))
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::{Close, Details, End, Exchange, Moment};
    use rstest::rstest;

    use super::*;
    use crate::describe::network::tests::tcp;
    use crate::model::span::Role;

    fn described(query: Query, end: End, role: Role) -> Description {
        let exchange = Exchange {
            request_start: Moment::default(),
            request_end: Moment::default(),
            response_start: None,
            response_end: None,
            end,
            details: Details::Postgres(query),
        };
        crate::describe::described(&exchange, &tcp(role))
    }

    fn select() -> Query {
        Query {
            text: "SELECT * FROM users WHERE id = ?".into(),
            operation: "SELECT".into(),
            collection: "users".into(),
            summary: "SELECT users".into(),
            database: "shop".into(),
            rows: Some(1),
            ..Query::default()
        }
    }

    #[test]
    fn a_client_span_says_what_the_conventions_ask_for() {
        let span = described(select(), End::Complete, Role::Client);
        assert_eq!(span.name, "SELECT users");
        assert_eq!(span.status, Status::Unset);
        assert_eq!(
            span.attributes.said(),
            [
                "db.system.name=postgresql",
                "db.namespace=shop",
                "db.operation.name=SELECT",
                "db.collection.name=users",
                "db.query.summary=SELECT users",
                "db.query.text=SELECT * FROM users WHERE id = ?",
                "db.response.returned_rows=1",
                "server.address=10.0.0.2",
                "server.port=8080",
                "network.peer.address=10.0.0.2",
                "network.peer.port=8080",
                "network.local.address=10.0.0.1",
                "network.local.port=50000",
                "network.transport=tcp",
                "network.type=ipv4",
            ]
        );
    }

    #[test]
    fn the_database_s_own_side_says_who_asked() {
        let span = described(select(), End::Complete, Role::Server);
        assert!(span.attributes.said().contains(&"client.address=10.0.0.1".to_owned()));
        assert!(span.attributes.said().contains(&"server.address=10.0.0.2".to_owned()));
    }

    #[rstest]
    #[case::summary(select(), "SELECT users")]
    #[case::collection(Query { summary: "".into(), ..select() }, "SELECT users")]
    #[case::database(Query { operation: "BEGIN".into(), database: "shop".into(), ..Query::default() }, "BEGIN shop")]
    #[case::operation(Query { operation: "BEGIN".into(), ..Query::default() }, "BEGIN")]
    #[case::target_alone(Query { database: "shop".into(), ..Query::default() }, "shop")]
    #[case::nothing(Query::default(), "postgresql")]
    fn a_name_is_the_best_that_is_known(#[case] query: Query, #[case] name: &str) {
        assert_eq!(described(query, End::Complete, Role::Client).name, name);
    }

    #[rstest]
    #[case::one("SELECT users", true)]
    #[case::join("SELECT users orders", false)]
    #[case::several("SELECT users INSERT log", false)]
    #[case::none("", true)]
    fn a_collection_is_named_where_it_is_the_only_one(#[case] summary: &str, #[case] expected: bool) {
        let span = described(Query { summary: summary.into(), ..select() }, End::Complete, Role::Client);
        assert_eq!(span.attributes.said().contains(&"db.collection.name=users".to_owned()), expected);
    }

    #[rstest]
    #[case::undefined_table("42P01", true)]
    #[case::no_data("02000", true)]
    #[case::warning("01000", false)]
    #[case::success("00000", false)]
    fn an_sqlstate_of_class_02_or_higher_is_an_error(#[case] code: &str, #[case] failed: bool) {
        let span = described(Query { error_code: code.into(), ..select() }, End::Complete, Role::Client);
        assert!(span.attributes.said().contains(&format!("db.response.status_code={code}")));
        assert_eq!(span.attributes.said().contains(&format!("error.type={code}")), failed);
        assert_eq!(span.status, if failed { crate::describe::error() } else { Status::Unset });
    }

    #[test]
    fn an_error_whose_code_was_not_captured_is_an_error_without_code() {
        let query = Query { error_code: Query::UNKNOWN_ERROR.into(), ..select() };
        let said = described(query, End::Complete, Role::Client).attributes.said();
        assert!(said.contains(&"error.type=_OTHER".to_owned()));
        assert!(!said.iter().any(|a| a.starts_with("db.response.status_code")));
    }

    #[test]
    fn a_command_that_was_skipped_failed() {
        let span = described(Query { skipped: true, rows: None, ..select() }, End::Complete, Role::Client);
        assert!(span.attributes.said().contains(&"error.type=skipped".to_owned()));
        assert!(matches!(span.status, Status::Error { description } if !description.is_empty()));
    }

    #[rstest]
    #[case::select("select", true)]
    #[case::insert("INSERT", false)]
    #[case::update("UPDATE", false)]
    fn rows_are_returned_by_what_returns_rows(#[case] operation: &str, #[case] returned: bool) {
        let span = described(Query { operation: operation.into(), ..select() }, End::Complete, Role::Client);
        assert_eq!(span.attributes.said().contains(&"db.response.returned_rows=1".to_owned()), returned);
    }

    #[test]
    fn a_query_that_the_connection_cut_off_has_its_error() {
        let end = End::Closed(Close::Error(crate::model::errno::ECONNRESET), Moment::default());
        let span = described(Query { rows: None, ..select() }, end, Role::Client);
        assert!(span.attributes.said().contains(&"error.type=connection_reset".to_owned()));
    }
}
