//! HTTP/2: what is reported when bytes were not captured, when records were lost, and when parsing begins late.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod kit;

use kit::http2::*;
use kit::{Outcome, Talk, assert_same_end};
use onlooker_protocols::{Direction, End, Exchange, Facts, Finding, LossReason, Moment};
use rstest::rstest;

use Direction::{ToClient, ToServer};

/// Three requests in flight at once. Fields are inserted into the dynamic tables, and used again.
fn busy() -> Talk {
    let own = [("x-tenant", "a"), ("user-agent", "test/1")];
    let first = [&[0x83, 0x86, 0x84][..], &inserted(&own)].concat();
    let again = |path| [&[0x82, 0x86, 0xbe, 0xbf][..], &fields(&[(":path", path)])].concat();
    let kind = inserted(&[("content-type", "text/plain"), ("server", "test")]);
    greeting()
        .request([headers(0, 1, first), data(0, 1, "abc"), headers(END_STREAM, 3, again("/b"))].concat())
        .response([headers(0, 3, [status("200"), kind].concat()), data(0, 3, "some")].concat())
        .request([data(END_STREAM, 1, "def"), frame(8, 0, 3, [0, 0, 1, 0])].concat())
        .response([data(END_STREAM, 3, "more"), headers(0, 1, [&status("404")[..], &[0xbe, 0xbf]].concat())].concat())
        .request(headers(END_STREAM, 5, again("/c")))
        .response([headers(END_STREAM, 5, status("204")), data(0, 1, "not"), data(END_STREAM, 1, "here")].concat())
        .request([frame(6, 0, 0, [0; 8]), headers(END_STREAM, 7, again("/d"))].concat())
        .response([frame(6, 1, 0, [0; 8]), headers(END_STREAM, 7, [&[0x88][..], &[0xbe]].concat())].concat())
        .request(headers(END_STREAM, 9, again("/e")))
        .response([headers(0, 9, status("200")), data(END_STREAM, 9, "last")].concat())
}

/// Whatever is reported in spite of holes happened, and ended when it did. Unknown facts are left out.
fn assert_all_true(what: &str, holed: &Outcome, whole: &Outcome) {
    for exchange in holed.exchanges() {
        let is_it = |real: &&Exchange| real.request_start == exchange.request_start;
        let real = whole.exchanges().into_iter().find(is_it);
        let real = real.unwrap_or_else(|| panic!("{what}: never happened: {exchange:#?}"));
        assert!(exchange.request_end.position <= real.request_end.position, "{what}: {exchange:#?}");
        // The next piece of its direction shows that a record was lost. The connection may end before, or the client reset
        // a stream whose end was lost.
        if matches!(exchange.end, End::Complete | End::Unseen) {
            assert_same_end(what, exchange, real);
        }
        let is_hidden = !matches!(exchange.end, End::Complete | End::Unseen) && exchange.response_start.is_none();
        assert!(is_hidden || exchange.response_start == real.response_start, "{what}: {exchange:#?}");
        match (&exchange.facts, &real.facts) {
            (Facts::Http(_), Facts::Http(_)) => {
                let (facts, real) = (http(exchange), http(real));
                let texts = [(&facts.method, &real.method), (&facts.path, &real.path), (&facts.host, &real.host)];
                let more = [(&facts.scheme, &real.scheme), (&facts.user_agent, &real.user_agent)];
                for (text, real) in texts.into_iter().chain(more) {
                    assert!(text.is_empty() || text == real, "{what}: {text} is not {real}");
                }
                assert!(facts.status.is_none() || facts.status == real.status, "{what}: {facts:?}");
                let sizes = [(facts.request_body, real.request_body), (facts.response_body, real.response_body)];
                for (size, real) in sizes {
                    assert!(size.is_none() || size == real, "{what}: {facts:?}");
                }
            }
            (Facts::Rpc(_), Facts::Rpc(_)) => {
                let (facts, real) = (rpc(exchange), rpc(real));
                assert!(facts.method.is_empty() || facts.method == real.method, "{what}: {facts:?}");
                assert!(facts.status.is_none() || facts.status == real.status, "{what}: {facts:?}");
                let counts = [
                    (facts.request_messages, real.request_messages),
                    (facts.response_messages, real.response_messages),
                ];
                for (count, real) in counts {
                    assert!(count.is_none() || count == real, "{what}: {facts:?}");
                }
            }
            // A call of which too little is known is a request of HTTP.
            (Facts::Http(_), Facts::Rpc(_)) => {}
            (facts, real) => panic!("{what}: {facts:?} is not {real:?}"),
        }
    }
}

#[test]
fn the_busy_conversation_is_reported() {
    assert_eq!(
        lines(&play(&busy())),
        [
            "GET /b | 200 | 0 > 8",
            "GET /c | 204 | 0 > 0",
            "POST / | 404 | 6 > 7",
            "GET /d | 200 | 0 > 0",
            "GET /e | 200 | 0 > 4"
        ]
    );
}

#[rstest]
#[case::one_byte(1)]
#[case::a_header(9)]
#[case::several_frames(30)]
#[case::to_the_end_of_the_piece(1000)]
fn one_hole_makes_nothing_untrue(#[case] missing: usize) {
    let whole = play(&busy());
    let mut reported = 0;
    for (what, talk) in busy().gap_everywhere(&[missing]) {
        let holed = play(&talk);
        assert_eq!(holed.unparsable, None, "{what}");
        assert_all_true(&what, &holed, &whole);
        reported += holed.exchanges().len();
    }
    assert!(reported > busy().len(), "{reported} exchanges in {} plays", busy().len());
}

#[test]
fn lost_records_make_nothing_untrue() {
    let whole = play(&busy());
    for count in 1..=3 {
        for (what, talk) in busy().losses_everywhere(count) {
            let holed = play(&talk);
            assert_all_true(&what, &holed, &whole);
            assert_eq!(holed.unparsable, None, "{what}");
        }
    }
}

#[test]
fn recorded_conversations_stay_true_with_lost_records_and_late_starts() {
    for name in Talk::all_recorded("http2") {
        let talk = Talk::recorded("http2", &name);
        let whole = play(&talk);
        for (what, talk) in
            talk.losses_everywhere(1).chain(talk.losses_everywhere(2)).chain(talk.losses_at_random(4, 40))
        {
            assert_all_true(&format!("{name}, {what}"), &play(&talk), &whole);
        }
        for steps in 1..30 {
            let (late, skipped) = talk.without_first(steps);
            let outcome = shifted(join_late(&late), skipped);
            assert_eq!(outcome.unparsable, None, "{name} from step {steps}");
            assert_all_true(&format!("{name} from step {steps}"), &outcome, &shifted(whole.clone(), [0; 2]));
        }
    }
}

/// The outcome at the positions that it has in the whole conversation. Runs are not compared.
fn shifted(mut outcome: Outcome, skipped: [u64; 2]) -> Outcome {
    let moved = |at: &mut Moment, skipped: u64| (at.position, at.run) = (at.position + skipped, 0);
    for finding in &mut outcome.findings {
        let Finding::Exchange(exchange) = finding else { continue };
        let Exchange { request_start, request_end, response_start, response_end, end, .. } = &mut **exchange;
        [request_start, request_end].into_iter().for_each(|at| moved(at, skipped[0]));
        [response_start, response_end].into_iter().flatten().for_each(|at| moved(at, skipped[1]));
        if let End::Closed(_, at) | End::Reset(_, at) = end {
            *at = Moment { nanos: at.nanos, ..Moment::default() };
        }
    }
    outcome
}

/// The kernel steps over payloads of DATA. Everything is reported as if they had been captured.
#[test]
fn payloads_of_data_can_be_holes() {
    let answer = |stream| [headers(0, stream, status("200")), frame(0, 0, stream, vec![b'x'; 500])].concat();
    let with = |talk: Talk, gap: bool| {
        let talk = talk
            .request([headers(0, 1, [0x83, 0x86, 0x84]), frame(0, END_STREAM, 1, vec![0; 300])[..9].to_vec()].concat());
        let talk = if gap { talk.gap(ToServer, 300) } else { talk.request(vec![0; 300]) };
        let talk = talk.response(&answer(1)[..answer(1).len() - 500]);
        let talk = if gap { talk.gap(ToClient, 500) } else { talk.response(vec![b'x'; 500]) };
        talk.response(data(END_STREAM, 1, "end")).request(headers(END_STREAM, 3, get("/next")))
    };
    let [whole, holed] = [false, true].map(|gap| play(&with(greeting(), gap)));
    assert_eq!(lines(&holed), lines(&whole));
    assert_eq!(lines(&holed)[0], "POST / | 200 | 300 > 503");
    assert_all_true("holes", &holed, &whole);
}

#[test]
fn it_is_known_whether_a_frame_begins_next() {
    let mut stepwise = Stepwise::new(true);
    let begins = |stepwise: &Stepwise| stepwise.parser.begins_frame(ToServer);
    assert!(begins(&stepwise));
    stepwise.bytes(ToServer, &[PREFACE, &settings(&[]), &headers(END_STREAM, 1, get("/"))].concat());
    assert!(begins(&stepwise));
    stepwise.bytes_then_hole(ToServer, &frame(0, 0, 1, vec![0; 50])[..20], 39);
    assert!(begins(&stepwise), "the hole is the rest of a payload");
    stepwise.bytes(ToServer, &frame(0, 0, 1, vec![0; 50])[..20]);
    assert!(!begins(&stepwise));
    stepwise.bytes_then_hole(ToServer, &[0; 9], 40);
    assert!(!begins(&stepwise), "the hole hides a boundary");
    assert!(!begins(&Stepwise::new(false)));
}

#[test]
fn messages_of_a_call_are_counted_by_their_prefixes() {
    let prefix = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
    let mut header = frame(0, 0, 1, vec![0; 105])[..9].to_vec();
    header.extend(prefix(100));
    let talk = greeting()
        .request([headers(0, 1, call("/shop.Cart/Chat", &[])), header.clone()].concat())
        .gap(ToServer, 100)
        .request(data(END_STREAM, 1, ""))
        .response([headers(0, 1, status("200")), header].concat())
        .gap(ToClient, 100)
        .response(headers(END_STREAM, 1, fields(&[("grpc-status", "0")])));
    assert_eq!(lines(&play(&talk)), ["grpc shop.Cart/Chat | OK | 1 > 1"]);
}

#[test]
fn the_end_of_an_operation_may_be_a_hole() {
    let mut stepwise = Stepwise::new(true);
    stepwise.bytes(ToServer, &[PREFACE, &settings(&[]), &headers(END_STREAM, 1, get("/"))].concat());
    stepwise.bytes(ToClient, &[settings(&[]), headers(0, 1, status("200"))].concat());
    let body = frame(0, END_STREAM, 1, vec![0; 50]);
    stepwise.bytes_then_hole(ToClient, &body[..9], 50);
    assert_eq!(stepwise.parser.open(), 1, "the next piece may show that a record was lost");
    stepwise.parser.pass_time(u64::MAX, &mut stepwise.found);
    let Some(Finding::Exchange(exchange)) = stepwise.found.last() else { panic!("{:?}", stepwise.found) };
    assert_eq!(line(exchange), "GET / | 200 | 0 > 50");
}

#[test]
fn hidden_responses_lose_what_is_open_and_nothing_later() {
    let talk = greeting()
        .request([headers(END_STREAM, 1, get("/a")), headers(END_STREAM, 3, get("/b"))].concat())
        .gap(ToClient, 12)
        .request(headers(END_STREAM, 5, get("/c")))
        .response([headers(0, 5, status("200")), data(0, 1, "rest"), data(END_STREAM, 5, "c")].concat());
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
    assert_eq!((lines(&outcome), outcome.orphans()), (vec!["GET /c | 200 | 0 > 1".to_owned()], 0));
    assert!(outcome.findings.contains(&Finding::CaptureMore(ToClient)));
}

#[test]
fn what_is_no_frame_does_not_end_a_hole() {
    let odd = [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 30]].concat();
    let talk = greeting()
        .request(headers(END_STREAM, 1, get("/a")))
        .gap(ToServer, 40)
        .request(odd)
        .request([headers(END_STREAM, 9, get("/b")), headers(END_STREAM, 11, get("/c"))].concat())
        .response([headers(END_STREAM, 1, status("200")), headers(END_STREAM, 9, status("201"))].concat());
    let outcome = play(&talk);
    let reported = ["GET /a | 200 | 0 > 0", "GET /b | 201 | 0 > 0", "GET /c | ? | 0 > ? | Normal"];
    assert_eq!((lines(&outcome), outcome.unparsable), (reported.map(str::to_owned).to_vec(), None));
}

/// One header may be in any bytes. The request that it seemed to begin is taken back when the next is none.
#[test]
fn a_frame_that_nothing_follows_is_taken_back() {
    let talk = greeting().gap(ToServer, 40).request([headers(END_STREAM, 1, get("/a")), vec![0xff; 40]].concat());
    let talk = talk.response(headers(END_STREAM, 1, status("200")));
    let outcome = play(&talk);
    assert_eq!((outcome.lost(), outcome.exchanges().len()), (vec![LossReason::RequestHeadMissing], 0));
}

#[test]
fn what_begins_after_a_late_start_is_reported() {
    let mut stepwise = Stepwise::new(false);
    // Stream 1 is open. Its fields, and those of stream 101, refer to what passed before.
    stepwise.bytes(ToClient, &[data(0, 1, "old"), headers(END_STREAM, 1, [0xbe])].concat());
    stepwise.bytes(ToServer, &headers(END_STREAM, 101, [0x82, 0x86, 0xbe, 0xc0]));
    stepwise.bytes(ToClient, &[headers(0, 101, [0x88, 0xbf]), data(END_STREAM, 101, "new")].concat());
    stepwise.bytes(ToServer, &headers(END_STREAM, 103, [&get("/known")[..], &[0xc1]].concat()));
    stepwise.bytes(ToClient, &headers(END_STREAM, 103, status("204")));
    let exchanges = stepwise.found.iter().filter_map(|finding| match finding {
        Finding::Exchange(exchange) => Some(line(exchange)),
        _ => None,
    });
    assert_eq!(exchanges.collect::<Vec<_>>(), ["GET ? | 200 | 0 > 3", "GET /known | 204 | 0 > 0"]);
}
