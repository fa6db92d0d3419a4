//! Drivers that prepare every statement: both round trips are one exchange.

mod kit;

use kit::Talk;
use kit::postgres::*;
use onlooker_protocols::postgres::Postgres;
use onlooker_protocols::{Close, Direction, Finding, Moment, Parser};
use rstest::rstest;

const SQL: &str = "SELECT a FROM t WHERE b = $1";
const PREPARED: &str = "PREPARE SELECT t | SELECT a FROM t WHERE b = $1";
const EXECUTED: &str = "SELECT t | SELECT a FROM t WHERE b = $1 | 1 rows";
const BOTH: &str = "SELECT t | SELECT a FROM t WHERE b = $1 | 1 rows | prepared";

fn described() -> Vec<u8> {
    [parsed(), message(b't', [0, 0]), rows(0)].concat()
}

/// A session in which the statement `name` was prepared in a round trip of its own.
fn prepares(name: &str) -> Talk {
    asks(session(), &[parse(name, SQL), describe('S', name), sync()], &[described(), ready()])
}

fn executes(talk: Talk, name: &str) -> Talk {
    asks(talk, &[bind("", name), execute("", 0), sync()], &[bound(), rows(1), done("SELECT 1"), ready()])
}

#[rstest]
#[case::lib_pq_unnamed("")]
#[case::lib_pq_named("1")]
fn a_prepare_round_trip_is_folded_into_its_execution(#[case] name: &str) {
    let talk = executes(prepares(name), name);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), [BOTH]);
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
    // From the first byte of the Parse to the last of the execution's answer.
    let (start, end, ..) = span(outcome.exchanges()[0]);
    let session = startup().len() as u64;
    let prepare = [parse(name, SQL), describe('S', name), sync()].concat().len() as u64;
    let execution = [bind("", name), execute("", 0), sync()].concat().len() as u64;
    assert_eq!((start, end), (session, session + prepare + execution));
    let begun = outcome.findings.iter().filter(|finding| matches!(finding, Finding::Begun(_))).count();
    assert_eq!(begun, 1, "only the Parse is announced");
}

#[test]
fn a_prepare_is_folded_if_only_a_flush_ends_it() {
    let talk = asks(session(), &[parse("s", SQL), describe('S', "s"), flush()], &[described()]);
    assert_eq!(lines(&play(&executes(talk, "s"))), [BOTH]);
}

#[test]
fn later_executions_have_no_prepare() {
    let talk = executes(executes(prepares("s"), "s"), "s");
    assert_eq!(lines(&play(&talk)), [BOTH, EXECUTED]);
}

#[test]
fn the_execution_may_describe_its_portal() {
    let execution = [bind("", "s"), describe('P', ""), execute("", 0), sync()];
    let talk = asks(prepares("s"), &execution, &[bound(), rows(1), done("SELECT 1"), ready()]);
    assert_eq!(lines(&play(&talk)), [BOTH]);
}

#[test]
fn a_failed_execution_has_its_error() {
    let talk = asks(prepares("s"), &[bind("", "s"), execute("", 0), sync()], &[error("22012"), ready()]);
    assert_eq!(lines(&play(&talk)), ["SELECT t | SELECT a FROM t WHERE b = $1 | 22012 | prepared"]);
}

#[test]
fn a_prepare_that_fails_stays() {
    let talk = asks(session(), &[parse("s", SQL), sync()], &[error("42P01"), ready()]);
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    assert_eq!(lines(&play(&talk)), [&format!("{PREPARED} | 42P01"), "SELECT | SELECT ? | 1 rows"]);
}

#[rstest]
#[case::query(&[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()], "SELECT | SELECT ? | 1 rows")]
#[case::another_prepare(&[parse("u", "SELECT 1"), sync()], &[parsed(), ready()], "PREPARE SELECT | SELECT ?")]
#[case::closed(&[close_statement("s"), sync()], &[message(b'3', ""), ready()], "")]
#[case::synced(&[sync()], &[ready()], "")]
#[case::bound_and_not_executed(&[bind("", "s"), sync()], &[bound(), ready()], "")]
#[case::bound_and_another_run(
    &[bind("c", "s"), parse("", "SELECT 1"), bind("", ""), execute("", 0), sync()],
    &[bound(), parsed(), bound(), rows(1), done("SELECT 1"), ready()],
    "SELECT | SELECT ? | 1 rows"
)]
fn a_prepare_that_the_next_message_does_not_execute_stays(
    #[case] request: &[Vec<u8>],
    #[case] response: &[Vec<u8>],
    #[case] next: &str,
) {
    let outcome = play(&asks(prepares("s"), request, response));
    let expected: Vec<_> = [PREPARED, next].into_iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines(&outcome), expected);
    // It is reported before the next request is announced.
    assert!(matches!(outcome.findings[..2], [Finding::Begun(_), Finding::Exchange(_)]), "{:?}", outcome.findings);
}

#[test]
fn the_execution_of_another_statement_is_not_folded() {
    let talk = executes(prepares("s"), "s");
    let talk = asks(talk, &[parse("u", "SELECT 1"), sync()], &[parsed(), ready()]);
    assert_eq!(lines(&play(&executes(talk, "s"))), [BOTH, "PREPARE SELECT | SELECT ?", EXECUTED]);
}

#[test]
fn a_prepare_stays_when_the_connection_ends() {
    for close in [Close::Normal, Close::ProcessExit, Close::Shutdown] {
        assert_eq!(lines(&play(&prepares("s").closes(close))), [PREPARED]);
    }
    assert_eq!(lines(&play(&prepares("s").end(Direction::ToClient))), [PREPARED]);
}

#[test]
fn an_execution_that_comes_late_is_not_folded() {
    assert_eq!(lines(&play(&executes(prepares("s").pauses(900), "s"))), [BOTH]);
    assert_eq!(lines(&play(&executes(prepares("s").pauses(1_100), "s"))), [PREPARED, EXECUTED]);
}

#[test]
fn a_prepare_is_reported_without_a_message_after_one_second() {
    const SECOND: u64 = 1_000_000_000;
    let mut parser = Postgres::new(true);
    let mut found = Vec::new();
    let (mut run, mut position) = (0, [0; 2]);
    for (direction, bytes) in [
        (Direction::ToServer, startup()),
        (Direction::ToClient, [message(b'R', [0; 4]), ready()].concat()),
        (Direction::ToServer, [parse("s", SQL), sync()].concat()),
        (Direction::ToClient, [parsed(), ready()].concat()),
    ] {
        let at = Moment { nanos: SECOND, position: position[direction as usize], run };
        parser.bytes(direction, &bytes, at, &mut found).expect("it is PostgreSQL");
        position[direction as usize] += bytes.len() as u64;
        run += 1;
    }
    parser.pass_time(2 * SECOND, &mut found);
    assert_eq!((found.len(), parser.open()), (1, 1), "only begun: {found:?}");
    parser.pass_time(2 * SECOND + 1, &mut found);
    assert!(matches!(found[..], [Finding::Begun(_), Finding::Exchange(_)]), "{found:?}");
    assert_eq!(parser.open(), 0);
}

#[test]
fn a_lost_execution_leaves_its_prepare() {
    let talk = prepares("s").request([bind("", "s"), execute("", 0), sync()].concat());
    let talk = talk.lost(Direction::ToClient, [bound(), rows(1), done("SELECT 1"), ready()].concat());
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), [PREPARED, "SELECT | SELECT ? | 1 rows"]);
    assert_eq!(outcome.lost().len(), 1);
}
