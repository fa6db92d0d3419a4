//! Redis with holes: whatever is reported is true, and everything else is counted.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod kit;

use kit::redis::*;
use kit::{Outcome, Talk};
use onlooker_protocols::Direction::{ToClient, ToServer};
use onlooker_protocols::LossReason;
use onlooker_protocols::facts::Namespace;
use rstest::rstest;

#[rstest]
#[case::string(bulk(&"x".repeat(5000)))]
#[case::verbatim_string(format!("=5004\r\ntxt:{}\r\n", "x".repeat(5000)))]
#[case::array_of_one(array(&[&bulk(&"x".repeat(5000))]))]
#[case::array(array(&[bulk("x").as_str(); 2000]))]
fn a_long_reply_is_reported(#[case] reply: String) {
    let talk = Talk::new().request(ask("GET a")).response(&reply).request(ask("INCR b")).response(":1\r\n");
    for prefix in [16, 17, 64, 1024] {
        let outcome = play(&talk.captured(prefix, 16));
        assert_eq!(outcome, play(&talk));
    }
}

#[test]
fn a_value_that_ends_with_a_hole_is_reported() {
    let reply = bulk(&"x".repeat(100));
    let missing = reply.len() as u64 - 10;
    let talk = Talk::new().request(ask("GET a")).response(&reply[..10]).gap(ToClient, missing);
    let talk = talk.request(ask("INCR b")).response(":1\r\n");
    assert_eq!(lines(&play(&talk)), ["GET ?", "INCR ?"]);
}

/// Splice out of a socket looks like a lost record: only positions show it.
#[test]
fn a_value_that_passed_unseen_ends_at_its_length() {
    let reply = bulk(&"x".repeat(100));
    let begin = Talk::new().request(ask("GET a")).response(&reply[..10]).lost(ToClient, &reply[10..]);
    let goes_on = begin.clone().request(ask("INCR b")).response(":1\r\n");
    assert_eq!(lines(&play(&goes_on)), ["GET ? | unseen", "INCR ?"]);
    for talk in [goes_on, begin.clone(), begin.end(ToClient)] {
        let outcome = play(&talk);
        let exchange = outcome.exchanges()[0];
        assert_eq!(lines(&outcome)[0], "GET ? | unseen");
        let [Some(start), Some(end)] = [exchange.response_start, exchange.response_end] else { panic!("{outcome:?}") };
        assert_eq!((end.position, end.nanos), (reply.len() as u64, start.nanos));
    }
}

#[test]
fn a_long_request_is_reported() {
    let set = ask(&format!("SET a {}", "x".repeat(20_000)));
    let mset = ask(&format!("MSET {}", vec!["x"; 20_000].join(" ")));
    let talk = Talk::new().request(set).response("+OK\r\n").request(mset).response("-OOM no\r\n");
    let talk = talk.request(ask("GET a")).response("$1\r\n1\r\n");
    let outcome = play(&talk.captured(64, 16));
    // Behind the captured part a SELECT may have passed, so that the database is unknown.
    assert_eq!(lines(&outcome), ["SET ? ?", "MSET ? ? ? ? ? ? ? ? ... | @? | OOM", "GET ? | @?"]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![]));
}

#[test]
fn the_beginning_of_a_long_pipeline_is_reported() {
    let talk = Talk::new()
        .request(asks(&["GET a"; 100]))
        .response("$1\r\n1\r\n".repeat(100))
        .request(ask("INCR a"))
        .response(":1\r\n");
    let outcome = play(&talk.captured(50, 16));
    assert_eq!(lines(&outcome).last().unwrap(), "INCR ? | @?");
    // Two were captured, and the name of a third.
    assert_eq!(outcome.begun(), 4);
    assert_eq!(outcome.exchanges().len() + outcome.lost().len(), 4);
}

#[test]
fn a_request_without_its_name_is_counted() {
    let talk = Talk::new().request("*2\r\n$3").gap(ToServer, 20).response("+OK\r\n");
    let talk = talk.request(ask("GET a")).response("_\r\n");
    let outcome = play(&talk);
    assert_eq!(
        (lines(&outcome), outcome.lost()),
        (vec!["GET ? | @?".to_owned()], vec![LossReason::RequestHeadMissing])
    );
    assert_eq!(outcome.orphans(), 0);
}

#[test]
fn a_client_that_does_not_wait_is_not_trusted_after_a_loss() {
    let talk = Talk::new()
        .request(ask("GET a"))
        .response("$1\r")
        .request(ask("GET b"))
        .response("\n1\r\n$1\r\n2\r\n")
        .request(ask("GET c"))
        .response("$")
        .request(ask("GET d"))
        .response("1\r\n1\r\n")
        .request(ask("GET e"))
        .gap(ToClient, 7)
        .request(ask("GET f"))
        .response("$1\r\n1\r\n")
        .response("$1\r\n1\r\n");
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["GET ?", "GET ?", "GET ?"]);
    assert_eq!(outcome.begun(), 6);
}

#[rstest]
#[case::between_values("", &["GET ? | @?", "INCR ? | @?"], 0)]
#[case::amid_a_value("secret\r\n*1\r\n$4\r\nPING\r\n", &["GET ? | @?", "INCR ? | @?"], 1)]
#[case::amid_a_request("lue\r\n*1\r\n$4\r\nPING\r\n", &["GET ? | @?", "INCR ? | @?"], 1)]
fn an_agent_that_comes_late_reports_later_requests(
    #[case] before: &str,
    #[case] reported: &[&str],
    #[case] orphans: usize,
) {
    let talk = if before.is_empty() { Talk::new() } else { Talk::new().request(before).response("+OK\r\n") };
    let talk = talk.request(ask("GET a")).response("$1\r\n1\r\n").request(ask("INCR a")).response(":2\r\n");
    let outcome = join_late(&talk);
    assert_eq!(
        (lines(&outcome), outcome.orphans(), outcome.lost()),
        (reported.iter().map(ToString::to_string).collect(), orphans, vec![])
    );
}

#[test]
fn an_agent_that_comes_late_accepts_a_reply_recorded_before_its_request_if_no_other_is_open() {
    let get = || Talk::new().request(ask("GET a")).response("_\r\n");
    let talk = get().request(ask("INCR a")).overtaking_response("-ERR no\r\n").request(ask("GET a")).response("_\r\n");
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["GET ? | @?", "INCR ? | @? | ERR", "GET ? | @?"]);
    // Which of the two it answers is unknown. Nothing is reported until the connection was quiet.
    let asked = asks(&["INCR a", "LPOP a"]);
    let talk = get().request(asked).overtaking_response("-ERR no\r\n").request(ask("GET a")).response("_\r\n");
    let outcome = join_late(&talk);
    assert_eq!((lines(&outcome).len(), outcome.orphans()), (1, 0));
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 3]);
}

/// Two clients that share a connection. Each sends before the other has its reply, so that only the order matches replies
/// with requests, and an agent that comes late does not know where the order begins. It lasts until the time that replies
/// take is known.
fn shared(unanswered: &str) -> Talk {
    let mut talk = Talk::new().request(ask(unanswered));
    for _ in 0..40 {
        talk =
            talk.request(ask("GET a")).response("$1\r\n1\r\n").request(ask("GET b")).response("$1\r\n2\r\n$1\r\n3\r\n");
        talk = talk.request(ask("GET c"));
    }
    talk
}

#[test]
fn an_agent_that_comes_late_to_a_shared_connection_reports_after_a_proven_silence() {
    let answered = |mut talk: Talk, times: usize| {
        for _ in 0..times {
            talk = talk.request(ask("INCR n")).response(":1\r\n").pauses(1);
        }
        talk
    };
    // Everything is answered, and nothing passes for longer than replies take. The next pairs are on trial.
    let quiet = shared("GET a").response("$1\r\n1\r\n").pauses(8);
    let outcome = join_late(&answered(quiet.clone(), 20));
    let reported: Vec<_> = lines(&outcome).into_iter().filter(|line| line.starts_with("INCR")).collect();
    assert!((3..=5).contains(&reported.len()), "{reported:?}");
    // A reply comes late: the silence was not one.
    let late = shared("LPOP slow").pauses(8).request(ask("INCR n")).response("$1\r\nx\r\n:1\r\n");
    let outcome = join_late(&answered(late, 20));
    assert!(!lines(&outcome).iter().any(|line| line.starts_with("INCR")), "{:?}", lines(&outcome));
}

#[test]
fn an_agent_that_comes_within_a_reply_reports_an_orphan() {
    let talk = Talk::new().response("lue\r\n$3\r\nabc\r\n").request(ask("SELECT 5")).response("+OK\r\n");
    let talk = talk.request(ask("GET a")).response("_\r\n");
    let outcome = join_late(&talk);
    assert_eq!((lines(&outcome), outcome.orphans()), (vec!["SELECT ? | @5".to_owned(), "GET ? | @5".to_owned()], 1));
}

/// Asserts that every fact of a conversation with holes is true or unknown.
fn assert_true(what: &str, holed: &Outcome, truth: &Outcome) {
    assert_eq!(holed.unparsable, None, "{what}");
    for reported in holed.exchanges() {
        let real = truth.exchanges().into_iter().find(|real| real.request_start == reported.request_start);
        let real = real.unwrap_or_else(|| panic!("{what}: no such request: {reported:#?}"));
        let (said, meant) = (command(reported), command(real));
        assert!(meant.operation.starts_with(said.operation.as_str()), "{what}: {reported:?}\n{real:?}");
        assert!(
            said.namespace == Namespace::default() || said.namespace == meant.namespace,
            "{what}: {reported:?}\n{real:?}"
        );
        assert_eq!((&said.status, said.failed), (&meant.status, meant.failed), "{what}: {reported:?}\n{real:?}");
        assert!(reported.request_end.position <= real.request_end.position, "{what}: {reported:?}\n{real:?}");
        assert_eq!(reported.response_start, real.response_start, "{what}: {reported:?}\n{real:?}");
        kit::assert_same_end(what, reported, real);
    }
}

/// The number of commands that a hole may cost: those of one run. Within a pipeline nothing shows which reply belongs to
/// which command. A subscriber's confirmation may belong to any of its commands. Once framing is lost, an inline command
/// looks like any other text.
const COSTS: [(&str, usize); 14] = [
    ("benchmark_lrange", 5),
    ("benchmark_pipeline", 5),
    ("inline", 5),
    ("pipeline", 16),
    ("pubsub", 3),
    ("python_resp2", 1),
    ("python_resp2_pipeline", 5),
    ("python_resp2_pubsub", 4),
    ("python_resp3", 1),
    ("python_resp3_pipeline", 5),
    ("python_resp3_pubsub", 4),
    ("redis_cli", 1),
    ("resp2", 1),
    ("resp3", 2),
];

#[rstest]
fn with_any_hole_every_report_is_true_and_at_most_one_run_is_lost(#[values(1, 9, 1000)] missing: usize) {
    assert_eq!(COSTS.map(|(name, _)| name.to_owned()).to_vec(), Talk::all_recorded("redis"));
    for (name, cost) in COSTS {
        let talk = Talk::recorded("redis", name);
        let truth = play(&talk);
        for (what, talk) in talk.gap_everywhere(&[missing]) {
            let what = format!("{name}: {what}");
            let holed = play(&talk);
            assert_true(&what, &holed, &truth);
            assert_eq!(holed.begun(), holed.exchanges().len() + holed.lost().len(), "{what}");
            let unreported = truth.exchanges().len() - holed.exchanges().len();
            assert!(unreported <= cost, "{what}: {unreported} are not reported: {holed:#?}");
        }
    }
}

#[rstest]
fn adjacent_events_that_are_lost_make_nothing_untrue(#[values(2, 3, 4, 5)] count: usize) {
    for name in Talk::all_recorded("redis") {
        let talk = Talk::recorded("redis", &name);
        let truth = play(&talk);
        for (what, talk) in talk.losses_everywhere(count) {
            assert_true(&format!("{name}: {what}"), &play(&talk), &truth);
        }
    }
}

#[test]
fn events_that_are_lost_at_random_make_nothing_untrue() {
    for name in Talk::all_recorded("redis") {
        let talk = Talk::recorded("redis", &name);
        let truth = play(&talk);
        for (what, talk) in talk.losses_at_random(12, 100).chain(talk.losses_at_random(4, 100)) {
            assert_true(&format!("{name}: {what}"), &play(&talk), &truth);
        }
    }
}

#[test]
fn a_reply_two_runs_later_answers_a_request_that_was_not_seen() {
    let talk = Talk::new()
        .request(ask("GET a"))
        .response("_\r\n")
        .request(ask("INCR a"))
        .lost(ToClient, ":1\r\n")
        .lost(ToServer, ask("LPOP a"))
        .lost(ToClient, "-WRONGTYPE no\r\n")
        .lost(ToServer, ask("RPOP a"))
        .response("-WRONGTYPE no\r\n")
        .request(ask("GET a"))
        .response("$1\r\n1\r\n");
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["GET ?", "GET ? | @?"]);
}

#[test]
fn a_lost_request_may_share_a_run_with_the_next() {
    let talk = Talk::new()
        .request(ask("GET a"))
        .response("+OK\r\n")
        .request(ask("GET b"))
        .request(ask("INCR b"))
        .request(ask("LPOP b"))
        .response("-ONE no\r\n")
        .response("-TWO no\r\n-THREE no\r\n")
        .request(ask("GET c"))
        .request(ask("INCR c"))
        .response("-FOUR no\r\n-FIVE no\r\n")
        .request(ask("GET d"))
        .response("-SIX no\r\n");
    let truth = play(&talk);
    assert_eq!(truth.exchanges().len(), 7);
    for (what, talk) in talk.loss_everywhere() {
        let holed = play(&talk);
        assert_true(&what, &holed, &truth);
        assert!(holed.exchanges().len() >= 2, "{what}: {holed:#?}");
    }
}

#[test]
fn with_a_hole_beside_a_reply_recorded_before_its_request_every_report_is_true() {
    let talk = Talk::new()
        .request(ask("GET a"))
        .response(bulk("12"))
        .request(ask("INCR a"))
        .overtaking_response("-ERR no\r\n")
        .request(asks(&["LPOP a", "RPOP a"]))
        .overtaking_response("-WRONGTYPE no\r\n")
        .response("+OK\r\n")
        .request(ask("GET b"))
        .response(bulk("345"));
    let truth = play(&talk);
    assert_eq!(truth.exchanges().len(), 5);
    for (what, talk) in talk.gap_everywhere(&[1, 4, 9, 40]) {
        assert_true(&what, &play(&talk), &truth);
    }
    for (what, talk) in talk.loss_everywhere() {
        assert_true(&what, &play(&talk), &truth);
    }
}

#[test]
fn a_lost_record_costs_two_requests_at_most() {
    let talk = Talk::recorded("redis", "python_resp2");
    let reported = play(&talk).exchanges().len();
    for (what, talk) in talk.loss_everywhere() {
        let outcome = play(&talk);
        assert!(outcome.exchanges().len() + 2 >= reported, "{what}: {outcome:#?}");
    }
}

#[test]
fn with_any_capture_every_report_is_true() {
    for name in Talk::all_recorded("redis") {
        let talk = Talk::recorded("redis", &name);
        let truth = play(&talk);
        for prefix in [0, 1, 5, 16, 64, 200, 1024] {
            for tail in [0, 7, 16] {
                let captured = talk.captured(prefix, tail);
                for (when, outcome) in [("from its start", play(&captured)), ("from the middle", join_late(&captured))]
                {
                    assert_true(&format!("{name} {when}: {prefix} and {tail} bytes"), &outcome, &truth);
                }
            }
        }
        for (what, talk) in talk.loss_everywhere() {
            assert_true(&format!("{name}: {what}"), &play(&talk), &truth);
        }
    }
}
