//! The spans of databases.

use onlooker_protocols::{Close, End, Facts, Moment};
use rstest::rstest;

use super::super::network::tests::tcp;
use super::*;
use crate::describe;
use crate::model::errno;
use crate::model::span::{Address, Role};

fn described(facts: Database, end: End, ends: &Ends) -> Description {
    describe::described(&describe::exchange(Facts::Database(facts), end), ends)
}

fn of_client(facts: Database) -> Description {
    described(facts, End::Complete, &tcp(Role::Client))
}

fn select() -> Database {
    Database {
        system: "postgresql",
        namespace: Namespace::Name("shop".into()),
        text: "SELECT * FROM users WHERE id = ?".into(),
        operation: "SELECT".into(),
        collection: "users".into(),
        summary: "SELECT users".into(),
        rows: Some(Rows::Returned(1)),
        ..Database::default()
    }
}

fn command() -> Database {
    Database { system: "redis", ..Database::default() }
}

fn over_unix(facts: Database) -> Description {
    let ends = Ends::new(Role::Client, Address::Unix("".into()), Address::Unix("/run/redis.sock".into()));
    described(facts, End::Complete, &ends)
}

#[test]
fn a_sql_client_span_has_the_attributes_of_the_conventions() {
    let span = of_client(select());
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
fn a_key_value_client_span_has_the_attributes_of_the_conventions() {
    let span = over_unix(Database {
        operation: "HSET".into(),
        text: "HSET ? ? ?".into(),
        namespace: Namespace::Number(3),
        status: "WRONGTYPE".into(),
        failed: true,
        ..command()
    });
    assert_eq!(span.name, "HSET");
    assert_eq!(span.status, describe::outcome::error());
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
fn unknown_facts_are_left_out() {
    let span = over_unix(command());
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

#[test]
fn the_span_of_the_database_itself_names_the_client() {
    let span = described(select(), End::Complete, &tcp(Role::Server));
    assert!(span.attributes.said().contains(&"client.address=10.0.0.1".to_owned()));
    assert!(span.attributes.said().contains(&"server.address=10.0.0.2".to_owned()));
}

#[rstest]
#[case::summary(select(), "SELECT users")]
#[case::collection(Database { summary: "".into(), ..select() }, "SELECT users")]
#[case::database(Database { operation: "BEGIN".into(), namespace: Namespace::Name("shop".into()), ..Database::default() }, "BEGIN shop")]
#[case::operation(Database { operation: "BEGIN".into(), ..Database::default() }, "BEGIN")]
#[case::target_alone(Database { namespace: Namespace::Name("shop".into()), ..Database::default() }, "shop")]
#[case::system(Database { system: "postgresql", ..Database::default() }, "postgresql")]
#[case::number(Database { operation: "GET".into(), namespace: Namespace::Number(3), ..Database::default() }, "GET")]
fn a_name_is_the_best_that_is_known(#[case] facts: Database, #[case] name: &str) {
    assert_eq!(of_client(facts).name, name);
}

#[rstest]
#[case::one("SELECT users", true)]
#[case::join("SELECT users orders", false)]
#[case::several("SELECT users INSERT log", false)]
#[case::none("", true)]
fn a_collection_is_named_if_it_is_the_only_one(#[case] summary: &str, #[case] expected: bool) {
    let span = of_client(Database { summary: summary.into(), ..select() });
    assert_eq!(span.attributes.said().contains(&"db.collection.name=users".to_owned()), expected);
}

#[rstest]
#[case::error("42P01", true)]
#[case::warning("01000", false)]
fn a_status_code_is_an_error_if_the_command_failed(#[case] code: &str, #[case] failed: bool) {
    let span = of_client(Database { status: code.into(), failed, ..select() });
    assert!(span.attributes.said().contains(&format!("db.response.status_code={code}")));
    assert_eq!(span.attributes.said().contains(&format!("error.type={code}")), failed);
    assert_eq!(span.status, if failed { describe::outcome::error() } else { Status::Unset });
}

#[test]
fn an_error_without_a_code_has_no_status_code() {
    let said = of_client(Database { failed: true, ..select() }).attributes.said();
    assert!(said.contains(&"error.type=_OTHER".to_owned()));
    assert!(!said.iter().any(|attribute| attribute.starts_with("db.response.status_code")));
}

#[test]
fn a_skipped_command_failed() {
    let span = of_client(Database { skipped: true, rows: None, ..select() });
    assert!(span.attributes.said().contains(&"error.type=skipped".to_owned()));
    assert!(matches!(span.status, Status::Error { description } if !description.is_empty()));
}

#[rstest]
#[case::returned(Rows::Returned(1), true)]
#[case::changed(Rows::Processed(1), false)]
fn only_returned_rows_are_exported(#[case] rows: Rows, #[case] exported: bool) {
    let span = of_client(Database { rows: Some(rows), ..select() });
    assert_eq!(span.attributes.said().contains(&"db.response.returned_rows=1".to_owned()), exported);
}

#[test]
fn a_span_that_includes_its_preparation_says_so() {
    let is_marked = |database| of_client(database).attributes.said().contains(&"onlooker.db.prepared=true".to_owned());
    assert!(is_marked(Database { prepared: true, ..select() }));
    assert!(!is_marked(select()));
}

#[test]
fn a_batch_has_a_size() {
    let span = of_client(Database { batch_size: Some(3), ..select() });
    assert!(span.attributes.said().contains(&"db.operation.batch.size=3".to_owned()));
}

#[test]
fn a_query_that_the_connection_cut_off_has_the_connections_error() {
    let end = End::Closed(Close::Error(errno::ECONNRESET), Moment::default());
    let span = described(Database { rows: None, ..select() }, end, &tcp(Role::Client));
    assert!(span.attributes.said().contains(&"error.type=connection_reset".to_owned()));
}
