//! Protocols are recognised by their bytes.

mod chance;
mod kit;

use onlooker_protocols::detect::{ENOUGH, Guess, Sample};
use onlooker_protocols::{Direction, PROTOCOLS, Spec, Transport, detect, http1, http2, memcached, postgres, redis};
use proptest::prelude::*;
use rstest::rstest;

use Direction::{ToClient, ToServer};
const HTTP1: &Spec = &http1::SPEC;
const HTTP2: &Spec = &http2::SPEC;
const POSTGRES: &Spec = &postgres::SPEC;
const MEMCACHED: &Spec = &memcached::SPEC;
const REDIS: &Spec = &redis::SPEC;

/// Detects the protocol of a run's first bytes, with the table of all protocols.
fn detect(direction: Option<Direction>, from_start: bool, bytes: &[u8]) -> Guess {
    detect::detect(PROTOCOLS, &Sample { transport: Transport::Stream, direction, from_start, bytes })
}

/// The name of a guess that has no parser.
fn name(guess: Guess) -> &'static str {
    match guess {
        Guess::Unparsed(protocol) => protocol.name,
        Guess::Unknown => "unknown",
        Guess::Protocol(..) | Guess::NeedMore => "",
    }
}

const STARTUP: &[u8] = b"\0\0\0\x16\0\x03\0\0user\0postgres\0\0";
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const CANCEL_REQUEST: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";
const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
const QUERY: &[u8] = b"Q\0\0\0\x0dSELECT 1\0";
const LONG_QUERY: &[u8] = b"Q\0\0\x40\0SELECT a, b, c, d";
const PARSE: &[u8] = b"P\0\0\0\x20stmt\0SELECT $1";
const UNNAMED_BIND_EXECUTE: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
const COMMAND_COMPLETE: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x21\0\x01a\0";
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// The guess must be the same with and without a known direction, and name the direction.
#[rstest]
#[case::http_request(b"GET /users?id=7 HTTP/1.1\r\nhost: a\r\n\r\n", true, HTTP1, ToServer)]
#[case::http_request_in_the_middle(b"OPTIONS * HTTP/1.0\r\n", false, HTTP1, ToServer)]
#[case::http_absolute(b"GET http://a/ HTTP/1.1\r\n", true, HTTP1, ToServer)]
#[case::http_connect(b"CONNECT a:443 HTTP/1.1\r\n", true, HTTP1, ToServer)]
#[case::http_response(b"HTTP/1.1 200 OK\r\n", false, HTTP1, ToClient)]
#[case::http_response_without_reason(b"HTTP/1.0 404\r\n", false, HTTP1, ToClient)]
#[case::postgres_startup(STARTUP, true, POSTGRES, ToServer)]
#[case::postgres_ssl(SSL_REQUEST, true, POSTGRES, ToServer)]
#[case::postgres_gss(GSSENC_REQUEST, true, POSTGRES, ToServer)]
#[case::postgres_cancel(CANCEL_REQUEST, true, POSTGRES, ToServer)]
#[case::postgres_query(QUERY, false, POSTGRES, ToServer)]
#[case::postgres_query_cut_off(LONG_QUERY, false, POSTGRES, ToServer)]
#[case::postgres_parse(PARSE, false, POSTGRES, ToServer)]
#[case::postgres_prepared(UNNAMED_BIND_EXECUTE, false, POSTGRES, ToServer)]
#[case::postgres_sync(b"S\0\0\0\x04", false, POSTGRES, ToServer)]
#[case::postgres_terminate(b"X\0\0\0\x04", false, POSTGRES, ToServer)]
#[case::postgres_complete(COMMAND_COMPLETE, false, POSTGRES, ToClient)]
#[case::postgres_parse_complete(PARSE_COMPLETE, false, POSTGRES, ToClient)]
#[case::memcached_get(b"get a\r\n", true, MEMCACHED, ToServer)]
#[case::memcached_multiget_of_keys_like_a_target(b"get / /a\r\n", true, MEMCACHED, ToServer)]
#[case::memcached_set_in_the_middle(b"set a 0 60 5\r\nhello\r\n", false, MEMCACHED, ToServer)]
#[case::memcached_meta(b"mg a v\r\n", true, MEMCACHED, ToServer)]
#[case::memcached_version(b"version\r\n", true, MEMCACHED, ToServer)]
#[case::memcached_value(b"VALUE a 0 5\r\n", false, MEMCACHED, ToClient)]
#[case::memcached_stored(b"STORED\r\n", false, MEMCACHED, ToClient)]
#[case::memcached_binary_get(b"\x80\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0a", false, MEMCACHED, ToServer)]
#[case::memcached_binary_response(b"\x81\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", false, MEMCACHED, ToClient)]
#[case::redis_command(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", true, REDIS, ToServer)]
#[case::redis_command_in_the_middle(b"*2\r\n$3\r\nget\r\n$1\r\na\r\n", false, REDIS, ToServer)]
#[case::redis_odd_command_at_the_start(b"*1\r\n$7\r\nmy.odd1\r\n", true, REDIS, ToServer)]
#[case::redis_inline(b"PING\r\n", true, REDIS, ToServer)]
#[case::redis_inline_in_the_words_of_http(b"GET /key\r\n", true, REDIS, ToServer)]
#[case::redis_inline_auth(b"AUTH secret\r\n", true, REDIS, ToServer)]
#[case::redis_inline_with_quotes(b"PUBLISH news \"a b\"\r\n", true, REDIS, ToServer)]
#[case::redis_ok_and_more(b"+OK\r\n:1\r\n", false, REDIS, ToClient)]
#[case::redis_pong(b"+PONG\r\n", false, REDIS, ToClient)]
#[case::redis_error(b"-WRONGTYPE Operation against\r\n", false, REDIS, ToClient)]
#[case::redis_integer(b":-12\r\n", false, REDIS, ToClient)]
#[case::redis_string(b"$5\r\nhello\r\n", false, REDIS, ToClient)]
#[case::redis_nothing(b"$-1\r\n", false, REDIS, ToClient)]
#[case::redis_null(b"_\r\n", false, REDIS, ToClient)]
#[case::redis_map(b"%1\r\n+a\r\n:1\r\n", false, REDIS, ToClient)]
#[case::redis_push(b">3\r\n$7\r\nmessage\r\n", false, REDIS, ToClient)]
fn a_protocol_is_recognised_by_its_bytes(
    #[case] first: &[u8],
    #[case] from_start: bool,
    #[case] protocol: &'static Spec,
    #[case] direction: Direction,
) {
    let guess = Guess::Protocol(protocol, direction);
    assert_eq!(detect(None, from_start, first), guess);
    assert_eq!(detect(Some(direction), from_start, first), guess);
    let other = if direction == ToServer { ToClient } else { ToServer };
    assert_ne!(detect(Some(other), from_start, first), guess);
    // With fewer bytes the guess is the same, or more bytes are needed.
    for length in 0..first.len() {
        let said = detect(Some(direction), from_start, &first[..length]);
        assert!(said == guess || said == Guess::NeedMore, "{said:?} of the first {length}");
    }
}

#[rstest]
#[case::tls(CLIENT_HELLO, "tls")]
#[case::tls_application_data(b"\x17\x03\x03\x00\x45\xaa\xbb", "tls")]
#[case::ssh(b"SSH-2.0-OpenSSH_9.2\r\n", "ssh")]
#[case::mysql(b"\x4a\0\0\0\x0a8.0.36\0", "unknown")]
#[case::kafka_metadata(b"\0\0\0\x14\0\x03\0\x01\0\0\0\x01\0\x04test\0\0\0\0", "unknown")]
#[case::smtp(b"220 mail.example.com ESMTP\r\n", "unknown")]
#[case::websocket(b"\x81\x85\x01\x02\x03\x04hello", "unknown")]
#[case::rtsp(b"OPTIONS rtsp://a RTSP/1.0\r\n", "unknown")]
#[case::text(b"hello world, this is a line of text\r\n", "unknown")]
#[case::json(b"{\"a\": 1}", "unknown")]
fn a_protocol_without_a_parser_is_named_or_unknown(#[case] first: &[u8], #[case] expected: &'static str) {
    for from_start in [true, false] {
        for direction in [None, Some(ToServer), Some(ToClient)] {
            assert_eq!(name(detect(direction, from_start, first)), expected, "{direction:?} {from_start}");
        }
    }
}

#[rstest]
#[case::a_reply_that_could_be_a_command(b"*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n", ToClient)]
#[case::a_command_that_is_not_well_known(b"*1\r\n$4\r\nTIME\r\n", ToServer)]
fn an_array_in_the_middle_is_recognised_only_with_its_direction(#[case] first: &[u8], #[case] direction: Direction) {
    assert_eq!(detect(None, false, first), Guess::Unknown);
    assert_eq!(detect(Some(direction), false, first), Guess::Protocol(REDIS, direction));
}

/// A GET on stream 5 in static fields, a response to it, and its body.
const HTTP2_REQUEST: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x05\x82\x86\x84";
const HTTP2_RESPONSE: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x05\x88";
const HTTP2_DATA: &[u8] = b"\0\0\x02\0\x01\0\0\0\x05ok";
const HTTP2_WINDOW: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\0\x40\0";

#[rstest]
#[case::preface(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0", ToServer)]
#[case::settings_of_the_server(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x80", ToClient)]
#[case::settings_of_grpc(b"\0\0\x06\x04\0\0\0\0\0\xfe\x03\0\0\0\x01", ToClient)]
#[case::no_settings_of_the_server(b"\0\0\0\x04\0\0\0\0\0", ToClient)]
fn http_2_is_recognised_by_its_beginning(#[case] first: &[u8], #[case] direction: Direction) {
    for known in [None, Some(direction)] {
        assert_eq!(detect(known, true, first), Guess::Protocol(HTTP2, direction));
        assert_eq!(detect(known, true, &first[..8]), Guess::NeedMore);
    }
}

#[rstest]
#[case::request_and_window(&[HTTP2_REQUEST, HTTP2_WINDOW], ToServer)]
#[case::two_requests(&[HTTP2_REQUEST, HTTP2_REQUEST], ToServer)]
#[case::response(&[HTTP2_RESPONSE, HTTP2_DATA], ToClient)]
#[case::window_and_response(&[HTTP2_WINDOW, HTTP2_RESPONSE], ToClient)]
fn late_http_2_is_recognised_by_two_frames_of_which_a_head_shows_the_direction(
    #[case] frames: &[&[u8]],
    #[case] direction: Direction,
) {
    for known in [None, Some(direction)] {
        assert_eq!(detect(known, false, &frames.concat()), Guess::Protocol(HTTP2, direction));
    }
    assert_ne!(
        detect(Some(direction.opposite()), false, &frames.concat()),
        Guess::Protocol(HTTP2, direction.opposite())
    );
}

#[rstest]
#[case::one_frame(HTTP2_REQUEST.to_vec(), Guess::NeedMore)]
#[case::no_head([HTTP2_WINDOW; 2].concat(), Guess::NeedMore)]
#[case::no_head_for_long(HTTP2_WINDOW.repeat(20), Guess::Unknown)]
#[case::malformed_head(b"\0\0\x01\x01\x05\0\0\0\x05\x80\0\0\x04\x08\0\0\0\0\0\0\0\x40\0".to_vec(), Guess::Unknown)]
#[case::second_header_is_none([HTTP2_REQUEST, b"\0\0\x04\x08\x01\0\0\0\0\0\0\0\x01"].concat(), Guess::Unknown)]
fn less_than_two_frames_are_no_http_2(#[case] bytes: Vec<u8>, #[case] guess: Guess) {
    assert_eq!(detect(None, false, &bytes), guess);
}

/// Messages of binary protocols, as the first of a connection and as later ones.
#[rstest]
#[case::yamux_window(b"\0\x01\0\x01\0\0\0\x01\0\0\0\0")]
#[case::yamux_data(b"\0\0\0\x01\0\0\0\x01\0\0\0\x05hello")]
#[case::yamux_ping(b"\0\x02\0\x01\0\0\0\0\0\0\0\x07")]
#[case::yamux_go_away(b"\0\x03\0\0\0\0\0\0\0\0\0\0")]
#[case::mysql_greeting(b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0")]
#[case::mysql_query(b"\x21\0\0\0\x03select @@version_comment limit 1")]
#[case::mysql_ok(b"\x07\0\0\x02\0\0\0\x02\0\0\0")]
#[case::mysql_long_packet(b"\0\x01\0\x01\x05\0\0\0\x01\x82\x86\x84")]
#[case::kafka_versions(b"\0\0\0\x1a\0\x12\0\x03\0\0\0\x01\0\x08consumer\0")]
#[case::kafka_short_request(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\0\0")]
#[case::kafka_short_response(b"\0\0\0\x04\0\0\0\0")]
#[case::kafka_produce(b"\0\0\x0c\x04\0\0\0\0\0\0\0\x01\0\x08producer")]
#[case::postgres_ssl(b"\0\0\0\x08\x04\xd2\x16\x2f")]
#[case::postgres_startup(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0")]
#[case::postgres_query(b"Q\0\0\0\x0dSELECT 1\0")]
#[case::redis(b"*1\r\n$4\r\nPING\r\n")]
#[case::zeros(&[0; 64])]
fn no_message_of_another_binary_protocol_is_http_2(#[case] message: &[u8]) {
    for bytes in [message.to_vec(), message.repeat(2), message.repeat(30)] {
        for known in [None, Some(ToServer), Some(ToClient)] {
            for from_start in [true, false] {
                assert!(
                    !matches!(detect(known, from_start, &bytes), Guess::Protocol(protocol, _) if protocol == HTTP2),
                    "{known:?} {from_start} {bytes:?}"
                );
            }
        }
    }
}

#[test]
fn no_recorded_conversation_of_another_protocol_is_http_2() {
    for protocol in ["http1", "memcached", "postgres", "redis"] {
        for name in kit::Talk::all_recorded(protocol).iter().filter(|name| !name.contains("upgrade")) {
            for said in kit::Talk::recorded(protocol, name).said() {
                for known in [None, Some(ToServer), Some(ToClient)] {
                    let guess = detect(known, false, said);
                    assert!(!matches!(guess, Guess::Protocol(found, _) if found == HTTP2), "{protocol} {name}");
                }
            }
        }
    }
}

/// Such a line shows nothing alone. With the run before it, or the next, it does.
#[rstest]
#[case::reply_of_pop3_and_nats(b"+OK\r\n", false, ToClient)]
#[case::error_of_pop3_and_nats(b"-ERR unknown\r\n", false, ToClient)]
#[case::several(b"+OK\r\n+OK\r\n-ERR x\r\n", false, ToClient)]
#[case::lower_case_word_of_beanstalkd(b"watch tube\r\n", true, ToServer)]
#[case::lower_case(b"auth secret\r\n", true, ToServer)]
#[case::word_of_pop3(b"QUIT\r\n", false, ToServer)]
#[case::word_of_nats(b"PING\r\n", false, ToServer)]
fn an_ambiguous_beginning_needs_a_second_message(
    #[case] first: &[u8],
    #[case] from_start: bool,
    #[case] direction: Direction,
) {
    for known in [None, Some(direction)] {
        assert_eq!(detect(known, from_start, first), Guess::NeedMore);
    }
}

#[rstest]
#[case::redis(b"set a 5\r\n", b"+OK\r\n", Guess::Protocol(REDIS, ToServer))]
#[case::redis_error(b"auth secret\r\n", b"-ERR Client sent AUTH\r\n", Guess::Protocol(REDIS, ToServer))]
#[case::beanstalkd(b"watch tube\r\n", b"WATCHING 2\r\n", Guess::Unknown)]
#[case::pop3_whose_server_speaks_first(b"+OK\r\n", b"QUIT\r\n", Guess::Unknown)]
#[case::both_incomplete(b"s", b"+", Guess::Protocol(REDIS, ToServer))]
fn two_ambiguous_runs_are_of_the_protocol_that_fits_both(
    #[case] first: &[u8],
    #[case] second: &[u8],
    #[case] guess: Guess,
) {
    let [first, second] = [(first, true), (second, false)].map(|(bytes, from_start)| Sample {
        transport: Transport::Stream,
        direction: None,
        from_start,
        bytes,
    });
    assert_eq!(detect::detect_answered(PROTOCOLS, &first, &second), guess);
}

/// First lines of protocols that are not followed, of the server or of the client.
#[rstest]
#[case::smtp("220 mail.example.com ESMTP Postfix\r\n")]
#[case::smtp_multiline("220-mail.example.com ESMTP\r\n220 ready\r\n")]
#[case::smtp_features("250-mail.example.com\r\n250-PIPELINING\r\n250 8BITMIME\r\n")]
#[case::smtp_client("EHLO client.example.com\r\n")]
#[case::lmtp_client("LHLO client.example.com\r\n")]
#[case::ftp("220 (vsFTPd 3.0.5)\r\n")]
#[case::ftp_client("USER anonymous\r\n")]
#[case::ftp_login("331 Please specify the password.\r\n")]
#[case::imap("* OK [CAPABILITY IMAP4rev1 LITERAL+] Dovecot ready.\r\n")]
#[case::imap_preauth("* PREAUTH IMAP4rev1 server\r\n")]
#[case::imap_client("a1 LOGIN bob hunter2\r\n")]
#[case::imap_count("* 23 EXISTS\r\n* 0 RECENT\r\n")]
#[case::imap_continuation("+ idling\r\n")]
#[case::pop3("+OK Dovecot ready.\r\n")]
#[case::pop3_timestamp("+OK POP3 server ready <1896.697170952@example.com>\r\n")]
#[case::pop3_ok("+OK\r\n")]
#[case::pop3_count("+OK 2 320\r\n")]
#[case::pop3_error("-ERR no such message\r\n")]
#[case::pop3_error_code("-ERR [AUTH] invalid login\r\n")]
#[case::pop3_list("+OK 2 messages\r\n1 120\r\n2 200\r\n.\r\n")]
#[case::pop3_pipelined("+OK\r\n+OK\r\n+OK 0 0\r\n")]
#[case::pop3_client("USER bob\r\n")]
#[case::pop3_client_capabilities("CAPA\r\n")]
#[case::nntp("200 news.example.com InterNetNews ready\r\n")]
#[case::managesieve("\"IMPLEMENTATION\" \"Dovecot Pigeonhole\"\r\n\"SIEVE\" \"fileinto\"\r\nOK\r\n")]
#[case::nats("INFO {\"server_id\":\"NAB\",\"version\":\"2.10.9\",\"max_payload\":1048576} \r\n")]
#[case::nats_client("CONNECT {\"verbose\":true,\"pedantic\":false}\r\nPING\r\n")]
#[case::nats_ok("+OK\r\n+OK\r\n")]
#[case::nats_pong("PONG\r\n")]
#[case::nats_ok_pong("+OK\r\nPONG\r\n")]
#[case::nats_error("-ERR 'Authorization Violation'\r\n")]
#[case::nats_publish("PUB foo 5\r\nhello\r\n")]
#[case::nats_subscribe("SUB foo 1\r\n")]
#[case::nats_message("MSG foo 1 5\r\nhello\r\n")]
#[case::beanstalkd_client("use tube\r\n")]
#[case::beanstalkd_watch("watch tube\r\n")]
#[case::beanstalkd_put("put 0 0 60 5\r\nhello\r\n")]
#[case::beanstalkd_reserve("reserve\r\n")]
#[case::beanstalkd_inserted("INSERTED 1\r\n")]
#[case::beanstalkd_reserved("RESERVED 1 5\r\nhello\r\n")]
#[case::gearman("workers\n")]
#[case::irc("NICK bob\r\nUSER bob 0 * :Bob\r\n")]
#[case::irc_server(":irc.example.com NOTICE * :*** Looking up your hostname\r\n")]
#[case::stomp("CONNECT\naccept-version:1.2\nhost:a\n\n\0")]
#[case::sip("INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n")]
#[case::rtsp("DESCRIBE rtsp://example.com/media RTSP/1.0\r\nCSeq: 1\r\n")]
#[case::xmpp("<?xml version='1.0'?><stream:stream to='example.com'>")]
#[case::vnc("RFB 003.008\n")]
#[case::rsync("@RSYNCD: 31.0 sha512 sha256\n")]
#[case::svn("( success ( 2 2 ( ) ( edit-pipeline svndiff1 ) ) ) ")]
#[case::git("0032git-upload-pack /project.git\0host=example.com\0")]
#[case::mpd("OK MPD 0.23.5\n")]
#[case::dict("220 dictd 1.12.1 <auth.mime> <1@example.com>\r\n")]
#[case::whois("example.com\r\n")]
#[case::finger("bob\r\n")]
#[case::gopher("/\r\n")]
#[case::zookeeper("ruok")]
#[case::graphite("servers.a.load 1.5 1700000000\n")]
#[case::statsd("page.views:1|c\n")]
#[case::syslog("<34>1 2003-10-11T22:14:15.003Z a su - ID47 - text\n")]
#[case::clamav("zPING\0")]
#[case::varnish("107 59      \nnxkzssjbtkfxjoqwpjkrfpqpxbbsmqbc\n\nAuthentication required.\n\n")]
#[case::asterisk("Asterisk Call Manager/9.0.0\r\n")]
#[case::amqp("AMQP\0\0\u{9}\u{1}")]
#[case::mqtt("\u{10}\u{11}\0\u{4}MQTT\u{4}\u{2}\0\u{3c}\0\u{5}hello")]
#[case::cassandra("\u{4}\0\0\0\u{5}\0\0\0\0")]
#[case::tds("\u{12}\u{1}\0\u{2f}\0\0\u{1}\0\0\0\u{1a}\0\u{6}")]
#[case::ldap("0\u{c}\u{2}\u{1}\u{1}`\u{7}\u{2}\u{1}\u{3}\u{4}\0")]
#[case::mongodb("\u{3d}\0\0\0\u{1}\0\0\0\0\0\0\0\u{d4}\u{7}\0\0\0\0\0\0admin.$cmd\0")]
#[case::kafka("\0\0\0\u{1a}\0\u{12}\0\u{3}\0\0\0\u{1}\0\u{4}test\0")]
#[case::dns("\0\u{1d}\u{12}\u{34}\u{1}\0\0\u{1}\0\0\0\0\0\0\u{7}example\u{3}com\0\0\u{1}\0\u{1}")]
fn a_foreign_line_is_of_no_known_protocol(#[case] line: &str) {
    for from_start in [true, false] {
        for direction in [None, Some(ToServer), Some(ToClient)] {
            let guess = detect(direction, from_start, line.as_bytes());
            assert!(matches!(guess, Guess::Unknown | Guess::NeedMore), "{guess:?} {direction:?} {from_start}");
        }
    }
}

/// Lines behind the first of protocols that are not followed.
#[rstest]
#[case::smtp_login("AUTH PLAIN AGJvYgBodW50ZXIy\r\n")]
#[case::stan_ping_of_the_server("PING\r\nPONG\r\n")]
#[case::irc_ping("PING :irc.example.com\r\n")]
fn a_foreign_line_amid_a_connection_is_of_no_known_protocol(#[case] line: &str) {
    for direction in [None, Some(ToServer), Some(ToClient)] {
        let guess = detect(direction, false, line.as_bytes());
        assert!(matches!(guess, Guess::Unknown | Guess::NeedMore), "{guess:?} {direction:?}");
    }
}

/// The length is the first byte. So it may be any letter that begins a message of another protocol.
#[test]
fn a_greeting_of_mysql_is_of_no_known_protocol() {
    for length in 0x20..=0xff {
        let begin = [&[length, 0, 0, 0, 10][..], b"8.0.36\0\x08\0\0\0abcdefgh\0\xff\xff\xff\x02\0"].concat();
        let greeting =
            [&begin, &[0; 256][..usize::from(length) + 4 - begin.len().min(usize::from(length) + 4)]].concat();
        for from_start in [true, false] {
            for direction in [None, Some(ToServer), Some(ToClient)] {
                let guess = detect(direction, from_start, &greeting);
                assert!(matches!(guess, Guess::Unknown | Guess::NeedMore), "{guess:?} of {length} {direction:?}");
            }
        }
    }
}

#[test]
fn a_server_that_speaks_first_speaks_neither_redis_nor_postgres() {
    assert_eq!(detect(None, true, b"+OK POP3 ready\r\n"), Guess::Unknown);
    assert_eq!(detect(None, true, COMMAND_COMPLETE), Guess::Unknown);
}

#[test]
fn a_long_target_is_http_before_the_end_of_its_line() {
    let line = format!("GET /{}", "a".repeat(ENOUGH));
    assert_eq!(detect(None, false, line.as_bytes()), Guess::Protocol(HTTP1, ToServer));
    assert_eq!(detect(None, false, &line.as_bytes()[..ENOUGH - 1]), Guess::NeedMore);
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("detect")))]

    #[test]
    fn with_enough_bytes_there_is_an_answer(
        bytes in prop::collection::vec(any::<u8>(), ENOUGH..ENOUGH + 50),
        begin in prop::sample::select(vec!["", "GET ", "P\0\0\0", "B\0\0\u{1}\0", "*", "*3\r\n$", "+", "HTTP/1.1 "]),
        direction in prop::sample::select(vec![None, Some(ToServer), Some(ToClient)]),
        from_start: bool,
    ) {
        let first = [begin.as_bytes(), &bytes].concat();
        prop_assert_ne!(detect(direction, from_start, &first), Guess::NeedMore);
    }

    /// More bytes may refute a guess, but never lead to another protocol.
    #[test]
    fn more_bytes_confirm_or_refute_a_guess(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        begin in prop::sample::select(vec!["", "GET / HTTP/1.1\r", "Q\0\0\0\u{20}SELE", "*3\r\n$3\r\nSE", "+OK\r", "HTTP/1.1 20"]),
        from_start: bool,
    ) {
        let first = [begin.as_bytes(), &bytes].concat();
        let mut first_guess = None;
        for length in 1..=first.len() {
            let guess = detect(None, from_start, &first[..length]);
            if matches!(guess, Guess::Protocol(..)) {
                prop_assert_eq!(guess, *first_guess.get_or_insert(guess), "with {} bytes", length);
            }
        }
    }
}
