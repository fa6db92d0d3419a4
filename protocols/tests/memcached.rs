//! memcached, as its protocol documents and real clients define it.

mod chance;
mod kit;

use kit::Talk;
use kit::memcached::*;
use onlooker_protocols::{Close, End, Exchange, LossReason};
use proptest::prelude::*;
use rstest::rstest;

use onlooker_protocols::Direction::{ToClient, ToServer};

#[rstest]
#[case::set("set k 0 0 3\r\nabc\r\n", "STORED\r\n", "set")]
#[case::set_empty("set k 0 0 0\r\n\r\n", "STORED\r\n", "set")]
#[case::expired_at_once("set k 0 -1 3\r\nabc\r\n", "STORED\r\n", "set")]
#[case::cas("cas k 0 0 3 17\r\nabc\r\n", "EXISTS\r\n", "cas")]
#[case::not_stored("add k 0 0 3\r\nabc\r\n", "NOT_STORED\r\n", "add")]
#[case::data_like_a_command("append k 0 0 9\r\nget k\r\nEN\r\n", "STORED\r\n", "append")]
#[case::too_large("set k 0 0 3\r\nabc\r\n", "SERVER_ERROR object too large for cache\r\n", "set | SERVER_ERROR")]
#[case::get("get k\r\n", "VALUE k 0 3\r\nabc\r\nEND\r\n", "get")]
#[case::get_nothing("get k\r\n", "END\r\n", "get")]
#[case::get_several("get a b c\r\n", "VALUE a 0 1\r\nx\r\nVALUE c 0 5\r\nEND\r\n\r\nEND\r\n", "get | 3 keys")]
#[case::gets("gets k\r\n", "VALUE k 0 3 17\r\nabc\r\nEND\r\n", "gets")]
#[case::gat("gat 100 a b\r\n", "END\r\n", "gat | 2 keys")]
#[case::delete("delete k\r\n", "DELETED\r\n", "delete")]
#[case::delete_nothing("delete k\r\n", "NOT_FOUND\r\n", "delete")]
#[case::incr("incr k 5\r\n", "12\r\n", "incr")]
#[case::incr_text("incr k 5\r\n", "CLIENT_ERROR cannot increment\r\n", "incr | CLIENT_ERROR")]
#[case::touch("touch k 0\r\n", "TOUCHED\r\n", "touch")]
#[case::statistics("stats\r\n", "STAT pid 1\r\nSTAT uptime 2\r\nEND\r\n", "stats")]
#[case::reset_of_statistics("stats reset\r\n", "RESET\r\n", "stats")]
#[case::version("version\r\n", "VERSION 1.6.18\r\n", "version")]
#[case::flush("flush_all 10\r\n", "OK\r\n", "flush_all")]
#[case::meta_get("mg k v t\r\n", "VA 3 t-1\r\nabc\r\n", "mg")]
#[case::meta_get_nothing("mg k v\r\n", "EN\r\n", "mg")]
#[case::meta_get_flags_only("mg k t\r\n", "HD t-1\r\n", "mg")]
#[case::meta_set("ms k 3 T0\r\nabc\r\n", "HD\r\n", "ms")]
#[case::meta_debug("me k\r\n", "ME k exp=-1\r\n", "me")]
#[case::meta_noop("mn\r\n", "MN\r\n", "mn")]
#[case::bare_line_feed("get k\n", "END\r\n", "get")]
#[case::unknown("sesame secret\r\n", "ERROR\r\n", "? | ERROR")]
fn a_text_exchange_ends_where_the_specification_says(
    #[case] request: &str,
    #[case] response: &str,
    #[case] expected: &str,
) {
    let talk = Talk::new().request(request).response(response).request("mn\r\n").response("MN\r\n");
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), [expected, "mn"]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![]));
    let first = outcome.exchanges()[0];
    assert_eq!(first.request_end.position, request.len() as u64);
    assert_eq!(first.response_end.unwrap().position, response.len() as u64);
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[rstest]
#[case::get(0x00, &[], 0, "get")]
#[case::key_not_found(0x00, &[], 1, "get")]
#[case::set(0x01, &[0; 8], 0, "set")]
#[case::key_exists(0x02, &[0; 8], 2, "add")]
#[case::not_stored(0x0e, &[], 5, "append")]
#[case::too_large(0x01, &[0; 8], 3, "set | 0x0003")]
#[case::out_of_memory(0x01, &[0; 8], 0x82, "set | 0x0082")]
#[case::incr(0x05, &[0; 20], 0, "incr")]
#[case::not_authorized(0x21, &[], 0x20, "sasl_auth | 0x0020")]
#[case::unknown(0x7e, &[], 0x81, "? | 0x0081")]
fn a_binary_exchange_has_the_name_of_its_opcode(
    #[case] opcode: u8,
    #[case] extras: &[u8],
    #[case] status: u16,
    #[case] expected: &str,
) {
    let request = binary_request(opcode, 7, extras, "secret", "value");
    let response = binary_response(opcode, 7, status, &[], "", "something");
    let noop = (binary_request(0x0a, 8, &[], "", ""), binary_response(0x0a, 8, 0, &[], "", ""));
    let talk = Talk::new().request(&request).response(&response).request(noop.0).response(noop.1);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), [expected, "noop"]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![]));
    assert_eq!(outcome.exchanges()[0].response_end.unwrap().position, response.len() as u64);
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[rstest]
#[case::noreply("set a 0 0 1 noreply\r\nx\r\nget a\r\n", "END\r\n", &["set | silent", "get"])]
#[case::noreply_of_cas("cas a 0 0 1 5 noreply\r\nx\r\nincr a 1 noreply\r\nget a\r\n", "END\r\n", &["cas | silent", "incr | silent", "get"])]
#[case::all_missed("mg a v q\r\nmg b v q\r\nmn\r\n", "MN\r\n", &["mg | silent", "mg | silent", "mn"])]
#[case::hit_by_opaque("mg a v O1 q\r\nmg b v O2 q\r\nmn\r\n", "VA 1 O2\r\nx\r\nMN\r\n", &["mg | silent", "mg", "mn"])]
#[case::hit_by_key("mg a v k q\r\nmg b v k q\r\nmn\r\n", "VA 1 ka\r\nx\r\nMN\r\n", &["mg", "mg | silent", "mn"])]
#[case::last_by_opaque("mg a v O1 q\r\nmg b v O2\r\n", "VA 1 O2\r\nx\r\n", &["mg | silent", "mg"])]
#[case::stored_quietly("ms a 1 q\r\nx\r\nms b 1\r\ny\r\n", "HD\r\n", &["ms | silent", "ms"])]
#[case::missed_last("mg a v q\r\nmg b v\r\n", "EN\r\n", &["mg | silent", "mg"])]
#[case::quit("get a\r\nquit\r\n", "END\r\n", &["get"])]
fn what_the_server_does_not_answer_has_no_response(
    #[case] request: &str,
    #[case] response: &str,
    #[case] expected: &[&str],
) {
    let talk = Talk::new().request(request).response(response);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), expected);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![]));
    assert_eq!(play(&talk.byte_at_a_time()).exchanges().len(), expected.len());
}

#[test]
fn quiet_binary_requests_are_told_apart_by_key() {
    let getkq = |key| binary_request(0x0d, 0, &[], key, "");
    let hit = |key| binary_response(0x0d, 0, 0, &[0; 4], key, "value");
    let noop = (binary_request(0x0a, 0, &[], "", ""), binary_response(0x0a, 0, 0, &[], "", ""));
    let talk = Talk::new()
        .request([getkq("a"), getkq("b"), getkq("c"), noop.0].concat())
        .response([hit("b"), noop.1].concat());
    assert_eq!(lines(&play(&talk)), ["get | silent", "get", "get | silent", "noop"]);
}

#[rstest]
#[case::which_hit("mg a v q\r\nmg b v\r\n", "VA 1\r\nx\r\n")]
#[case::whose_error("mg a v q\r\nmg b v q\r\nmn\r\n", "SERVER_ERROR no\r\nMN\r\n")]
#[case::error_of_noreply("set a 0 0 1 noreply\r\nx\r\nget a\r\n", "SERVER_ERROR out of memory\r\nEND\r\n")]
fn a_response_that_may_be_several_requests_is_none(#[case] request: &str, #[case] response: &str) {
    let outcome = play(&Talk::new().request(request).response(response));
    assert!(outcome.exchanges().iter().all(|exchange| line(exchange).ends_with("silent")), "{outcome:#?}");
    assert!(outcome.lost().iter().all(|lost| *lost == LossReason::ResponseMissing) && !outcome.lost().is_empty());
}

#[test]
fn open_quiet_requests_are_bounded_over_all_groups() {
    let group = format!("{}mn\r\n", "mg a v q\r\n".repeat(99));
    let outcome = play(&Talk::new().request(group.repeat(200)).closes(Close::Error(104)));
    assert_eq!(outcome.begun(), 20_000);
    assert!(outcome.lost().contains(&LossReason::TooManyOpen));
    assert!(outcome.exchanges().is_empty(), "{} exchanges", outcome.exchanges().len());
}

#[test]
fn refused_data_ends_the_request() {
    let talk = Talk::new()
        .request("set k 0 0 9000000\r\n")
        .request("begin")
        .response("SERVER_ERROR object too large for cache\r\n")
        .gap(ToServer, 9_000_000 + 2 - 5)
        .request("get k\r\n")
        .response("END\r\n");
    assert_eq!(lines(&play(&talk)), ["set | SERVER_ERROR", "get"]);
}

#[test]
fn a_log_is_not_followed() {
    let talk = Talk::new().request("watch fetchers\r\n").response("OK\r\n").response("ts=1 gid=1 type=item_get\r\n");
    let outcome = play(&talk);
    assert!(outcome.switched());
    assert_eq!((lines(&outcome), outcome.unparsable), (vec!["watch".to_owned()], None));
}

#[rstest]
#[case::no_response("get k\r\n", "secret\r\n")]
#[case::length("get k\r\n", "VALUE k 0 99999999999\r\n")]
#[case::length_that_overflows("get k\r\n", "VALUE k 0 99999999999999999999999999\r\n")]
#[case::longer_than_its_length("get k\r\n", "VALUE k 0 3\r\nabcdef\r\nEND\r\n")]
#[case::data_of_a_request("set k 0 0 3\r\nabcdef\r\n", "")]
fn what_is_no_memcached_is_unparsable(#[case] request: &str, #[case] response: &str) {
    let talk = Talk::new().request(request);
    let outcome = play(&if response.is_empty() { talk } else { talk.response(response) });
    assert!(outcome.unparsable.is_some());
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
}

#[test]
fn an_unanswered_request_ends_with_its_connection() {
    let outcome = play(&Talk::new().request("get a b\r\n").closes(Close::Error(104)));
    assert_eq!(lines(&outcome), ["get | 2 keys | unanswered"]);
    let outcome = play(&Talk::new().request("get a\r\n").response("VALUE a 0 100\r\nx").closes(Close::Error(104)));
    assert_eq!(lines(&outcome), ["get | cut off"]);
}

/// Keys and values of the recorded conversations begin with `hidden`.
#[test]
fn recorded_conversations_are_reported_whole_and_without_keys() {
    for name in Talk::all_recorded("memcached") {
        let talk = Talk::recorded("memcached", &name);
        let outcome = play(&talk);
        assert_eq!((outcome.orphans(), outcome.lost(), outcome.unparsable), (0, vec![], None), "{name}");
        assert_eq!(outcome.begun(), outcome.exchanges().len(), "{name}");
        assert!(outcome.exchanges().iter().all(|exchange| exchange.end == End::Complete), "{name}");
        assert!(!format!("{:?}", outcome.findings).contains("hidden"), "{name}");
        assert_eq!(play(&talk.byte_at_a_time()), outcome, "{name}");
    }
}

#[test]
fn a_late_observer_begins_at_the_next_request() {
    let talk = Talk::new()
        .response("3\r\nabc\r\nEND\r\n")
        .request("get k\r\n")
        .response("END\r\n")
        .request("incr n 1\r\n")
        .response("2\r\n");
    let outcome = join_late(&talk);
    assert_eq!(lines(&outcome), ["get", "incr"]);
    assert_eq!(outcome.lost(), []);
}

/// Every exchange is one of `truth`: its error and its times are right.
fn assert_true(what: &str, holed: &kit::Outcome, truth: &kit::Outcome) {
    assert_eq!(holed.begun(), holed.exchanges().len() + holed.lost().len(), "{what}");
    for exchange in holed.exchanges() {
        let start = exchange.request_start.position;
        let real = truth.exchanges().into_iter().find(|real| real.request_start.position == start);
        assert!(real.is_some(), "{what}: no request begins at {start}: {exchange:#?}");
        let told = |exchange: &Exchange| {
            let facts = command(exchange);
            (facts.operation.clone(), facts.status.clone(), facts.failed)
        };
        assert_eq!(Some(told(exchange)), real.map(told), "{what}");
        kit::assert_same_end(what, exchange, real.expect("asserted above"));
    }
}

#[rstest]
fn adjacent_lost_records_make_nothing_untrue(#[values(1, 2, 3)] count: usize) {
    for name in Talk::all_recorded("memcached") {
        let talk = Talk::recorded("memcached", &name);
        let truth = play(&talk);
        for (what, talk) in talk.losses_everywhere(count) {
            assert_true(&format!("{name}: {what}"), &play(&talk), &truth);
        }
    }
}

/// Splice out of a socket looks like a lost record: only positions show it.
#[test]
fn a_binary_value_that_passed_unseen_ends_at_its_length() {
    let ask = b"\x80\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0k";
    let head = b"\x81\0\0\0\x04\0\0\0\0\0\0\x68\0\0\0\0\0\0\0\0\0\0\0\0flag";
    for goes_on in [false, true] {
        let talk = Talk::new().request(ask).response(head).lost(ToClient, [b'x'; 100]);
        let talk = if goes_on { talk.request(ask).response(head).response([b'x'; 100]) } else { talk.end(ToClient) };
        let outcome = play(&talk);
        assert_eq!(lines(&outcome)[0], "get | unseen");
        assert_eq!((outcome.exchanges().len(), outcome.lost()), (1 + usize::from(goes_on), vec![]));
        assert_eq!(outcome.exchanges()[0].response_end.unwrap().position, head.len() as u64 + 100);
    }
}

#[test]
fn a_hole_in_data_hides_nothing() {
    let talk = Talk::new()
        .request("set k 0 0 100000\r\n")
        .gap(ToServer, 100_002)
        .response("STORED\r\n")
        .request("get k\r\n")
        .response("VALUE k 0 100000\r\n")
        .gap(ToClient, 100_002)
        .response("END\r\n")
        .request("get k\r\n")
        .response("END\r\n");
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["set", "get", "get"]);
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("memcached")))]

    #[test]
    fn any_cutting_gives_the_same(offsets in prop::collection::vec(0..2000_usize, 0..12)) {
        let talk = Talk::recorded("memcached", "meta");
        prop_assert_eq!(play(&talk.cut(&offsets)), play(&talk));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), from_start: bool) {
        let talk = Talk::new().request(&bytes).response(&bytes).request(&bytes);
        if from_start { play(&talk) } else { join_late(&talk) };
    }
}
