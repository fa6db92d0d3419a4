//! PostgreSQL as its documentation and its clients speak it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod chance;
mod kit;

use kit::{Outcome, Talk};
use onlooker_protocols::postgres::{Postgres, Query};
use onlooker_protocols::{Close, Details, Direction, End, Exchange, LossReason};
use proptest::prelude::*;
use rstest::rstest;

fn play(talk: &Talk) -> Outcome {
    talk.play(Box::new(Postgres::new(true)))
}

fn join_late(talk: &Talk) -> Outcome {
    talk.play(Box::new(Postgres::new(false)))
}

fn query(exchange: &Exchange) -> &Query {
    match &exchange.details {
        Details::Postgres(query) => query,
        other => panic!("not PostgreSQL: {other:?}"),
    }
}

/// One line for one exchange: `summary | text | rows | error`, without what is empty.
fn line(exchange: &Exchange) -> String {
    let Query { text, summary, rows, error_code, skipped, .. } = query(exchange);
    let rows = rows.map(|rows| format!("{rows} rows")).unwrap_or_default();
    let skipped = if *skipped { "skipped" } else { "" };
    let end = if exchange.end == End::Complete { "" } else { "closed" };
    [summary.as_str(), text, &rows, error_code, skipped, end]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" | ")
}

fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.exchanges().into_iter().map(line).collect()
}

/// Where an exchange begins and ends in both streams.
fn span(exchange: &Exchange) -> (u64, u64, Option<u64>, Option<u64>) {
    let position = |moment: onlooker_protocols::Moment| moment.position;
    let Exchange { request_start, request_end, response_start, response_end, .. } = exchange;
    (position(*request_start), position(*request_end), response_start.map(position), response_end.map(position))
}

// The messages of the documentation's section "Message Formats".

fn message(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn packet(code: u32, body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
    [&length[..], &code.to_be_bytes(), body.as_bytes()].concat()
}

fn startup() -> Vec<u8> {
    packet(3 << 16, "user\0ann\0database\0shop\0application_name\0secret\0\0")
}

fn simple(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0"))
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0"))
}

/// With one parameter, `secret`.
fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\x01\0\0\0\x06secret\0\0"))
}

fn describe(what: char, name: &str) -> Vec<u8> {
    message(b'D', format!("{what}{name}\0"))
}

fn execute(portal: &str, limit: u8) -> Vec<u8> {
    message(b'E', [portal.as_bytes(), &[0, 0, 0, 0, limit]].concat())
}

fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0"))
}

fn sync() -> Vec<u8> {
    message(b'S', "")
}

fn flush() -> Vec<u8> {
    message(b'H', "")
}

fn ready() -> Vec<u8> {
    message(b'Z', "I")
}

fn done(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0"))
}

fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SFEHLER\0VERROR\0C{code}\0Msecret\0Rexec\0\0"))
}

fn rows(count: usize) -> Vec<u8> {
    let row = message(b'D', b"\0\x01\0\0\0\x06secret");
    [message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\0\x06\0\0\0\0\0\0"), row.repeat(count)].concat()
}

fn parsed() -> Vec<u8> {
    message(b'1', "")
}

fn bound() -> Vec<u8> {
    message(b'2', "")
}

fn no_data() -> Vec<u8> {
    message(b'n', "")
}

/// A session that is ready for its first query.
fn session() -> Talk {
    Talk::new().request(startup()).response(
        [
            message(b'R', [0, 0, 0, 0]),
            message(b'S', "client_encoding\0UTF8\0"),
            message(b'K', [0, 0, 0, 1, 0, 0, 0, 2]),
            ready(),
        ]
        .concat(),
    )
}

fn asks(talk: Talk, request: &[Vec<u8>], response: &[Vec<u8>]) -> Talk {
    talk.request(request.concat()).response(response.concat())
}

#[rstest]
#[case::rows(&[simple("SELECT a FROM t")], &[rows(2), done("SELECT 2"), ready()], &["SELECT t | SELECT a FROM t | 2 rows"])]
#[case::no_rows(&[simple("INSERT INTO t VALUES (1)")], &[done("INSERT 0 1"), ready()], &["INSERT t | INSERT INTO t VALUES (?) | 1 rows"])]
#[case::no_count(&[simple("CREATE TABLE t (a int)")], &[done("CREATE TABLE"), ready()], &["CREATE TABLE t | CREATE TABLE t (a int)"])]
#[case::empty(&[simple("")], &[message(b'I', ""), ready()], &[""])]
#[case::several(
    &[simple("SELECT 1; DELETE FROM t")],
    &[rows(1), done("SELECT 1"), done("DELETE 4"), ready()],
    &["SELECT DELETE t | SELECT ?; DELETE FROM t | 5 rows"],
)]
#[case::error(&[simple("SELECT a FROM t")], &[error("42P01"), ready()], &["SELECT t | SELECT a FROM t | 42P01"])]
#[case::error_after_rows(
    &[simple("SELECT 1/a FROM t")],
    &[rows(3), error("22012"), ready()],
    &["SELECT t | SELECT ?/a FROM t | 22012"],
)]
#[case::asynchronous_messages(
    &[simple("SELECT 1")],
    &[
        message(b'N', "SNOTICE\0C00000\0Msecret\0\0"),
        message(b'A', "\0\0\0\x01channel\0secret\0"),
        message(b'S', "TimeZone\0UTC\0"),
        rows(1),
        done("SELECT 1"),
        ready(),
    ],
    &["SELECT | SELECT ? | 1 rows"],
)]
#[case::pipelined(
    &[simple("SELECT 1"), simple("SELECT 2 FROM t"), simple("COMMIT")],
    &[rows(1), done("SELECT 1"), ready(), error("42P01"), ready(), done("ROLLBACK"), ready()],
    &["SELECT | SELECT ? | 1 rows", "SELECT t | SELECT ? FROM t | 42P01", "COMMIT | COMMIT"],
)]
#[case::copy_out(
    &[simple("COPY t TO STDOUT")],
    &[message(b'H', [0, 0, 1, 0, 0]), message(b'd', "secret"), message(b'c', ""), done("COPY 1"), ready()],
    &["COPY t | COPY t TO STDOUT | 1 rows"],
)]
#[case::function_call(
    &[message(b'F', [0, 0, 3, 0xba, 0, 0, 0, 0, 0, 0])],
    &[message(b'V', [0xff; 4]), ready()],
    &["FUNCTION CALL"],
)]
#[case::extended(
    &[parse("", "SELECT a FROM t WHERE b = $1"), bind("", ""), describe('P', ""), execute("", 0), sync()],
    &[parsed(), bound(), rows(2), done("SELECT 2"), ready()],
    &["SELECT t | SELECT a FROM t WHERE b = $1 | 2 rows"],
)]
#[case::extended_error(
    &[parse("", "SELECT a FROM t"), bind("", ""), execute("", 0), sync()],
    &[error("42P01"), ready()],
    &["SELECT t | SELECT a FROM t | 42P01"],
)]
#[case::error_at_commit(
    &[parse("", "INSERT INTO t VALUES (1)"), bind("", ""), execute("", 0), sync()],
    &[parsed(), bound(), done("INSERT 0 1"), error("23503"), ready()],
    &["INSERT t | INSERT INTO t VALUES (?) | 23503"],
)]
#[case::extended_empty(
    &[parse("", ""), bind("", ""), execute("", 0), sync()],
    &[parsed(), bound(), message(b'I', ""), ready()],
    &[""],
)]
#[case::suspended_portal(
    &[parse("", "SELECT a FROM t"), bind("c", ""), execute("c", 5), execute("c", 5), sync()],
    &[parsed(), bound(), rows(5), message(b's', ""), rows(2), done("SELECT 2"), ready()],
    &["SELECT t | SELECT a FROM t | 5 rows", "SELECT t | SELECT a FROM t | 2 rows"],
)]
#[case::prepare(
    &[parse("s", "SELECT a FROM t"), describe('S', "s"), sync()],
    &[parsed(), message(b't', [0, 0]), rows(0), ready()],
    &["PREPARE SELECT t | SELECT a FROM t"],
)]
#[case::prepare_fails(
    &[parse("s", "SELECT a FROM t"), sync()],
    &[error("42P01"), ready()],
    &["PREPARE SELECT t | SELECT a FROM t | 42P01"],
)]
#[case::two_prepared(
    &[parse("a", "SELECT 1"), parse("b", "SELECT a FROM t"), sync()],
    &[parsed(), parsed(), ready()],
    &["PREPARE SELECT | SELECT ?", "PREPARE SELECT t | SELECT a FROM t"],
)]
#[case::prepare_and_run(
    &[parse("s", "SELECT a FROM t"), describe('S', "s"), flush(), bind("", "s"), execute("", 0), sync()],
    &[parsed(), message(b't', [0, 0]), no_data(), bound(), done("SELECT 0"), ready()],
    &["PREPARE SELECT t | SELECT a FROM t", "SELECT t | SELECT a FROM t | 0 rows"],
)]
#[case::close_is_not_told(&[close_statement("s"), sync()], &[message(b'3', ""), ready()], &[])]
#[case::bare_syncs(
    &[sync(), sync(), simple("SELECT 1"), sync()],
    &[ready(), ready(), rows(1), done("SELECT 1"), ready(), ready()],
    &["SELECT | SELECT ? | 1 rows"],
)]
#[case::closed_before_the_next(
    &[parse("", "SELECT 1"), bind("", ""), execute("", 0), close_statement("s"), parse("", "SELECT a FROM t"), bind("", ""), execute("", 0), sync()],
    &[parsed(), bound(), rows(1), done("SELECT 1"), message(b'3', ""), parsed(), bound(), done("SELECT 0"), ready()],
    &["SELECT | SELECT ? | 1 rows", "SELECT t | SELECT a FROM t | 0 rows"],
)]
#[case::closed_after_the_last(
    &[parse("", "SELECT 1"), bind("p", ""), execute("p", 0), message(b'C', "Pp\0"), sync()],
    &[parsed(), bound(), rows(1), done("SELECT 1"), message(b'3', ""), ready()],
    &["SELECT | SELECT ? | 1 rows"],
)]
#[case::pipeline_fails(
    &[
        parse("", "SELECT 1"), bind("", ""), execute("", 0),
        parse("", "SELECT 1/0"), bind("", ""), execute("", 0),
        parse("", "SELECT 3"), bind("", ""), execute("", 0),
        simple("SELECT 4"),
        sync(),
        parse("", "SELECT 5"), bind("", ""), execute("", 0), sync(),
    ],
    &[
        parsed(), bound(), rows(1), done("SELECT 1"), parsed(), bound(), error("22012"), ready(),
        parsed(), bound(), rows(1), done("SELECT 1"), ready(),
    ],
    &[
        "SELECT | SELECT ? | 1 rows",
        "SELECT | SELECT ?/? | 22012",
        "SELECT | SELECT ? | skipped",
        "SELECT | SELECT ? | skipped",
        "SELECT | SELECT ? | 1 rows",
    ],
)]
#[case::several_syncs_in_flight(
    &[
        parse("", "SELECT 1"), bind("", ""), execute("", 0), sync(),
        parse("", "SELECT a FROM t"), bind("", ""), execute("", 0), sync(),
        parse("s", "SELECT 3"), sync(),
    ],
    &[parsed(), bound(), rows(1), done("SELECT 1"), ready(), error("42P01"), ready(), parsed(), ready()],
    &["SELECT | SELECT ? | 1 rows", "SELECT t | SELECT a FROM t | 42P01", "PREPARE SELECT | SELECT ?"],
)]
fn an_exchange_is_what_the_documentation_says(
    #[case] request: &[Vec<u8>],
    #[case] response: &[Vec<u8>],
    #[case] expected: &[&str],
) {
    let talk = asks(session(), request, response);
    let outcome = play(&talk);
    assert_eq!((lines(&outcome), outcome.orphans(), outcome.lost()), (owned(expected), 0, vec![]));
    assert!(outcome.exchanges().iter().all(|exchange| query(exchange).database == "shop"));
    assert!(!format!("{:?}", outcome.findings).contains("secret"));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

#[test]
fn an_exchange_reaches_from_its_first_byte_to_its_last() {
    let talk = asks(
        session(),
        &[parse("", "SELECT 1"), bind("", ""), execute("", 0), bind("", ""), execute("", 0), sync()],
        &[parsed(), bound(), rows(1), done("SELECT 1"), bound(), rows(1), done("SELECT 1"), ready()],
    );
    let outcome = play(&talk);
    let exchanges = outcome.exchanges();
    let request = startup().len() as u64;
    let first = (parse("", "SELECT 1").len() + bind("", "").len() + execute("", 0).len()) as u64;
    let second = (bind("", "").len() + execute("", 0).len() + sync().len()) as u64;
    let response = session().len() as u64 - request;
    let answer = (bound().len() + rows(1).len() + done("SELECT 1").len()) as u64;
    let split = response + parsed().len() as u64 + answer;
    assert_eq!(span(exchanges[0]), (request, request + first, Some(response), Some(split)));
    assert_eq!(
        span(exchanges[1]),
        (request + first, request + first + second, Some(split), Some(split + answer + ready().len() as u64))
    );
}

#[test]
fn copied_data_belongs_to_the_statement_that_copies() {
    // As libpq does it: a Sync with the Execute, which the server ignores, and one after the data.
    let talk = session()
        .request([parse("", "COPY t FROM STDIN"), bind("", ""), execute("", 0), sync()].concat())
        .response([parsed(), bound(), message(b'G', [0, 0, 1, 0, 0])].concat())
        .request([message(b'd', "secret\n"), message(b'd', "secret\n")].concat())
        .request([message(b'c', ""), sync()].concat())
        .response([done("COPY 2"), ready()].concat())
        .request(simple("SELECT 1"))
        .response([rows(1), done("SELECT 1"), ready()].concat());
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["COPY t | COPY t FROM STDIN | 2 rows", "SELECT | SELECT ? | 1 rows"]);
    let exchanges = outcome.exchanges();
    assert_eq!(exchanges[0].request_end.position, exchanges[1].request_start.position);
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[test]
fn a_failed_copy_goes_on_with_the_next_query() {
    let talk = session()
        .request(simple("COPY t FROM STDIN"))
        .response(message(b'G', [0, 0, 1, 0, 0]))
        .request(message(b'd', "nonsense\n"))
        .response([error("22P02"), ready()].concat())
        // The client didn't know yet.
        .request([message(b'd', "more\n"), message(b'c', ""), simple("SELECT 1")].concat())
        .response([rows(1), done("SELECT 1"), ready()].concat());
    assert_eq!(lines(&play(&talk)), ["COPY t | COPY t FROM STDIN | 22P02", "SELECT | SELECT ? | 1 rows"]);
}

#[test]
fn a_prepared_statement_is_known_by_its_name() {
    let talk = asks(session(), &[parse("s", "SELECT a FROM t"), sync()], &[parsed(), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[bound(), error("57014"), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[bound(), done("SELECT 0"), ready()]);
    let talk = asks(talk, &[close_statement("s"), sync()], &[message(b'3', ""), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[error("26000"), ready()]);
    assert_eq!(
        lines(&play(&talk)),
        [
            "PREPARE SELECT t | SELECT a FROM t",
            "SELECT t | SELECT a FROM t | 57014",
            "SELECT t | SELECT a FROM t | 0 rows",
            "26000",
        ]
    );
}

/// The server keeps what it prepared, whatever fails after it.
#[rstest]
#[case::another_of_the_name(&[parse("s", "SELECT b FROM u"), sync()], &[error("42P05"), ready()])]
#[case::two_of_them(
    &[parse("s", "SELECT b FROM u"), parse("s", "SELECT c FROM v"), sync()],
    &[error("42P05"), ready()],
)]
#[case::skipped(
    &[parse("", "SELECT 1/0"), bind("", ""), execute("", 0), parse("s", "SELECT b FROM u"), sync()],
    &[parsed(), bound(), error("22012"), ready()],
)]
fn a_name_stands_for_what_was_prepared_under_it(#[case] request: &[Vec<u8>], #[case] response: &[Vec<u8>]) {
    let talk = asks(session(), &[parse("s", "SELECT a FROM t"), sync()], &[parsed(), ready()]);
    let talk = asks(talk, request, response);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[bound(), rows(1), done("SELECT 1"), ready()]);
    assert_eq!(lines(&play(&talk)).last().unwrap(), "SELECT t | SELECT a FROM t | 1 rows");
}

#[test]
fn a_name_stands_for_the_newest_of_a_pipeline() {
    let talk = asks(
        session(),
        &[
            parse("s", "SELECT nonsense"),
            sync(),
            parse("s", "SELECT b FROM u"),
            bind("", "s"),
            execute("", 0),
            sync(),
            bind("", "s"),
            execute("", 0),
            sync(),
        ],
        &[
            error("42601"),
            ready(),
            parsed(),
            bound(),
            done("SELECT 0"),
            ready(),
            bound(),
            rows(1),
            done("SELECT 1"),
            ready(),
        ],
    );
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[bound(), rows(2), done("SELECT 2"), ready()]);
    assert_eq!(
        lines(&play(&talk))[1..],
        [
            "SELECT u | SELECT b FROM u | 0 rows",
            "SELECT u | SELECT b FROM u | 1 rows",
            "SELECT u | SELECT b FROM u | 2 rows"
        ]
    );
}

#[test]
fn a_name_that_was_never_prepared_is_not_known() {
    let talk = asks(session(), &[parse("s", "SELECT nonsense"), sync()], &[error("42601"), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[error("26000"), ready()]);
    assert_eq!(lines(&play(&talk)).last().unwrap(), "26000");
}

#[test]
fn prepared_statements_beyond_the_bound_are_forgotten_and_counted() {
    let mut parser = Postgres::new(true);
    let mut found = Vec::new();
    let mut send = |direction, bytes: Vec<u8>| {
        use onlooker_protocols::{Moment, Parser};
        parser.bytes(direction, &bytes, Moment::default(), &mut found).unwrap();
        parser.forgotten_names()
    };
    send(Direction::Request, startup());
    for name in 0..1024 {
        assert_eq!(send(Direction::Request, parse(&format!("s{name}"), "SELECT 1")), 0);
    }
    // The first is in use: the second goes.
    assert_eq!(send(Direction::Request, bind("", "s0")), 0);
    assert_eq!(send(Direction::Request, parse("one more", "SELECT 1")), 1);
}

#[test]
fn a_backslash_escapes_where_the_server_says_so() {
    let talk = Talk::new()
        .request(startup())
        .response([message(b'R', [0; 4]), message(b'S', "standard_conforming_strings\0off\0"), ready()].concat());
    let talk = asks(talk, &[simple(r"SELECT 'it\'s secret', 1")], &[rows(1), done("SELECT 1"), ready()]);
    assert_eq!(lines(&play(&talk)), ["SELECT | SELECT ?, ? | 1 rows"]);
}

#[rstest]
#[case::ssl(80_877_103)]
#[case::gssenc(80_877_104)]
fn encryption_refused_goes_on_in_the_clear(#[case] code: u32) {
    let talk = Talk::new()
        .request(packet(code, ""))
        .response("N")
        .request(startup())
        .response([message(b'R', [0; 4]), ready()].concat());
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = play(&talk);
    assert_eq!((lines(&outcome), outcome.switched()), (owned(&["SELECT | SELECT ? | 1 rows"]), false));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[rstest]
#[case::ssl(80_877_103, "S")]
#[case::gssenc(80_877_104, "G")]
fn encryption_accepted_is_another_protocol(#[case] code: u32, #[case] answer: &str) {
    let outcome = play(&Talk::new().request(packet(code, "")).response(answer).request("\x16\x03\x01"));
    assert!(outcome.switched() && outcome.unparsable.is_none());
}

#[test]
fn a_request_for_encryption_may_be_answered_with_an_error() {
    let talk = Talk::new().request(packet(80_877_103, "")).response(error("53300"));
    assert_eq!(play(&talk).findings, []);
}

#[test]
fn a_cancel_request_is_no_query() {
    let outcome = play(&Talk::new().request(packet(80_877_102, "\0\0\0\x01\0\0\0\x02")));
    assert_eq!((outcome.findings, outcome.unparsable), (vec![], None));
}

#[test]
fn passwords_are_never_kept() {
    let talk = Talk::new()
        .request(startup())
        .response(message(b'R', [0, 0, 0, 3]))
        .request(message(b'p', "secret\0"))
        .response([message(b'R', [0; 4]), ready()].concat());
    let mut parser = Postgres::new(true);
    let mut found = Vec::new();
    use onlooker_protocols::{Moment, Parser};
    parser.bytes(Direction::Request, &startup(), Moment::default(), &mut found).unwrap();
    for &byte in &message(b'p', "secret\0") {
        parser.bytes(Direction::Request, &[byte], Moment::default(), &mut found).unwrap();
    }
    // Debug prints buffers as numbers: "secret" begins with 115, 101, 99.
    assert!(!format!("{parser:?}").contains("115, 101, 99"));
    assert_eq!(play(&talk).findings, []);
}

#[test]
fn a_connection_that_is_refused_is_told() {
    let talk = Talk::new()
        .request(startup())
        .response(message(b'R', [0, 0, 0, 3]))
        .request(message(b'p', "wrong\0"))
        .response(error("28P01"))
        .end(Direction::Response);
    let outcome = play(&talk);
    assert_eq!((lines(&outcome), outcome.begun()), (owned(&["CONNECT | 28P01"]), 1));
    assert_eq!(query(outcome.exchanges()[0]).operation, "CONNECT");
}

#[test]
fn without_a_database_the_user_names_it() {
    let talk =
        Talk::new().request(packet(3 << 16, "user\0ann\0\0")).response([message(b'R', [0; 4]), ready()].concat());
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    assert_eq!(query(play(&talk).exchanges()[0]).database, "ann");
}

#[rstest]
#[case::before_the_answer(&[], None)]
#[case::in_the_answer(&[rows(1)], Some(rows(1).len() as u64))]
fn a_query_that_the_connection_did_not_survive_is_told(#[case] response: &[Vec<u8>], #[case] length: Option<u64>) {
    let talk = session().request(simple("SELECT pg_sleep(9)")).response(response.concat()).closes(Close::Error(104));
    let outcome = play(&talk);
    let exchanges = outcome.exchanges();
    assert_eq!(lines(&outcome), ["SELECT | SELECT pg_sleep(?) | closed"]);
    assert!(matches!(exchanges[0].end, End::Closed(Close::Error(104), _)));
    let seen = exchanges[0].response_start.zip(exchanges[0].response_end);
    assert_eq!(seen.map(|(start, end)| end.position - start.position), length);
}

#[test]
fn a_server_that_ends_the_session_says_why() {
    let talk = session().request(simple("SELECT 1")).response(error("57P01")).end(Direction::Response);
    assert_eq!(lines(&play(&talk)), ["SELECT | SELECT ? | 57P01 | closed"]);
}

#[test]
fn requests_beyond_the_bound_are_counted_and_the_rest_still_matched() {
    let total = 5000;
    let queries = simple("SELECT 1").repeat(total);
    let answers = [rows(1), done("SELECT 1"), ready()].concat();
    let talk = session().request(queries).response(answers.repeat(total));
    let talk = asks(talk, &[simple("SELECT a FROM t")], &[error("42P01"), ready()]);
    let outcome = play(&talk);
    let lost = outcome.lost();
    assert_eq!((lost.len(), lost[0]), (total - 4096, LossReason::TooManyOpen));
    assert_eq!(lines(&outcome).last().unwrap(), "SELECT t | SELECT a FROM t | 42P01");
    assert_eq!((outcome.exchanges().len(), outcome.begun()), (4096 + 1, total + 1));
}

#[test]
fn executes_beyond_the_bound_are_counted_and_the_rest_still_matched() {
    let total = 5000;
    let request = [parse("", "SELECT 1"), [bind("", ""), execute("", 0)].concat().repeat(total), sync()].concat();
    let answers = [bound(), rows(1), done("SELECT 1")].concat().repeat(total);
    let talk = session().request(request).response([parsed(), answers, ready()].concat());
    let talk = asks(talk, &[simple("SELECT a FROM t")], &[error("42P01"), ready()]);
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), vec![LossReason::TooManyOpen; total - 4096]);
    assert_eq!(lines(&outcome).last().unwrap(), "SELECT t | SELECT a FROM t | 42P01");
}

// What the kernel does not capture.

#[rstest]
#[case::one_operation(&[rows(5000), done("SELECT 5000"), ready()], "SELECT t | SELECT a FROM t | 5000 rows")]
#[case::error_at_the_end(&[rows(5000), error("22012"), ready()], "SELECT t | SELECT a FROM t | _OTHER")]
fn a_long_response_is_recovered_at_its_end(#[case] response: &[Vec<u8>], #[case] expected: &str) {
    let whole = asks(session(), &[simple("SELECT a FROM t")], response);
    let whole = asks(whole, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let length = response.concat().len() as u64;
    for prefix in [0, 1, 3, 5, 29, 64, 1024] {
        // The session's own messages are captured in full.
        let outcome = play(&whole.captured(prefix.max(128), 16));
        assert_eq!(lines(&outcome), [expected, "SELECT | SELECT ? | 1 rows"]);
        let (.., Some(start), Some(end)) = span(outcome.exchanges()[0]) else { panic!("no response") };
        assert_eq!(end - start, length);
    }
}

#[test]
fn the_last_of_several_operations_ends_the_response() {
    let response = [rows(5000), done("SELECT 5000"), ready()].concat();
    let (first, rest) = response.split_at(40_000);
    let (second, third) = rest.split_at(40_000);
    let talk = session().request(simple("SELECT a FROM t")).response(first).response(second).response(third);
    let outcome = play(&talk.captured(128, 16));
    assert_eq!(lines(&outcome), ["SELECT t | SELECT a FROM t | 5000 rows"]);
}

#[test]
fn of_a_pipeline_only_the_last_answer_is_recovered() {
    let group = [parse("", "SELECT a FROM t"), bind("", ""), execute("", 0)].concat();
    let answer = [parsed(), bound(), rows(50), done("SELECT 50")].concat();
    let talk = asks(session(), &[group.repeat(3), sync()], &[answer.repeat(3), ready()]);
    let outcome = play(&talk.captured(400, 16));
    assert_eq!(lines(&outcome), ["SELECT t | SELECT a FROM t | 50 rows"]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
}

#[test]
fn which_of_several_syncs_is_answered_is_not_guessed() {
    let group = [parse("", "SELECT a FROM t"), bind("", ""), execute("", 0), sync()].concat();
    let answer = [parsed(), bound(), rows(50), done("SELECT 50"), ready()].concat();
    let talk = asks(session(), &[group.repeat(3)], &[answer.repeat(3)]);
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = play(&talk.captured(400, 16));
    assert_eq!(lines(&outcome), ["SELECT | SELECT ? | 1 rows"]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 3]);
}

#[test]
fn long_sql_is_told_as_far_as_it_was_captured() {
    let sql = format!("SELECT a FROM t WHERE b = 'secret' AND c = '{}' AND d = 1", "secret".repeat(3000));
    let talk = asks(session(), &[simple(&sql)], &[rows(1), done("SELECT 1"), ready()]);
    let expected = "SELECT t | SELECT a FROM t WHERE b = ? AND c = ?... | 1 rows";
    assert_eq!(lines(&play(&talk)), [expected]);
    assert_eq!(lines(&play(&talk.captured(256, 16))), [expected]);
}

#[rstest]
#[case::parameters("SELECT a FROM t", 20_000, "SELECT t | SELECT a FROM t | 1 rows")]
#[case::sql("SELECT a FROM t WHERE b IN (", 0, "SELECT t | SELECT a FROM t WHERE b IN (?, ?... | 1 rows")]
fn a_long_extended_query_is_one_exchange(#[case] sql: &str, #[case] parameter: usize, #[case] expected: &str) {
    let long = if parameter == 0 { format!("{sql}{}1)", "1, ".repeat(5000)) } else { sql.to_owned() };
    let bind = message(b'B', [&b"\0\0\0\0\0\0"[..], &vec![b'x'; parameter], &[0, 0]].concat());
    let talk = asks(
        session(),
        &[parse("", &long), bind, describe('P', ""), execute("", 0), sync()],
        &[parsed(), bound(), rows(1), done("SELECT 1"), ready()],
    );
    let talk = asks(talk, &[simple("COMMIT")], &[done("COMMIT"), ready()]);
    let outcome = play(&talk.captured(128, 16));
    assert_eq!(lines(&outcome), [expected, "COMMIT | COMMIT"]);
    assert_eq!(outcome.lost(), []);
}

#[test]
fn requests_that_were_not_seen_have_no_answers() {
    let group = [parse("", "SELECT a FROM t"), bind("", ""), execute("", 0), sync()].concat();
    let answer = [parsed(), bound(), rows(1), done("SELECT 1"), ready()].concat();
    let talk = session()
        .request([&group.repeat(2), &group[..2]].concat())
        .gap(Direction::Request, 2 * group.len() as u64 - 2)
        .response(answer.repeat(4));
    let talk = asks(talk, &[simple("SELECT 1")], &[error("42P01"), ready()]);
    let outcome = play(&talk);
    assert_eq!(
        lines(&outcome),
        ["SELECT t | SELECT a FROM t | 1 rows", "SELECT t | SELECT a FROM t | 1 rows", "SELECT | SELECT ? | 42P01"]
    );
    assert_eq!((outcome.orphans(), outcome.lost()), (2, vec![]));
}

#[test]
fn a_client_that_does_not_wait_is_not_trusted_after_a_loss() {
    let ask = simple("SELECT a FROM t");
    let answer = [rows(50), done("SELECT 50"), ready()].concat();
    let talk = session()
        .request(&ask)
        .response(&answer[..20])
        .request(&ask)
        .response(&answer[20..])
        .gap(Direction::Response, answer.len() as u64);
    // It may be the answer to this one, or still to the one before.
    let talk = asks(talk, std::slice::from_ref(&ask), std::slice::from_ref(&answer));
    // One turn was answered as it was asked: all is well.
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["SELECT t | SELECT a FROM t | 50 rows", "SELECT | SELECT ? | 1 rows"]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
}

#[test]
fn joining_late_tells_what_begins_after() {
    let talk =
        asks(Talk::new(), &[bind("", "s"), execute("", 0), sync()], &[bound(), rows(3), done("SELECT 3"), ready()]);
    let talk = asks(talk, &[simple("INSERT INTO t VALUES (1)")], &[done("INSERT 0 1"), ready()]);
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["SELECT | 3 rows", "INSERT t | INSERT INTO t VALUES (?) | 1 rows"]);
    assert!(outcome.exchanges().iter().all(|exchange| query(exchange).database.is_empty()));
}

#[test]
fn joining_late_in_a_response_tells_it_as_an_orphan() {
    let talk = Talk::new().response([&rows(2)[7..], &done("SELECT 3"), &ready()].concat());
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = join_late(&talk);
    assert_eq!((lines(&outcome), outcome.orphans()), (owned(&["SELECT | SELECT ? | 1 rows"]), 1));
}

#[test]
fn joining_at_the_start_without_knowing_it_misses_nothing() {
    let talk = asks(session(), &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["SELECT | SELECT ? | 1 rows"]);
    assert_eq!(query(outcome.exchanges()[0]).database, "shop");
}

#[rstest]
#[case::http("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n")]
#[case::redis("*1\r\n$4\r\nPING\r\n", "+PONG\r\n")]
#[case::tls("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", "\x16\x03\x03\0\x7a")]
fn another_protocol_is_refused(#[case] request: &str, #[case] response: &str) {
    let talk = Talk::new().request(request).response(response);
    assert!(play(&talk).unparsable.is_some());
}

#[test]
fn what_is_open_when_the_bytes_stop_making_sense_is_counted() {
    let talk = session().request(simple("SELECT 1")).response("garbage");
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
    assert_eq!(outcome.unparsable.unwrap().reason, "no such message");
}

// Real clients. Each fixture is what a proxy between the client and PostgreSQL 15 read, piece by piece.

fn fixture(name: &str) -> Talk {
    let path = format!("{}/tests/fixtures/postgres/{name}.talk", env!("CARGO_MANIFEST_DIR"));
    let mut talk = Talk::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let (direction, hex) = line.split_at(2);
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        let bytes: Vec<u8> = bytes.collect();
        talk = if direction == "> " { talk.request(bytes) } else { talk.response(bytes) };
    }
    talk
}

#[rstest]
fn real_clients(
    #[values(
        "psql_simple",
        "pgbench_extended",
        "pgbench_prepared",
        "pgbench_pipeline",
        "psycopg",
        "asyncpg",
        "refused"
    )]
    name: &str,
) {
    let talk = fixture(name);
    let outcome = play(&talk);
    let path = format!("{}/tests/fixtures/postgres/{name}.exchanges", env!("CARGO_MANIFEST_DIR"));
    let expected = std::fs::read_to_string(path).unwrap();
    assert_eq!(lines(&outcome), expected.lines().collect::<Vec<_>>());
    assert_eq!((outcome.orphans(), outcome.lost(), outcome.unparsable), (0, vec![], None));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

/// Whether what is told of an exchange of which something is missing is true: the same, or said to be unknown.
fn assert_true(told: &Exchange, whole: &Outcome, context: &str) {
    let start = told.request_start.position;
    let exchanges = whole.exchanges();
    let real = exchanges
        .iter()
        .find(|real| (real.request_start.position..real.request_end.position).contains(&start))
        .unwrap_or_else(|| panic!("{context}: never happened: {told:?}"));
    let (told_query, real_query) = (query(told), query(real));
    // A list is folded only where all of it was seen: the text is compared up to its first value.
    let known = told_query.text.trim_end_matches("...").split('?').next().unwrap();
    assert!(real_query.text.starts_with(known.trim_end()), "{context}: {told:?}\n{real:?}");
    assert!(told_query.rows.is_none() || told_query.rows == real_query.rows, "{context}: {told:?}\n{real:?}");
    let error = &told_query.error_code;
    assert!(*error == real_query.error_code || error == Query::UNKNOWN_ERROR, "{context}: {told:?}\n{real:?}");
    let database = &told_query.database;
    assert!(database.is_empty() || *database == real_query.database, "{context}: {told:?}\n{real:?}");
    assert_eq!(told_query.skipped, real_query.skipped, "{context}: {told:?}\n{real:?}");
    // Whether a Sync followed may not be known: then the ReadyForQuery is not part of it.
    let (Some(told_end), Some(real_end)) = (told.response_end, real.response_end) else {
        panic!("{context}: no response: {told:?}\n{real:?}")
    };
    let ready = ready().len() as u64;
    assert!(
        (real_end.position - ready..=real_end.position).contains(&told_end.position),
        "{context}: {told:?}\n{real:?}"
    );
    assert_eq!(told_end.nanos, real_end.nanos);
}

/// Whether all that is told is true, and one hole costs no more than what was asked in one turn, as nothing says which
/// part of the answer belongs to which of that; and one more, that was skipped because of it.
fn assert_all_true(holed: &Outcome, whole: &Outcome, context: &str) {
    for exchange in holed.exchanges() {
        assert_true(exchange, whole, context);
    }
    let turns = whole.exchanges().into_iter().map(|exchange| exchange.request_start.run).collect::<Vec<_>>();
    let of_one_turn = turns.chunk_by(|one, next| one == next).map(<[u32]>::len).max().unwrap_or_default();
    assert_eq!(holed.begun(), holed.exchanges().len() + holed.lost().len(), "{context}");
    let untold = turns.len() - holed.exchanges().len();
    assert!(untold <= of_one_turn + 1, "{context}: {untold} are not told: {holed:#?}");
}

#[rstest]
fn a_hole_anywhere_makes_nothing_untrue(
    #[values(
        "psql_simple",
        "pgbench_extended",
        "pgbench_prepared",
        "pgbench_pipeline",
        "psycopg",
        "asyncpg",
        "refused"
    )]
    name: &str,
    #[values(1, 9, 100_000)] missing: usize,
) {
    let talk = fixture(name);
    let whole = play(&talk);
    for (context, talk) in talk.gap_everywhere(&[missing]) {
        assert_all_true(&play(&talk), &whole, &context);
    }
}

#[rstest]
fn an_event_that_is_lost_makes_nothing_untrue(
    #[values(
        "psql_simple",
        "pgbench_extended",
        "pgbench_prepared",
        "pgbench_pipeline",
        "psycopg",
        "asyncpg",
        "refused"
    )]
    name: &str,
) {
    let talk = fixture(name);
    let whole = play(&talk);
    for (context, talk) in talk.loss_everywhere() {
        assert_all_true(&play(&talk), &whole, &context);
    }
}

/// One thread writes, another reads: what it read may be recorded before the send has returned.
#[test]
fn an_answer_that_was_recorded_before_its_request_answers_it_and_a_hole_makes_nothing_untrue() {
    let group = [parse("", "SELECT a FROM t"), bind("", ""), execute("", 0)].concat();
    let answer = |rows_of: usize| [parsed(), bound(), rows(rows_of), done(&format!("SELECT {rows_of}"))].concat();
    let talk = session()
        .request(simple("SELECT 1"))
        .overtaking_response([rows(1), done("SELECT 1"), ready()].concat())
        .request([group.clone(), sync()].concat())
        .overtaking_response([answer(2), ready()].concat())
        .request([group.repeat(2), sync(), simple("SELECT 5")].concat())
        .overtaking_response([answer(3), answer(4), ready()].concat())
        .response([rows(5), done("SELECT 5"), ready()].concat())
        .request(simple("DELETE FROM t"))
        .response([error("42P01"), ready()].concat());
    let whole = play(&talk);
    let counted: Vec<_> = whole.exchanges().into_iter().map(|exchange| query(exchange).rows).collect();
    assert_eq!(counted, [Some(1), Some(2), Some(3), Some(4), Some(5), None]);
    assert_eq!((whole.orphans(), whole.lost()), (0, vec![]));
    assert_eq!(play(&talk.byte_at_a_time()), whole);
    for (context, talk) in talk.gap_everywhere(&[1, 5, 16, 40, 1000]).chain(talk.loss_everywhere()) {
        for exchange in play(&talk).exchanges() {
            assert_true(exchange, &whole, &context);
        }
    }
}

#[rstest]
fn whatever_is_captured_is_true(
    #[values("psql_simple", "pgbench_prepared", "pgbench_pipeline", "psycopg", "asyncpg")] name: &str,
    #[values(0, 7, 16)] tail: usize,
) {
    let talk = fixture(name);
    let whole = play(&talk);
    for prefix in [0, 1, 5, 16, 64, 200, 1024] {
        let captured = talk.captured(prefix, tail);
        for outcome in [play(&captured), join_late(&captured)] {
            for exchange in outcome.exchanges() {
                assert_true(exchange, &whole, &format!("{prefix} and {tail} bytes"));
            }
        }
    }
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("postgres")))]

    #[test]
    fn however_it_is_cut_the_findings_are_the_same(cuts in prop::collection::vec(0_usize..4000, 0..40)) {
        for name in ["psycopg", "asyncpg", "pgbench_pipeline"] {
            let talk = fixture(name);
            prop_assert_eq!(play(&talk.cut(&cuts)), play(&talk));
        }
    }

    #[test]
    fn anything_is_survived(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40), 0_u64..3), 0..30),
        from_start: bool,
    ) {
        let mut talk = if from_start { session() } else { Talk::new() };
        for (is_request, bytes, missing) in pieces {
            let direction = if is_request { Direction::Request } else { Direction::Response };
            talk = talk.says(direction, bytes);
            if missing > 0 {
                talk = talk.gap(direction, missing);
            }
        }
        talk.play(Box::new(Postgres::new(from_start)));
    }

    #[test]
    fn any_messages_in_any_order_are_survived(
        messages in prop::collection::vec((any::<bool>(), 0_usize..17, 0_u64..30), 0..60),
    ) {
        let requests = [
            simple("SELECT 1"), parse("", "SELECT 1"), parse("s", "SELECT 2"), bind("", ""), bind("", "s"), describe('S', "s"),
            describe('P', ""), execute("", 0), execute("", 1), sync(), flush(), close_statement("s"), message(b'd', "x"),
            message(b'c', ""), message(b'f', "x\0"), message(b'F', [0; 10]), message(b'X', ""),
        ];
        let responses = [
            parsed(), bound(), message(b'3', ""), no_data(), message(b't', [0, 0]), rows(1), done("SELECT 1"), error("42P01"),
            ready(), ready(), message(b's', ""), message(b'I', ""), message(b'G', [0; 3]), message(b'H', [0; 3]),
            message(b'W', [0; 3]), message(b'd', "x"), message(b'c', ""),
        ];
        let mut talk = session();
        for (is_request, which, missing) in messages {
            let (direction, bytes) = if is_request {
                (Direction::Request, &requests[which])
            } else {
                (Direction::Response, &responses[which])
            };
            talk = talk.says(direction, bytes);
            if missing == 1 {
                talk = talk.gap(direction, 7);
            }
        }
        play(&talk);
    }
}
