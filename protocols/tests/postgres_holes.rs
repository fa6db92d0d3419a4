//! PostgreSQL of which not all was captured: what is told is the truth, and what is not told is counted.

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
    // It may be the answer to this one, or still to the one before.
    let talk = asks(talk, std::slice::from_ref(&ask), std::slice::from_ref(&answer));
    // One turn was answered as it was asked: all is well.
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["SELECT t | SELECT a FROM t | 50 rows", "SELECT | SELECT ? | 1 rows"]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
}

#[test]
fn a_client_that_goes_on_amid_an_answer_is_not_trusted_either() {
    let answer = |count: usize| [rows(count), done(&format!("SELECT {count}")), ready()].concat();
    let (first, rest) = (answer(50)[..20].to_vec(), answer(50)[20..].to_vec());
    let ask = simple("SELECT a FROM t");
    let talk = session().request(&ask).response(first).request(&ask).lost(Direction::ToClient, rest);
    // The answer to the second is still to come when the third is asked.
    let talk = talk.request(&ask).response(answer(60)).response(answer(70));
    let outcome = play(&talk);
    let counts: Vec<_> =
        outcome.exchanges().into_iter().map(|exchange| query(exchange).rows.map(Rows::count)).collect();
    assert!(!counts.contains(&Some(60)) || counts.contains(&Some(70)), "{counts:?}");
    assert_eq!(outcome.begun(), 3);
}

#[test]
fn joining_late_tells_what_begins_after() {
    let talk =
        asks(Talk::new(), &[bind("", "s"), execute("", 0), sync()], &[bound(), rows(3), done("SELECT 3"), ready()]);
    let talk = asks(talk, &[simple("INSERT INTO t VALUES (1)")], &[done("INSERT 0 1"), ready()]);
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["SELECT | 3 rows", "INSERT t | INSERT INTO t VALUES (?) | 1 rows"]);
    assert!(outcome.exchanges().iter().all(|exchange| query(exchange).namespace == Namespace::default()));
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
    assert_eq!(query(outcome.exchanges()[0]).namespace, Namespace::Name("shop".into()));
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
    assert!(
        told_query.rows.is_none() || told_query.rows.map(Rows::count) == real_query.rows.map(Rows::count),
        "{context}: {told:?}\n{real:?}"
    );
    let status = &told_query.status;
    assert!(*status == real_query.status || (told_query.failed && status.is_empty()), "{context}: {told:?}\n{real:?}");
    let database = &told_query.namespace;
    assert!(*database == Namespace::default() || *database == real_query.namespace, "{context}: {told:?}\n{real:?}");
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

/// Whether all that is told is true, and one hole costs no more than what was asked in so many turns, as nothing says
/// which part of the answer belongs to which of that; and one more, that was skipped because of it.
fn assert_all_true(holed: &Outcome, whole: &Outcome, turns_lost: usize, context: &str) {
    for exchange in holed.exchanges() {
        assert_true(exchange, whole, context);
    }
    let turns = whole.exchanges().into_iter().map(|exchange| exchange.request_start.run).collect::<Vec<_>>();
    let of_one_turn = turns.chunk_by(|one, next| one == next).map(<[u32]>::len).max().unwrap_or_default();
    assert_eq!(holed.begun(), holed.exchanges().len() + holed.lost().len(), "{context}");
    let untold = turns.len() - holed.exchanges().len();
    assert!(untold <= turns_lost * of_one_turn + 1, "{context}: {untold} are not told: {holed:#?}");
}

#[rstest]
fn a_hole_anywhere_makes_nothing_untrue(#[values(1, 9, 100_000)] missing: usize) {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let whole = play(&talk);
        for (what, talk) in talk.gap_everywhere(&[missing]) {
            assert_all_true(&play(&talk), &whole, 1, &format!("{name}: {what}"));
        }
    }
}

/// The event that is lost may have been a request of the turn that follows, too.
#[test]
fn an_event_that_is_lost_makes_nothing_untrue() {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let whole = play(&talk);
        for (what, talk) in talk.loss_everywhere() {
            assert_all_true(&play(&talk), &whole, 2, &format!("{name}: {what}"));
        }
    }
}

#[rstest]
fn adjacent_events_that_are_lost_make_nothing_untrue(#[values(2, 3)] count: usize) {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let whole = play(&talk);
        for (what, talk) in talk.losses_everywhere(count) {
            for exchange in play(&talk).exchanges() {
                assert_true(exchange, &whole, &format!("{name}: {what}"));
            }
        }
    }
}

#[test]
fn events_that_are_lost_at_random_make_nothing_untrue() {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let whole = play(&talk);
        for (what, talk) in talk.losses_at_random(12, 100) {
            for exchange in play(&talk).exchanges() {
                assert_true(exchange, &whole, &format!("{name}: {what}"));
            }
        }
    }
}

#[test]
fn an_answer_two_runs_later_is_to_a_request_that_was_not_seen() {
    let talk = session()
        .request(simple("UPDATE t SET a = 1"))
        .lost(Direction::ToClient, [done("UPDATE 1"), ready()].concat())
        .lost(Direction::ToServer, simple("DELETE FROM u"))
        .response([error("42P01"), ready()].concat());
    let outcome = play(&asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]));
    assert_eq!(lines(&outcome), ["SELECT | SELECT ? | 1 rows"]);
    assert_eq!((outcome.orphans(), outcome.lost()), (1, vec![LossReason::ResponseMissing]));
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
    let counted: Vec<_> = whole.exchanges().into_iter().map(|exchange| query(exchange).rows.map(Rows::count)).collect();
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
fn whatever_is_captured_is_true(#[values(0, 7, 16)] tail: usize) {
    for name in Talk::all_recorded("postgres") {
        let talk = Talk::recorded("postgres", &name);
        let whole = play(&talk);
        for prefix in [0, 1, 5, 16, 64, 200, 1024] {
            let captured = talk.captured(prefix, tail);
            for outcome in [play(&captured), join_late(&captured)] {
                for exchange in outcome.exchanges() {
                    assert_true(exchange, &whole, &format!("{name}: {prefix} and {tail} bytes"));
                }
            }
        }
    }
}
