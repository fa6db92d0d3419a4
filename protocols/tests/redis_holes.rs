//! Redis of which not all was captured: what is told is the truth, and what is not told is counted.

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
fn a_long_reply_is_told(#[case] reply: String) {
    let talk = Talk::new().request(ask("GET a")).response(&reply).request(ask("INCR b")).response(":1\r\n");
    for prefix in [16, 17, 64, 1024] {
        let outcome = play(&talk.captured(prefix, 16));
        assert_eq!(outcome, play(&talk));
    }
}

#[test]
fn a_value_that_ends_with_a_hole_is_told() {
    let reply = bulk(&"x".repeat(100));
    let missing = reply.len() as u64 - 10;
    let talk = Talk::new().request(ask("GET a")).response(&reply[..10]).gap(ToClient, missing);
    let talk = talk.request(ask("INCR b")).response(":1\r\n");
    assert_eq!(lines(&play(&talk)), ["GET ?", "INCR ?"]);
}

#[test]
fn a_value_whose_end_is_in_a_lost_event_is_counted() {
    let reply = bulk(&"x".repeat(100));
    let talk = Talk::new().request(ask("GET a")).response(&reply[..10]).lost(ToClient, &reply[10..]);
    let talk = talk.request(ask("INCR b")).response(":1\r\n");
    let outcome = play(&talk);
    assert_eq!((lines(&outcome), outcome.lost()), (vec!["INCR ?".to_owned()], vec![LossReason::ResponseMissing]));
}

#[test]
fn a_long_request_is_told() {
    let set = ask(&format!("SET a {}", "x".repeat(20_000)));
    let mset = ask(&format!("MSET {}", vec!["x"; 20_000].join(" ")));
    let talk = Talk::new().request(set).response("+OK\r\n").request(mset).response("-OOM no\r\n");
    let talk = talk.request(ask("GET a")).response("$1\r\n1\r\n");
    let outcome = play(&talk.captured(64, 16));
    // What was SELECTed behind the beginning of the long one is not known.
    assert_eq!(lines(&outcome), ["SET ? ?", "MSET ? ? ? ? ? ? ? ? ... | @? | OOM", "GET ? | @?"]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![]));
}

#[test]
fn of_a_long_pipeline_the_beginning_is_told() {
    let talk = Talk::new()
        .request(asks(&["GET a"; 100]))
        .response("$1\r\n1\r\n".repeat(100))
        .request(ask("INCR a"))
        .response(":1\r\n");
    let outcome = play(&talk.captured(50, 16));
    assert_eq!(lines(&outcome).last().unwrap(), "INCR ? | @?");
    // Two were seen whole, and of a third the name.
    assert_eq!(outcome.begun(), 4);
    assert_eq!(outcome.exchanges().len() + outcome.lost().len(), 4);
}

#[test]
fn of_a_request_without_its_name_the_loss_is_counted() {
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
fn joining_late_tells_what_begins_after(#[case] before: &str, #[case] told: &[&str], #[case] orphans: usize) {
    let talk = if before.is_empty() { Talk::new() } else { Talk::new().request(before).response("+OK\r\n") };
    let talk = talk.request(ask("GET a")).response("$1\r\n1\r\n").request(ask("INCR a")).response(":2\r\n");
    let outcome = join_late(&talk);
    assert_eq!(
        (lines(&outcome), outcome.orphans(), outcome.lost()),
        (told.iter().map(ToString::to_string).collect(), orphans, vec![])
    );
}

#[test]
fn joining_late_a_reply_that_was_recorded_before_its_request_answers_it_if_no_other_is_open() {
    let get = || Talk::new().request(ask("GET a")).response("_\r\n");
    let talk = get().request(ask("INCR a")).overtaking_response("-ERR no\r\n").request(ask("GET a")).response("_\r\n");
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["GET ? | @?", "INCR ? | @? | ERR", "GET ? | @?"]);
    // Which of two it answers isn't known: nothing is told until all has been quiet.
    let asked = asks(&["INCR a", "LPOP a"]);
    let talk = get().request(asked).overtaking_response("-ERR no\r\n").request(ask("GET a")).response("_\r\n");
    let outcome = join_late(&talk);
    assert_eq!((lines(&outcome).len(), outcome.orphans()), (1, 0));
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 3]);
}

/// Two that share a connection: one asks before the other is answered, so that nothing but their order pairs replies with
/// requests, and an agent that comes late does not know whose is the first. It goes on so until it shows how quickly answers come.
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
fn joining_late_a_shared_connection_it_is_told_again_when_it_was_quiet_and_proved_to_be() {
    let answered = |mut talk: Talk, times: usize| {
        for _ in 0..times {
            talk = talk.request(ask("INCR n")).response(":1\r\n").pauses(1);
        }
        talk
    };
    // All is answered, and nothing passes for longer than answers take; what is paired then is on trial first.
    let quiet = shared("GET a").response("$1\r\n1\r\n").pauses(8);
    let outcome = join_late(&answered(quiet.clone(), 20));
    let told: Vec<_> = lines(&outcome).into_iter().filter(|line| line.starts_with("INCR")).collect();
    assert!((3..=5).contains(&told.len()), "{told:?}");
    // A reply comes late: it was not as quiet as it seemed.
    let late = shared("LPOP slow").pauses(8).request(ask("INCR n")).response("$1\r\nx\r\n:1\r\n");
    let outcome = join_late(&answered(late, 20));
    assert!(!lines(&outcome).iter().any(|line| line.starts_with("INCR")), "{:?}", lines(&outcome));
}

#[test]
fn joining_late_amid_a_reply_tells_an_orphan() {
    let talk = Talk::new().response("lue\r\n$3\r\nabc\r\n").request(ask("SELECT 5")).response("+OK\r\n");
    let talk = talk.request(ask("GET a")).response("_\r\n");
    let outcome = join_late(&talk);
    assert_eq!((lines(&outcome), outcome.orphans()), (vec!["SELECT ? | @5".to_owned(), "GET ? | @5".to_owned()], 1));
}

/// Whether what is told of a talk of which something is missing is true: the same, or said to be unknown.
fn assert_true(what: &str, holed: &Outcome, truth: &Outcome) {
    assert_eq!(holed.unparsable, None, "{what}");
    for told in holed.exchanges() {
        let real = truth.exchanges().into_iter().find(|real| real.request_start == told.request_start);
        let real = real.unwrap_or_else(|| panic!("{what}: nobody asked {told:#?}"));
        let (said, meant) = (command(told), command(real));
        assert!(meant.operation.starts_with(said.operation.as_str()), "{what}: {told:?}\n{real:?}");
        assert!(
            said.namespace == Namespace::default() || said.namespace == meant.namespace,
            "{what}: {told:?}\n{real:?}"
        );
        assert_eq!((&said.status, said.failed), (&meant.status, meant.failed), "{what}: {told:?}\n{real:?}");
        assert!(told.request_end.position <= real.request_end.position, "{what}: {told:?}\n{real:?}");
        assert_eq!((told.response_start, told.end), (real.response_start, real.end), "{what}: {told:?}\n{real:?}");
        assert_eq!(told.response_end, real.response_end, "{what}: {told:?}\n{real:?}");
    }
}

/// How many commands a hole may cost: those that were asked in one turn. In a pipeline, nothing says which of the replies
/// belongs to which; a subscriber's confirmations may be of any of its commands; and inline commands can't be told from
/// anything else, once the thread is lost.
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
fn a_hole_anywhere_makes_nothing_untrue_and_costs_no_more_than_a_turn(#[values(1, 9, 1000)] missing: usize) {
    assert_eq!(COSTS.map(|(name, _)| name.to_owned()).to_vec(), Talk::all_recorded("redis"));
    for (name, cost) in COSTS {
        let talk = Talk::recorded("redis", name);
        let truth = play(&talk);
        for (what, talk) in talk.gap_everywhere(&[missing]) {
            let what = format!("{name}: {what}");
            let holed = play(&talk);
            assert_true(&what, &holed, &truth);
            assert_eq!(holed.begun(), holed.exchanges().len() + holed.lost().len(), "{what}");
            let untold = truth.exchanges().len() - holed.exchanges().len();
            assert!(untold <= cost, "{what}: {untold} are not told: {holed:#?}");
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
fn a_lost_request_may_be_of_the_same_run_as_the_one_behind_it() {
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
fn a_hole_beside_a_reply_that_was_recorded_before_its_request_makes_nothing_untrue() {
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
fn an_event_that_is_lost_costs_two_requests_at_most() {
    let talk = Talk::recorded("redis", "python_resp2");
    let told = play(&talk).exchanges().len();
    for (what, talk) in talk.loss_everywhere() {
        let outcome = play(&talk);
        assert!(outcome.exchanges().len() + 2 >= told, "{what}: {outcome:#?}");
    }
}

#[test]
fn whatever_is_captured_is_true() {
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
