//! Redis, as the RESP specification and real clients define it.

mod chance;
mod kit;

use kit::Talk;
use kit::redis::*;
use onlooker_protocols::kit::in_order::DEEPEST_PIPELINE;
use onlooker_protocols::redis::Redis;
use onlooker_protocols::{Close, End, Finding, LossReason, Moment, Parser};
use proptest::prelude::*;
use rstest::rstest;

use onlooker_protocols::Direction::{ToClient, ToServer};

/// The RESP specification's examples of each type.
#[rstest]
#[case::simple_string("+OK\r\n", "")]
#[case::simple_error("-Error message\r\n", "_OTHER")]
#[case::error("-ERR unknown command 'asdf'\r\n", "ERR")]
#[case::error_prefix("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "WRONGTYPE")]
#[case::moved("-MOVED 3999 127.0.0.1:6381\r\n", "MOVED")]
#[case::error_of_one_word("-NOAUTH\r\n", "NOAUTH")]
#[case::empty_error("-\r\n", "_OTHER")]
#[case::integer(":0\r\n", "")]
#[case::negative_integer(":-1000\r\n", "")]
#[case::positive_integer(":+1000\r\n", "")]
#[case::bulk_string("$5\r\nhello\r\n", "")]
#[case::empty_bulk_string("$0\r\n\r\n", "")]
#[case::bulk_string_with_line_ends("$7\r\n\r\na\r\n\r\n\r\n", "")]
#[case::null_bulk_string("$-1\r\n", "")]
#[case::empty_array("*0\r\n", "")]
#[case::array("*2\r\n$5\r\nhello\r\n$5\r\nworld\r\n", "")]
#[case::mixed_array("*5\r\n:1\r\n:2\r\n:3\r\n:4\r\n$5\r\nhello\r\n", "")]
#[case::null_array("*-1\r\n", "")]
#[case::nested_array("*2\r\n*3\r\n:1\r\n:2\r\n:3\r\n*2\r\n+Hello\r\n-World\r\n", "")]
#[case::nulls_in_array("*3\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n", "")]
#[case::empty_arrays_in_array("*2\r\n*0\r\n*1\r\n*0\r\n", "")]
#[case::null("_\r\n", "")]
#[case::boolean("#t\r\n", "")]
#[case::double(",1.23\r\n", "")]
#[case::infinity(",-inf\r\n", "")]
#[case::not_a_number(",nan\r\n", "")]
#[case::exponent(",1e-7\r\n", "")]
#[case::big_number("(3492890328409238509324850943850943825024385\r\n", "")]
#[case::bulk_error("!21\r\nSYNTAX invalid syntax\r\n", "SYNTAX")]
#[case::verbatim_string("=15\r\ntxt:Some string\r\n", "")]
#[case::map("%2\r\n+first\r\n:1\r\n+second\r\n:2\r\n", "")]
#[case::empty_map("%0\r\n", "")]
#[case::set("~3\r\n:1\r\n$1\r\na\r\n_\r\n", "")]
#[case::nested_map("%1\r\n+a\r\n%1\r\n+b\r\n*2\r\n#f\r\n,0.5\r\n", "")]
#[case::attribute(
    "|1\r\n+key-popularity\r\n%2\r\n$1\r\na\r\n,0.1923\r\n$1\r\nb\r\n,0.0012\r\n*2\r\n:2039123\r\n:9543892\r\n",
    ""
)]
#[case::attribute_within("*3\r\n:1\r\n:2\r\n|1\r\n+ttl\r\n:3600\r\n:3\r\n", "")]
#[case::attribute_of_an_error("|1\r\n-A\r\n-B\r\n-OOM no\r\n", "OOM")]
#[case::empty_attribute("|0\r\n+OK\r\n", "")]
#[case::push_before("> 0\r\n", "unparsable")]
#[case::invalidation_before(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n", "")]
#[case::message_before("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", "")]
fn a_reply_ends_where_the_specification_says(#[case] reply: &str, #[case] error: &str) {
    let talk = Talk::new().request(ask("FIRST k")).response(reply).request(ask("SECOND k")).response("+OK\r\n");
    let outcome = play(&talk);
    if error == "unparsable" {
        assert_eq!(outcome.lost(), [LossReason::Unparsable]);
        return;
    }
    let first = if error.is_empty() { "FIRST ?".to_owned() } else { format!("FIRST ? | {error}") };
    assert_eq!(lines(&outcome), [first, "SECOND ?".to_owned()]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![]));
    assert_eq!(outcome.exchanges()[0].response_end.unwrap().position, reply.len() as u64);
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[rstest]
#[case::request(ToServer, ask("GET k"))]
#[case::reply(ToClient, "$3\r\nabc\r\n".to_owned())]
fn an_exchange_reaches_from_its_first_byte_to_its_last(
    #[case] cut: onlooker_protocols::Direction,
    #[case] bytes: String,
) {
    let (first, last) = bytes.split_at(1);
    let talk = Talk::new();
    let talk = match cut {
        ToServer => talk.request(first).request(last).response("$3\r\nabc\r\n"),
        ToClient => talk.request(ask("GET k")).response(first).response(last),
    };
    let outcome = play(&talk);
    let exchange = outcome.exchanges()[0];
    let nanos = |moment: Moment| (moment.nanos - kit::FIRST_NANOS) / 1_000_000;
    let times = (nanos(exchange.request_start), nanos(exchange.request_end));
    let answered = (exchange.response_start.map(nanos), exchange.response_end.map(nanos));
    match cut {
        ToServer => assert_eq!((times, answered), ((0, 1), (Some(2), Some(2)))),
        ToClient => assert_eq!((times, answered), ((0, 0), (Some(1), Some(2)))),
    }
    assert_eq!((exchange.request_start.position, exchange.request_end.position), (0, ask("GET k").len() as u64));
}

#[rstest]
#[case::subcommand("config set maxmemory secret", "CONFIG SET ? ?")]
#[case::no_subcommand("CLIENT secret", "CLIENT ?")]
#[case::credentials("HELLO 3 AUTH secret secret SETNAME secret", "HELLO ? ? ? ? ? ?")]
#[case::password("AUTH secret", "AUTH ?")]
#[case::module("FT.SEARCH secret secret", "FT.SEARCH ? ?")]
#[case::many("MSET a secret b secret c secret d secret e secret", "MSET ? ? ? ? ? ? ? ? ...")]
#[case::no_word("secret:secret a", "")]
#[case::no_name("secret2X a", "")]
fn a_command_is_reported_without_its_arguments(#[case] words: &str, #[case] text: &str) {
    let outcome = play(&Talk::new().request(ask(words)).response("+OK\r\n"));
    let exchanges = outcome.exchanges();
    assert_eq!(&*command(exchanges[0]).text, text);
    assert!(!format!("{outcome:?}").contains("secret"));
}

#[rstest]
#[case::plain("PING\r\n", "PING")]
#[case::bare_line_feed("get a\n", "GET ?")]
#[case::blanks("SET  a\tb \r\n", "SET ? ?")]
#[case::after_empty_lines("\r\n\nPING\r\n", "PING")]
#[case::after_an_empty_array("*0\r\n*-1\r\nPING\r\n", "PING")]
#[case::quoted("SET a \"b c\"\r\n", "SET ...")]
#[case::long("MSET aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b\r\n", "MSET ...")]
fn inline_commands_are_read(#[case] request: &str, #[case] text: &str) {
    let talk = Talk::new().request(request).response("+PONG\r\n");
    let outcome = play(&talk);
    assert_eq!((lines(&outcome), outcome.orphans()), (vec![text.to_owned()], 0));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

/// Requests in one operation, their replies, and the lines that are reported.
#[rstest]
#[case::pipeline(&["SET a 1", "GET a", "LPUSH a 1"], "+OK\r\n$1\r\n1\r\n-WRONGTYPE no\r\n", &["SET ? ?", "GET ?", "LPUSH ? ? | WRONGTYPE"])]
#[case::transaction(
    &["MULTI", "SET a 1", "INCR a", "EXEC"], "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n-ERR no\r\n",
    &["MULTI", "SET ? ?", "INCR ?", "EXEC"],
)]
#[case::transaction_aborted(&["MULTI", "NO", "EXEC"], "+OK\r\n-ERR no\r\n-EXECABORT no\r\n", &["MULTI", "NO | ERR", "EXEC | EXECABORT"])]
#[case::select(&["SELECT 3", "GET a", "SELECT 99", "GET a"], "+OK\r\n_\r\n-ERR DB index is out of range\r\n_\r\n",
    &["SELECT ? | @3", "GET ? | @3", "SELECT ? | @3 | ERR", "GET ? | @3"])]
#[case::reset(&["SELECT 3", "RESET", "GET a"], "+OK\r\n+RESET\r\n_\r\n", &["SELECT ? | @3", "RESET", "GET ?"])]
#[case::select_in_a_transaction(&["MULTI", "SELECT 3", "GET a", "EXEC", "GET a"], "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n_\r\n_\r\n",
    &["MULTI", "SELECT ?", "GET ?", "EXEC | @3", "GET ? | @3"])]
#[case::select_discarded(&["MULTI", "SELECT 3", "DISCARD", "GET a"], "+OK\r\n+QUEUED\r\n+OK\r\n_\r\n",
    &["MULTI", "SELECT ?", "DISCARD", "GET ?"])]
#[case::select_not_executed(&["WATCH a", "MULTI", "SELECT 3", "EXEC", "GET a"], "+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n_\r\n",
    &["WATCH ?", "MULTI", "SELECT ?", "EXEC", "GET ?"])]
#[case::select_perhaps_failed(&["MULTI", "SELECT 99", "EXEC", "GET a"], "+OK\r\n+QUEUED\r\n*1\r\n-ERR no\r\n_\r\n",
    &["MULTI", "SELECT ?", "EXEC | @?", "GET ? | @?"])]
#[case::skip(&["CLIENT REPLY SKIP", "SET a 1", "GET a"], "$1\r\n1\r\n", &["CLIENT REPLY ? | silent", "SET ? ? | silent", "GET ?"])]
#[case::off(&["CLIENT REPLY OFF", "SET a 1", "CLIENT REPLY SKIP", "SET a 2", "CLIENT REPLY ON", "GET a"], "+OK\r\n$1\r\n1\r\n",
    &["CLIENT REPLY ? | silent", "SET ? ? | silent", "CLIENT REPLY ? | silent", "SET ? ? | silent", "CLIENT REPLY ?", "GET ?"])]
#[case::reset_ends_it(&["CLIENT REPLY OFF", "SELECT 3", "RESET", "GET a"], "+RESET\r\n$1\r\n1\r\n",
    &["CLIENT REPLY ? | silent", "SELECT ? | @? | silent", "RESET", "GET ?"])]
#[case::reset_may_be_skipped(&["CLIENT REPLY SKIP", "RESET", "GET a"], "$1\r\n1\r\n",
    &["CLIENT REPLY ? | silent", "RESET | @? | silent", "GET ? | @?"])]
#[case::select_unheard(&["CLIENT REPLY SKIP", "SELECT 3", "GET a"], "_\r\n",
    &["CLIENT REPLY ? | silent", "SELECT ? | @? | silent", "GET ? | @?"])]
#[case::hello(&["HELLO 3 AUTH user secret", "PING"], "%1\r\n$5\r\nproto\r\n:3\r\n+PONG\r\n", &["HELLO ? ? ? ?", "PING"])]
#[case::subscribe_resp2(&["SUBSCRIBE a b", "PING"],
    "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    &["SUBSCRIBE ? ?", "PING"])]
#[case::subscribe_resp3(&["PSUBSCRIBE a b", "GET k"],
    ">3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:1\r\n>4\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\na\r\n$1\r\nm\r\n>3\r\n$10\r\npsubscribe\r\n$1\r\nb\r\n:2\r\n$7\r\nmessage\r\n",
    &["PSUBSCRIBE ? ?", "GET ?"])]
#[case::unsubscribe_from_all(&["SUBSCRIBE a b", "PSUBSCRIBE c", "UNSUBSCRIBE", "PING"],
    "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*3\r\n$10\r\npsubscribe\r\n$1\r\nc\r\n:3\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n+PONG\r\n",
    &["SUBSCRIBE ? ?", "PSUBSCRIBE ?", "UNSUBSCRIBE", "PING"])]
#[case::unsubscribe_from_none(&["UNSUBSCRIBE", "PING"], "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n+PONG\r\n", &["UNSUBSCRIBE", "PING"])]
#[case::subscribe_refused(&["SUBSCRIBE a b", "PING"], "-NOPERM no\r\n+PONG\r\n", &["SUBSCRIBE ? ? | NOPERM", "PING"])]
#[case::a_list_that_looks_like_a_message(&["LRANGE a 0 -1"], "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n", &["LRANGE ? ? ?"])]
#[case::monitor(&["MONITOR", "QUIT"],
    "+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n+1339518087.877697 [0 lua] \"dbsize\"\r\n+OK\r\n",
    &["MONITOR", "QUIT"])]
#[case::replication(&["REPLCONF capa eof", "PSYNC ? -1"], "+OK\r\n+FULLRESYNC abc 0\r\n$4\r\n\u{0}\u{1}\u{2}\u{3}*1\r\n$4\r\nPING\r\n",
    &["REPLCONF ? ?", "PSYNC ? ?"])]
fn requests_are_matched_with_their_replies(
    #[case] requests: &[&str],
    #[case] replies: &str,
    #[case] reported: &[&str],
) {
    let talk = Talk::new().request(asks(requests)).response(replies);
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), reported);
    assert_eq!((outcome.orphans(), outcome.lost(), outcome.unparsable), (0, vec![], None));
    assert!(!format!("{:?}", outcome.findings).contains("secret"));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[test]
fn an_unsolicited_message_answers_nothing() {
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n";
    let talk = Talk::new()
        .request(ask("SUBSCRIBE a"))
        .response("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")
        .response(message)
        .request(ask("PING"))
        .response([message, "*2\r\n$4\r\npong\r\n$0\r\n\r\n", message].concat());
    let outcome = play(&talk);
    assert_eq!((lines(&outcome), outcome.orphans()), (vec!["SUBSCRIBE ?".to_owned(), "PING".to_owned()], 0));
}

/// One thread writes and another reads: the reply may be recorded before the send of its request returns.
#[rstest]
#[case::alone(Talk::new().request(ask("INCR a")).overtaking_response("-ERR no\r\n"), &["INCR ? | ERR"])]
#[case::after_another(
    Talk::new().request(ask("GET a")).response("_\r\n").request(ask("INCR a")).overtaking_response("-ERR no\r\n"),
    &["GET ?", "INCR ? | ERR"]
)]
#[case::several_in_a_row(
    Talk::new().request(ask("GET a")).response("_\r\n").request(ask("INCR a")).overtaking_response("-ERR no\r\n")
        .request(ask("LPOP a")).overtaking_response("-WRONGTYPE no\r\n"),
    &["GET ?", "INCR ? | ERR", "LPOP ? | WRONGTYPE"]
)]
#[case::cut_off_at_the_end(Talk::new().request(ask("GET a")).overtaking_response("$9\r\nab"), &["GET ? | cut off"])]
fn a_reply_recorded_before_its_request_answers_it(#[case] talk: Talk, #[case] reported: &[&str]) {
    let is_over = !reported.iter().any(|line| line.ends_with("cut off"));
    let talk = if is_over { talk.request(ask("GET next")).response("_\r\n") } else { talk };
    let outcome = play(&talk);
    let reported: Vec<_> = reported.iter().copied().chain(is_over.then_some("GET ?")).collect();
    assert_eq!((lines(&outcome), outcome.orphans(), outcome.lost()), (owned(&reported), 0, vec![]));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[test]
fn a_reply_without_a_request_is_an_orphan() {
    let outcome = play(&Talk::new().request(ask("GET a")).response("$1\r\n1\r\n:5\r\n"));
    assert_eq!((lines(&outcome).len(), outcome.orphans()), (1, 1));
}

#[rstest]
#[case::unanswered(ask("GET a"), "", "GET ? | unanswered")]
#[case::half_answered(ask("GET a"), "$100\r\nabc", "GET ? | cut off")]
#[case::half_asked("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nab".to_owned(), "", "SET ? ? | unanswered")]
#[case::refused_early("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nab".to_owned(), "-ERR Protocol error\r\n", "SET ? ? | ERR")]
fn open_requests_are_reported_at_the_end(#[case] request: String, #[case] reply: &str, #[case] reported: &str) {
    let talk = Talk::new().request(request).response(reply).closes(Close::Error(104));
    assert_eq!(lines(&play(&talk)), [reported]);
    assert_eq!(lines(&play(&talk.clone().end(ToClient))), [reported]);
    assert_eq!(lines(&play(&talk.byte_at_a_time())), [reported]);
}

#[test]
fn a_request_without_its_name_was_never_begun() {
    assert_eq!(play(&Talk::new().request("*3\r\n$3\r\nSE")).findings, []);
}

#[test]
fn a_request_is_begun_when_its_name_has_passed() {
    let mut parser = Redis::new(true);
    let mut found = Vec::new();
    parser.bytes(ToServer, b"*3\r\n$3\r\nSET\r\n$1", Moment::default(), &mut found).unwrap();
    assert!(matches!(found[..], [Finding::Begun(_)]));
    assert_eq!(parser.open(), 1);
}

#[test]
fn requests_beyond_the_limit_are_counted_and_the_others_are_matched() {
    let total = DEEPEST_PIPELINE + 1000;
    let talk = Talk::new()
        .request(ask("PING").repeat(total))
        .response("+PONG\r\n".repeat(total))
        .request(ask("GET a"))
        .response("-ERR no\r\n");
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), vec![LossReason::TooManyOpen; 1000]);
    assert_eq!((outcome.begun(), outcome.orphans()), (total + 1, 0));
    assert_eq!(lines(&outcome).last().unwrap(), "GET ? | ERR");
}

#[rstest]
#[case::http("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "")]
#[case::memcached("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n")]
#[case::tls("\x16\x03\x01\x02\0", "")]
#[case::postgres("\0\0\0\x08\x04\u{d2}\x16/", "")]
#[case::arguments_that_are_no_strings("*1\r\n:1\r\n", "")]
#[case::length_without_number("*x\r\n", "")]
#[case::negative_length("*-2\r\n", "")]
#[case::string_longer_than_its_length("*1\r\n$4\r\nPINGPING\r\n", "")]
#[case::endless_number("*1111111111111111111111111111111111111111111111111111111111111111111111", "")]
#[case::number_that_is_none("PING\r\n", ":a\r\n")]
#[case::boolean_that_is_none("PING\r\n", "#x\r\n")]
fn another_protocol_is_unparsable(#[case] request: &str, #[case] reply: &str) {
    let talk = Talk::new().request(request).response(reply);
    assert!(play(&talk).unparsable.is_some());
    assert!(play(&talk.byte_at_a_time()).unparsable.is_some());
}

#[test]
fn endless_nesting_is_unparsable() {
    let outcome = play(&Talk::new().request(ask("EVAL a 0")).response("*1\r\n".repeat(100)));
    assert_eq!(outcome.unparsable.unwrap().reason, "nested too deeply");
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
}

// Real clients. Each fixture was recorded by a proxy between a client and Redis 7.

#[rstest]
#[case("redis_cli", &["AUTH ?", "SET ? ?", "GET ?", "INCR ? | ERR", "MULTI", "SET ? ?", "INCR ?", "EXEC", "SELECT ? | @3",
    "LPUSH ? ? ? | @3", "LRANGE ? ? ? | @3", "CONFIG SET ? ? | @3"])]
#[case("python_resp2_pubsub", &["AUTH ?", "CLIENT SETINFO ? ? | ERR", "CLIENT SETINFO ? ? | ERR", "SUBSCRIBE ? ?", "PSUBSCRIBE ?",
    "PING", "UNSUBSCRIBE", "PUNSUBSCRIBE"])]
#[case("python_resp3_pubsub", &["HELLO ? ? ? ?", "CLIENT MAINT_NOTIFICATIONS ? ? ? | ERR", "CLIENT SETINFO ? ? | ERR",
    "CLIENT SETINFO ? ? | ERR", "SUBSCRIBE ? ?", "PSUBSCRIBE ?", "PING", "UNSUBSCRIBE", "PUNSUBSCRIBE"])]
#[case("python_resp3", &["HELLO ? ? ? ?", "CLIENT MAINT_NOTIFICATIONS ? ? ? | ERR", "CLIENT SETNAME ?", "CLIENT SETINFO ? ? | ERR",
    "CLIENT SETINFO ? ? | ERR", "SELECT ? | @2", "SET ? ? | @2", "GET ? | @2", "GET ? | @2", "HSET ? ? ? ? ? | @2", "HGETALL ? | @2",
    "LPUSH ? ? | @2 | WRONGTYPE", "GET ? | @2", "CONFIG GET ? | @2", "SADD ? ? ? | @2", "SMEMBERS ? | @2", "PUBLISH ? ? | @2"])]
fn conversations_of_real_clients_are_reported(#[case] name: &str, #[case] reported: &[&str]) {
    assert_eq!(lines(&play(&Talk::recorded("redis", name))), reported);
}

#[test]
fn no_request_of_real_clients_is_lost_and_no_argument_is_kept() {
    for name in Talk::all_recorded("redis") {
        let talk = Talk::recorded("redis", &name);
        let outcome = play(&talk);
        assert_eq!((outcome.orphans(), outcome.lost(), outcome.unparsable), (0, vec![], None), "{name}");
        assert_eq!(outcome.begun(), outcome.exchanges().len());
        assert!(outcome.exchanges().iter().all(|exchange| exchange.end == End::Complete), "{name}");
        assert!(!format!("{:?}", outcome.findings).contains("secret"), "{name}");
        assert_eq!(play(&talk.byte_at_a_time()), outcome, "{name}");
    }
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("redis")))]

    #[test]
    fn every_cut_yields_the_same_findings(cuts in prop::collection::vec(0_usize..4000, 0..40)) {
        for name in ["redis_cli", "benchmark_pipeline", "python_resp3_pipeline", "python_resp2_pubsub"] {
            let talk = Talk::recorded("redis", name);
            prop_assert_eq!(play(&talk.cut(&cuts)), play(&talk));
        }
    }

    #[test]
    fn any_bytes_are_survived(
        pieces in prop::collection::vec((any::<bool>(), "[*$+:>%|_A-C0-3\r\n-]{0,12}(\r\n)?", 0_u64..3), 0..30),
        from_start: bool,
    ) {
        let mut talk = Talk::new();
        for (is_request, bytes, missing) in pieces {
            let direction = if is_request { ToServer } else { ToClient };
            talk = talk.says(direction, bytes).gap(direction, missing);
        }
        talk.play(Box::new(Redis::new(from_start)));
    }

    #[test]
    fn any_commands_and_replies_in_any_order_are_survived(
        said in prop::collection::vec((any::<bool>(), 0_usize..14, 0_u64..30), 0..60),
        from_start: bool,
    ) {
        let requests = [
            "GET a", "MULTI", "EXEC", "SELECT 3", "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "CLIENT REPLY ON", "SUBSCRIBE a b",
            "UNSUBSCRIBE", "PUNSUBSCRIBE a", "RESET", "MONITOR", "DISCARD", "PSYNC ? -1",
        ];
        let replies = [
            "+OK\r\n", "+QUEUED\r\n", "-ERR no\r\n", "*1\r\n+OK\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*0\r\n", "_\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
            "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", ">2\r\n+invalidate\r\n_\r\n", "|1\r\n+a\r\n:1\r\n:2\r\n", "+1.2 [0 a]\r\n",
        ];
        let mut talk = Talk::new();
        for (is_request, which, missing) in said {
            let direction = if is_request { ToServer } else { ToClient };
            talk = talk.says(direction, if is_request { ask(requests[which]) } else { replies[which].to_owned() });
            if missing == 1 {
                talk = talk.gap(direction, 7);
            }
        }
        talk.play(Box::new(Redis::new(from_start)));
    }
}
