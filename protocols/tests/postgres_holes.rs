//! PostgreSQL with holes: whatever is reported is true, and everything else is counted.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod kit;

use kit::postgres::*;
use kit::{Outcome, Talk};
use onlooker_protocols::facts::{Namespace, Rows};
use onlooker_protocols::{Direction, Exchange, LossReason};
use rstest::rstest;

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
fn only_the_last_response_of_a_pipeline_is_recovered() {
    let group = [parse("", "SELECT a FROM t"), bind("", ""), execute("", 0)].concat();
    let answer = [parsed(), bound(), rows(50), done("SELECT 50")].concat();
    let talk = asks(session(), &[group.repeat(3), sync()], &[answer.repeat(3), ready()]);
    let outcome = play(&talk.captured(400, 16));
    assert_eq!(lines(&outcome), ["SELECT t | SELECT a FROM t | 50 rows"]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
}

#[test]
fn which_of_several_syncs_is_answered_stays_unknown() {
    let group = [parse("", "SELECT a FROM t"), bind("", ""), execute("", 0), sync()].concat();
    let answer = [parsed(), bound(), rows(50), done("SELECT 50"), ready()].concat();
    let talk = asks(session(), &[group.repeat(3)], &[answer.repeat(3)]);
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = play(&talk.captured(400, 16));
    assert_eq!(lines(&outcome), ["SELECT | SELECT ? | 1 rows"]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 3]);
}

#[test]
fn long_sql_is_reported_as_far_as_it_was_captured() {
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
fn responses_to_unseen_requests_answer_nothing() {
    let group = [parse("", "SELECT a FROM t"), bind("", ""), execute("", 0), sync()].concat();
    let answer = [parsed(), bound(), rows(1), done("SELECT 1"), ready()].concat();
    let talk = session()
        .request([&group.repeat(2), &group[..2]].concat())
        .gap(Direction::ToServer, 2 * group.len() as u64 - 2)
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
        .gap(Direction::ToClient, answer.len() as u64);
    // It may answer this request or the one before.
    let talk = asks(talk, std::slice::from_ref(&ask), std::slice::from_ref(&answer));
    // One run of requests has as many responses: the order is certain again.
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["SELECT t | SELECT a FROM t | 50 rows", "SELECT | SELECT ? | 1 rows"]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
}

#[test]
fn a_client_that_goes_on_within_a_response_is_not_trusted_either() {
    let answer = |count: usize| [rows(count), done(&format!("SELECT {count}")), ready()].concat();
    let (first, rest) = (answer(50)[..20].to_vec(), answer(50)[20..].to_vec());
    let ask = simple("SELECT a FROM t");
    let talk = session().request(&ask).response(first).request(&ask).lost(Direction::ToClient, rest);
    // The third request is sent before the response to the second.
    let talk = talk.request(&ask).response(answer(60)).response(answer(70));
    let outcome = play(&talk);
    let counts: Vec<_> =
        outcome.exchanges().into_iter().map(|exchange| query(exchange).rows.map(Rows::count)).collect();
    assert!(!counts.contains(&Some(60)) || counts.contains(&Some(70)), "{counts:?}");
    assert_eq!(outcome.begun(), 3);
}

#[test]
fn an_agent_that_comes_late_reports_later_requests() {
    let talk =
        asks(Talk::new(), &[bind("", "s"), execute("", 0), sync()], &[bound(), rows(3), done("SELECT 3"), ready()]);
    let talk = asks(talk, &[simple("INSERT INTO t VALUES (1)")], &[done("INSERT 0 1"), ready()]);
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["SELECT | 3 rows", "INSERT t | INSERT INTO t VALUES (?) | 1 rows"]);
    assert!(outcome.exchanges().iter().all(|exchange| query(exchange).namespace == Namespace::default()));
}

#[test]
fn an_agent_that_comes_within_a_response_reports_an_orphan() {
    let talk = Talk::new().response([&rows(2)[7..], &done("SELECT 3"), &ready()].concat());
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = join_late(&talk);
    assert_eq!((lines(&outcome), outcome.orphans()), (owned(&["SELECT | SELECT ? | 1 rows"]), 1));
}

#[test]
fn an_agent_that_comes_at_the_start_without_knowing_it_misses_nothing() {
    let talk = asks(session(), &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["SELECT | SELECT ? | 1 rows"]);
    assert_eq!(query(outcome.exchanges()[0]).namespace, Namespace::Name("shop".into()));
}

/// What happened. With a hole, a preparation may be reported by itself that is a part of an exchange otherwise.
struct Truth {
    whole: Outcome,
    apart: Outcome,
}

impl Truth {
    fn of(talk: &Talk) -> Self {
        Self { whole: play(talk), apart: play_apart(talk) }
    }
}

/// Asserts that every fact of an exchange with holes is true or unknown.
fn assert_true(reported: &Exchange, truth: &Truth, context: &str) {
    let start = reported.request_start.position;
    let exchanges = if query(reported).prepared { truth.whole.exchanges() } else { truth.apart.exchanges() };
    let real = exchanges
        .iter()
        .find(|real| (real.request_start.position..real.request_end.position).contains(&start))
        .unwrap_or_else(|| panic!("{context}: never happened: {reported:?}"));
    let (reported_query, real_query) = (query(reported), query(real));
    // A list is folded only if all of it was captured. So the text is compared up to its first value.
    let known = reported_query.text.trim_end_matches("...").split('?').next().unwrap();
    assert!(real_query.text.starts_with(known.trim_end()), "{context}: {reported:?}\n{real:?}");
    assert!(
        reported_query.rows.is_none() || reported_query.rows.map(Rows::count) == real_query.rows.map(Rows::count),
        "{context}: {reported:?}\n{real:?}"
    );
    let status = &reported_query.status;
    assert!(
        *status == real_query.status || (reported_query.failed && status.is_empty()),
        "{context}: {reported:?}\n{real:?}"
    );
    let database = &reported_query.namespace;
    assert!(
        *database == Namespace::default() || *database == real_query.namespace,
        "{context}: {reported:?}\n{real:?}"
    );
    assert_eq!(reported_query.skipped, real_query.skipped, "{context}: {reported:?}\n{real:?}");
    // If it is unknown whether a Sync followed, the ReadyForQuery is not part of the exchange.
    let (Some(reported_end), Some(real_end)) = (reported.response_end, real.response_end) else {
        panic!("{context}: no response: {reported:?}\n{real:?}")
    };
    let ready = ready().len() as u64;
    assert!(
        (real_end.position - ready..=real_end.position).contains(&reported_end.position),
        "{context}: {reported:?}\n{real:?}"
    );
    assert_eq!(reported_end.nanos, real_end.nanos);
}

/// Asserts that every exchange is true, and that a loss costs no more requests than `runs_lost` runs hold, plus one that was
/// skipped because of it. Within a run nothing shows which part of the response belongs to which request.
fn assert_all_true(holed: &Outcome, truth: &Truth, runs_lost: usize, context: &str) {
    for exchange in holed.exchanges() {
        assert_true(exchange, truth, context);
    }
    let runs = truth.apart.exchanges().into_iter().map(|exchange| exchange.request_start.run).collect::<Vec<_>>();
    let of_one_run = runs.chunk_by(|one, next| one == next).map(<[u32]>::len).max().unwrap_or_default();
    assert_eq!(holed.begun(), holed.exchanges().len() + holed.lost().len(), "{context}");
    let folded = holed.exchanges().into_iter().filter(|exchange| query(exchange).prepared).count();
    let unreported = runs.len() - holed.exchanges().len() - folded;
    assert!(unreported <= runs_lost * of_one_run + 1, "{context}: {unreported} are not reported: {holed:#?}");
}

#[rstest]
fn with_any_hole_every_report_is_true(#[values(1, 9, 100_000)] missing: usize) {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let truth = Truth::of(&talk);
        for (what, talk) in talk.gap_everywhere(&[missing]) {
            assert_all_true(&play(&talk), &truth, 1, &format!("{name}: {what}"));
        }
    }
}

/// The lost record may have been a request of the next run, too.
#[test]
fn with_any_record_lost_every_report_is_true() {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let truth = Truth::of(&talk);
        for (what, talk) in talk.loss_everywhere() {
            assert_all_true(&play(&talk), &truth, 2, &format!("{name}: {what}"));
        }
    }
}

#[rstest]
fn with_adjacent_records_lost_every_report_is_true(#[values(2, 3)] count: usize) {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let truth = Truth::of(&talk);
        for (what, talk) in talk.losses_everywhere(count) {
            for exchange in play(&talk).exchanges() {
                assert_true(exchange, &truth, &format!("{name}: {what}"));
            }
        }
    }
}

#[test]
fn with_random_records_lost_every_report_is_true() {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let truth = Truth::of(&talk);
        for (what, talk) in talk.losses_at_random(12, 100) {
            for exchange in play(&talk).exchanges() {
                assert_true(exchange, &truth, &format!("{name}: {what}"));
            }
        }
    }
}

#[test]
fn a_response_two_runs_later_answers_an_unseen_request() {
    let talk = session()
        .request(simple("UPDATE t SET a = 1"))
        .lost(Direction::ToClient, [done("UPDATE 1"), ready()].concat())
        .lost(Direction::ToServer, simple("DELETE FROM u"))
        .response([error("42P01"), ready()].concat());
    let outcome = play(&asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]));
    assert_eq!(lines(&outcome), ["SELECT | SELECT ? | 1 rows"]);
    assert_eq!((outcome.orphans(), outcome.lost()), (1, vec![LossReason::ResponseMissing]));
}

/// One thread writes and another reads: the response may be recorded before the send of its request returns.
#[test]
fn a_response_recorded_before_its_request_answers_it_with_and_without_holes() {
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
    let counted: Vec<_> = whole.exchanges().into_iter().map(|exchange| query(exchange).rows.map(Rows::count)).collect();
    assert_eq!(counted, [Some(1), Some(2), Some(3), Some(4), Some(5), None]);
    assert_eq!((whole.orphans(), whole.lost()), (0, vec![]));
    assert_eq!(play(&talk.byte_at_a_time()), whole);
    let truth = Truth::of(&talk);
    for (context, talk) in talk.gap_everywhere(&[1, 5, 16, 40, 1000]).chain(talk.loss_everywhere()) {
        for exchange in play(&talk).exchanges() {
            assert_true(exchange, &truth, &context);
        }
    }
}

#[rstest]
fn with_any_capture_every_report_is_true(#[values(0, 7, 16)] tail: usize) {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let truth = Truth::of(&talk);
        for prefix in [0, 1, 5, 16, 64, 200, 1024] {
            let captured = talk.captured(prefix, tail);
            for outcome in [play(&captured), join_late(&captured)] {
                for exchange in outcome.exchanges() {
                    assert_true(exchange, &truth, &format!("{name}: {prefix} and {tail} bytes"));
                }
            }
        }
    }
}
