//! The beginning and the end of a connection to PostgreSQL.

mod kit;

use kit::Talk;
use kit::postgres::*;
use onlooker_protocols::facts::Namespace;
use onlooker_protocols::postgres::Postgres;
use onlooker_protocols::{Close, Direction, End, LossReason, Moment, Parser};
use rstest::rstest;

#[test]
fn a_backslash_escapes_where_the_server_says_so() {
    let talk = Talk::new()
        .request(startup())
        .response([message(b'R', [0; 4]), message(b'S', "standard_conforming_strings\0off\0"), ready()].concat());
    let talk = asks(talk, &[simple(r"SELECT 'it\'s secret', 1")], &[rows(1), done("SELECT 1"), ready()]);
    assert_eq!(lines(&play(&talk)), ["SELECT | SELECT ?, ? | 1 rows"]);
}

/// The setting decides whether `hunter2` is in the first string or behind it.
const AMBIGUOUS: &str = r"select 'it\'s hunter2', 'x'";
const HIDDEN: &str = "select | select ?...";

/// A session whose server reports its setting at the start.
fn reporting(setting: &str) -> Talk {
    let status = message(b'S', format!("standard_conforming_strings\0{setting}\0"));
    Talk::new().request(startup()).response([message(b'R', [0; 4]), status, ready()].concat())
}

fn answer() -> [Vec<u8>; 3] {
    [rows(1), done("SELECT 1"), ready()]
}

/// What is reported of the talk, heard from its start and from later on.
fn shown(talk: &Talk) -> String {
    format!("{:?} {:?}", play(talk).findings, join_late(talk).findings)
}

#[test]
fn the_end_is_hidden_on_a_connection_older_than_onlooker() {
    let talk = asks(Talk::new(), &[simple(AMBIGUOUS)], &answer());
    assert_eq!(lines(&join_late(&talk)), [format!("{HIDDEN} | 1 rows")]);
    let extended = [parse("", AMBIGUOUS), bind("", ""), execute("", 0), sync()];
    let talk = asks(Talk::new(), &extended, &[parsed(), bound(), rows(1), done("SELECT 1"), ready()]);
    assert_eq!(lines(&join_late(&talk)), [format!("{HIDDEN} | 1 rows")]);
}

#[test]
fn the_end_is_hidden_if_the_answer_with_the_setting_was_lost() {
    let status = message(b'S', "standard_conforming_strings\0off\0");
    let off = [done("SET"), status, ready()].concat();
    let sets = || reporting("on").request(simple("SET standard_conforming_strings = off"));
    for hidden in 0..off.len() {
        // Each byte is missing in turn, and everything behind it.
        let talk = sets().response(&off[..hidden]).gap(Direction::ToClient, (off.len() - hidden) as u64);
        let shown = shown(&asks(talk, &[simple(AMBIGUOUS)], &answer()));
        assert!(!shown.contains("hunter2"), "from byte {hidden}: {shown}");
    }
    let shown = shown(&asks(sets().lost(Direction::ToClient, off), &[simple(AMBIGUOUS)], &answer()));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[rstest]
#[case::pipelined([simple("SET standard_conforming_strings = off"), simple(AMBIGUOUS)].concat())]
#[case::extended([
    parse("", "SELECT set_config('standard_conforming_strings', 'off', false)"), bind("", ""), execute("", 0),
    parse("", AMBIGUOUS), bind("", ""), execute("", 0), sync(),
].concat())]
#[case::flushed([
    parse("", "SELECT f()"), bind("", ""), execute("", 0), flush(),
    parse("", AMBIGUOUS), bind("", ""), execute("", 0), sync(),
].concat())]
fn the_end_is_hidden_while_a_command_before_may_change_the_setting(#[case] requests: Vec<u8>) {
    let shown = shown(&reporting("on").request(requests).closes(Close::ProcessExit));
    assert!(shown.contains("select ?...") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_setting_is_known_while_nothing_can_have_changed_it() {
    let talk = asks(reporting("on"), &[simple("SELECT 1")], &answer());
    let talk = asks(talk, &[simple(r"SELECT 'C:\', a")], &answer());
    let off = message(b'S', "standard_conforming_strings\0off\0");
    let talk = asks(talk, &[simple("SET standard_conforming_strings = off")], &[done("SET"), off, ready()]);
    let talk = asks(talk, &[simple(AMBIGUOUS)], &answer());
    let expected = [
        "SELECT | SELECT ? | 1 rows",
        "SELECT | SELECT ?, a | 1 rows",
        "SET | SET standard_conforming_strings = ?",
        "select | select ?, ? | 1 rows",
    ];
    assert_eq!(lines(&play(&talk)), expected);
    assert_eq!(lines(&play(&talk.byte_at_a_time())), expected);
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
    parser.bytes(Direction::ToServer, &startup(), Moment::default(), &mut found).unwrap();
    for &byte in &message(b'p', "secret\0") {
        parser.bytes(Direction::ToServer, &[byte], Moment::default(), &mut found).unwrap();
    }
    // Debug prints buffers as numbers. "secret" begins with 115, 101, 99.
    assert!(!format!("{parser:?}").contains("115, 101, 99"));
    assert_eq!(play(&talk).findings, []);
}

#[test]
fn a_refused_connection_is_reported() {
    let talk = Talk::new()
        .request(startup())
        .response(message(b'R', [0, 0, 0, 3]))
        .request(message(b'p', "wrong\0"))
        .response(error("28P01"))
        .end(Direction::ToClient);
    let outcome = play(&talk);
    assert_eq!((lines(&outcome), outcome.begun()), (owned(&["CONNECT | 28P01"]), 1));
    assert_eq!(query(outcome.exchanges()[0]).operation, "CONNECT");
}

#[test]
fn the_users_name_is_the_default_of_the_database() {
    let talk =
        Talk::new().request(packet(3 << 16, "user\0ann\0\0")).response([message(b'R', [0; 4]), ready()].concat());
    let talk = asks(talk, &[simple("SELECT 1")], &[rows(1), done("SELECT 1"), ready()]);
    assert_eq!(query(play(&talk).exchanges()[0]).namespace, Namespace::Name("ann".into()));
}

#[rstest]
#[case::before_the_answer(&[], None)]
#[case::in_the_answer(&[rows(1)], Some(rows(1).len() as u64))]
fn a_query_that_was_open_at_the_end_is_reported(#[case] response: &[Vec<u8>], #[case] length: Option<u64>) {
    let talk = session().request(simple("SELECT pg_sleep(9)")).response(response.concat()).closes(Close::Error(104));
    let outcome = play(&talk);
    let exchanges = outcome.exchanges();
    assert_eq!(lines(&outcome), ["SELECT | SELECT pg_sleep(?) | closed"]);
    assert!(matches!(exchanges[0].end, End::Closed(Close::Error(104), _)));
    let seen = exchanges[0].response_start.zip(exchanges[0].response_end);
    assert_eq!(seen.map(|(start, end)| end.position - start.position), length);
}

#[test]
fn the_servers_reason_for_ending_a_session_is_reported() {
    let talk = session().request(simple("SELECT 1")).response(error("57P01")).end(Direction::ToClient);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["SELECT | SELECT ? | 57P01"]);
    let [Some(start), Some(end)] = [outcome.exchanges()[0].response_start, outcome.exchanges()[0].response_end] else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (start.nanos, end.nanos),
        (start.nanos, start.nanos),
        "it ends at its last byte, not with the connection"
    );
    assert_eq!(end.position - start.position, error("57P01").len() as u64);
}

#[rstest]
#[case::http("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n")]
#[case::redis("*1\r\n$4\r\nPING\r\n", "+PONG\r\n")]
#[case::tls("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", "\x16\x03\x03\0\x7a")]
fn another_protocol_is_unparsable(#[case] request: &str, #[case] response: &str) {
    let talk = Talk::new().request(request).response(response);
    assert!(play(&talk).unparsable.is_some());
}

#[test]
fn open_requests_of_an_unparsable_connection_are_counted() {
    let talk = session().request(simple("SELECT 1")).response("garbage");
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
    assert_eq!(outcome.unparsable.unwrap().reason, "no such message");
}
