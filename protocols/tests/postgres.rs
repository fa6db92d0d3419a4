//! PostgreSQL's protocol, as its documentation and real clients define it.

mod chance;
mod kit;

use kit::Talk;
use kit::postgres::*;
use onlooker_protocols::facts::Namespace;
use onlooker_protocols::kit::in_order::DEEPEST_PIPELINE;
use onlooker_protocols::postgres::Postgres;
use onlooker_protocols::{Direction, Finding, LossReason, Moment, Parser};
use proptest::prelude::*;
use rstest::rstest;

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
    assert!(outcome.exchanges().iter().all(|exchange| query(exchange).namespace == Namespace::Name("shop".into())));
    assert!(!format!("{:?}", outcome.findings).contains("secret"));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
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
    // libpq sends a Sync with the Execute, which the server ignores, and another after the data.
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
        // The client did not know yet.
        .request([message(b'd', "more\n"), message(b'c', ""), simple("SELECT 1")].concat())
        .response([rows(1), done("SELECT 1"), ready()].concat());
    assert_eq!(lines(&play(&talk)), ["COPY t | COPY t FROM STDIN | 22P02", "SELECT | SELECT ? | 1 rows"]);
}

#[test]
fn a_prepared_statement_is_found_by_its_name() {
    let talk = asks(session(), &[parse("s", "SELECT a FROM t"), sync()], &[parsed(), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[bound(), error("57014"), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[bound(), done("SELECT 0"), ready()]);
    let talk = asks(talk, &[close_statement("s"), sync()], &[message(b'3', ""), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[error("26000"), ready()]);
    assert_eq!(
        lines(&play(&talk)),
        ["SELECT t | SELECT a FROM t | 57014 | prepared", "SELECT t | SELECT a FROM t | 0 rows", "26000",]
    );
}

/// The server keeps a prepared statement even if a later command fails.
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
fn a_name_that_was_never_prepared_is_unknown() {
    let talk = asks(session(), &[parse("s", "SELECT nonsense"), sync()], &[error("42601"), ready()]);
    let talk = asks(talk, &[bind("", "s"), execute("", 0), sync()], &[error("26000"), ready()]);
    assert_eq!(lines(&play(&talk)).last().unwrap(), "26000");
}

#[test]
fn prepared_statements_beyond_the_limit_are_evicted_and_counted() {
    let mut parser = Postgres::new(true);
    let mut found = Vec::new();
    let mut send = |direction, bytes: Vec<u8>| {
        parser.bytes(direction, &bytes, Moment::default(), &mut found).unwrap();
        found.drain(..).filter(|finding| *finding == Finding::StatementForgotten).count()
    };
    send(Direction::ToServer, startup());
    for name in 0..1024 {
        assert_eq!(send(Direction::ToServer, parse(&format!("s{name}"), "SELECT 1")), 0);
    }
    // The first was used recently, so the second is evicted.
    assert_eq!(send(Direction::ToServer, bind("", "s0")), 0);
    assert_eq!(send(Direction::ToServer, parse("one more", "SELECT 1")), 1);
}

#[test]
fn requests_beyond_the_limit_are_counted_and_the_others_are_matched() {
    let total = DEEPEST_PIPELINE + 1000;
    let queries = simple("SELECT 1").repeat(total);
    let answers = [rows(1), done("SELECT 1"), ready()].concat();
    let talk = session().request(queries).response(answers.repeat(total));
    let talk = asks(talk, &[simple("SELECT a FROM t")], &[error("42P01"), ready()]);
    let outcome = play(&talk);
    let lost = outcome.lost();
    assert_eq!((lost.len(), lost[0]), (1000, LossReason::TooManyOpen));
    assert_eq!(lines(&outcome).last().unwrap(), "SELECT t | SELECT a FROM t | 42P01");
    assert_eq!((outcome.exchanges().len(), outcome.begun()), (DEEPEST_PIPELINE + 1, total + 1));
}

#[test]
fn executes_beyond_the_limit_are_counted_and_the_others_are_matched() {
    let total = DEEPEST_PIPELINE + 1000;
    let request = [parse("", "SELECT 1"), [bind("", ""), execute("", 0)].concat().repeat(total), sync()].concat();
    let answers = [bound(), rows(1), done("SELECT 1")].concat().repeat(total);
    let talk = session().request(request).response([parsed(), answers, ready()].concat());
    let talk = asks(talk, &[simple("SELECT a FROM t")], &[error("42P01"), ready()]);
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), vec![LossReason::TooManyOpen; 1000]);
    assert_eq!(lines(&outcome).last().unwrap(), "SELECT t | SELECT a FROM t | 42P01");
}

/// Each fixture was recorded by a proxy between a real client and PostgreSQL 15.
#[test]
fn conversations_of_real_clients_are_reported() {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let outcome = play(&talk);
        let path = format!("{}/tests/fixtures/postgres/{name}.exchanges", env!("CARGO_MANIFEST_DIR"));
        let expected = std::fs::read_to_string(path).unwrap();
        assert_eq!(lines(&outcome), expected.lines().collect::<Vec<_>>(), "{name}");
        assert_eq!((outcome.orphans(), outcome.lost(), outcome.unparsable), (0, vec![], None), "{name}");
        assert_eq!(play(&talk.byte_at_a_time()), outcome, "{name}");
    }
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("postgres")))]

    #[test]
    fn every_cut_yields_the_same_findings(cuts in prop::collection::vec(0_usize..4000, 0..40)) {
        for name in ["psycopg", "asyncpg", "pgbench_pipeline"] {
            let talk = Talk::recorded("postgres", name);
            prop_assert_eq!(play(&talk.cut(&cuts)), play(&talk));
        }
    }

    #[test]
    fn any_bytes_are_survived(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40), 0_u64..3), 0..30),
        from_start: bool,
    ) {
        let mut talk = if from_start { session() } else { Talk::new() };
        for (is_request, bytes, missing) in pieces {
            let direction = if is_request { Direction::ToServer } else { Direction::ToClient };
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
                (Direction::ToServer, &requests[which])
            } else {
                (Direction::ToClient, &responses[which])
            };
            talk = talk.says(direction, bytes);
            if missing == 1 {
                talk = talk.gap(direction, 7);
            }
        }
        play(&talk);
    }
}
