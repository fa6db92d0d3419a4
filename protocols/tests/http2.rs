//! HTTP/2: what is reported of frames, by RFC 9113. Further down calls of gRPC and its relatives.

mod kit;

use kit::http2::*;
use kit::{Outcome, Talk, parser};
use onlooker_protocols::facts::HttpVersion;
use onlooker_protocols::{Close, Direction, End, Finding, LossReason, http1, http2};
use rstest::rstest;

use Direction::{ToClient, ToServer};

/// A GET on stream 1 that is answered with two bytes.
fn exchange() -> Talk {
    greeting()
        .request(headers(END_STREAM, 1, get("/cart?id=7")))
        .response([headers(0, 1, status("200")), data(END_STREAM, 1, "ok")].concat())
}

#[test]
fn a_request_has_the_facts_of_its_fields() {
    let outcome = play(&exchange());
    let [exchange] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    let facts = http(exchange);
    assert_eq!((&*facts.method, &*facts.path, &*facts.query), ("GET", "/cart", "id=REDACTED"));
    assert_eq!((&*facts.scheme, &*facts.host, facts.version), ("http", "shop:8080", HttpVersion::Http2));
    assert_eq!((facts.status, facts.request_body, facts.response_body), (Some(200), Some(0), Some(2)));
    assert_eq!(exchange.end, End::Complete);
    let greeting = (PREFACE.len() + 9 + 6) as u64;
    assert_eq!((exchange.request_start.position, exchange.response_start.map(|it| it.position)), (greeting, Some(15)));
    assert_eq!(exchange.response_end.map(|it| it.position), Some(15 + 9 + status("200").len() as u64 + 9 + 2));
}

/// Proxies that speak HTTP/1 on one side and HTTP/2 on the other pass on the same request.
#[rstest]
#[case::same("GET /cart?id=7 HTTP/1.1\r\nhost: shop:8080\r\n\r\n", true)]
#[case::other_target("GET /cart?id=8 HTTP/1.1\r\nhost: shop:8080\r\n\r\n", false)]
#[case::other_method("HEAD /cart?id=7 HTTP/1.1\r\nhost: shop:8080\r\n\r\n", false)]
#[case::other_host("GET /cart?id=7 HTTP/1.1\r\nhost: shop\r\n\r\n", false)]
fn what_a_proxy_passes_on_is_the_same_in_http_1(#[case] request: &str, #[case] is_same: bool) {
    let passed_on = |outcome: &Outcome| {
        let begun = outcome.findings.iter().find_map(|finding| match finding {
            Finding::Begun(begun) => Some(begun.passed_on),
            _ => None,
        });
        begun.flatten().expect("a request has a method and a target")
    };
    let over_1 = Talk::new().request(request).play(parser(&http1::SPEC, true));
    assert_eq!(passed_on(&over_1) == passed_on(&play(&exchange())), is_same);
}

/// RFC 7541 6.3: `0x3f` and the size less 31, seven bits a byte.
#[rstest]
#[case::as_much_as_is_kept(&[0x3f, 0xe1, 0xff, 0x03], 0)]
#[case::one_byte_more(&[0x3f, 0xe2, 0xff, 0x03], 1)]
#[case::more_and_less_again(&[0x3f, 0xe2, 0xff, 0x03, 0x20], 1)]
fn a_table_of_which_not_all_is_kept_is_reported(#[case] resize: &[u8], #[case] times: usize) {
    let block = [resize, &get("/cart")].concat();
    let talk = greeting().request([headers(END_STREAM, 1, block), headers(END_STREAM, 3, get("/cart"))].concat());
    let outcome = play(&talk);
    let reported = outcome.findings.iter().filter(|finding| matches!(finding, Finding::TableNotKept));
    assert_eq!((reported.count(), outcome.begun()), (times, 2));
}

#[test]
fn streams_finish_in_any_order() {
    let talk = greeting()
        .request([headers(END_STREAM, 1, get("/a")), headers(END_STREAM, 3, get("/b"))].concat())
        .response([headers(0, 3, status("200")), headers(0, 1, status("404"))].concat())
        .response([data(0, 1, "no"), data(END_STREAM, 3, "yes"), data(END_STREAM, 1, "no")].concat());
    assert_eq!(lines(&play(&talk)), ["GET /b | 200 | 0 > 3", "GET /a | 404 | 0 > 4"]);
}

#[rstest]
#[case::trailers([headers(0, 1, status("200")), data(0, 1, "ok"), headers(END_STREAM, 1, fields(&[("a", "b")]))].concat(), "200 | 0 > 2")]
#[case::no_body(headers(END_STREAM, 1, status("204")), "204 | 0 > 0")]
#[case::interim([headers(0, 1, status("100")), headers(0, 1, status("103")), headers(END_STREAM, 1, status("201"))].concat(), "201 | 0 > 0")]
#[case::padding([headers(0, 1, status("200")), data(END_STREAM | PADDED, 1, b"\x03okok\0\0\0")].concat(), "200 | 0 > 4")]
#[case::only_padding([headers(0, 1, status("200")), data(END_STREAM | PADDED, 1, b"\x02\0\0")].concat(), "200 | 0 > 0")]
#[case::empty_data([headers(0, 1, status("200")), data(END_STREAM, 1, b"")].concat(), "200 | 0 > 0")]
#[case::priority([frame(1, END_HEADERS | 0x20, 1, [&[0, 0, 0, 0, 16][..], &status("200")].concat()), data(END_STREAM, 1, "ok")].concat(), "200 | 0 > 2")]
#[case::continuation_of_an_empty_frame([frame(1, END_STREAM, 1, ""), frame(9, 4, 1, status("200"))].concat(), "200 | 0 > 0")]
#[case::continuation([frame(1, END_STREAM, 1, &status("200")[..3]), frame(9, 0, 1, &status("200")[3..6]), frame(9, 4, 1, &status("200")[6..])].concat(), "200 | 0 > 0")]
#[case::unknown_frames([frame(0xa, 0, 0, "alt"), frame(0x77, 0xff, 1, "new"), headers(END_STREAM, 1, status("200"))].concat(), "200 | 0 > 0")]
#[case::window_and_ping([frame(8, 0, 0, [0; 4]), frame(6, 0, 0, [0; 8]), frame(2, 0, 1, [0; 5]), headers(END_STREAM, 1, status("200"))].concat(), "200 | 0 > 0")]
#[case::push([frame(5, END_HEADERS, 1, [&[0, 0, 0, 2][..], &get("/style")].concat()), headers(0, 2, status("200")), data(END_STREAM, 2, "css"), headers(END_STREAM, 1, status("200"))].concat(), "200 | 0 > 0")]
fn a_response_is_what_rfc_9113_says(#[case] response: Vec<u8>, #[case] line: &str) {
    let talk = greeting().request(headers(END_STREAM, 1, get("/"))).response(response);
    for talk in [talk.byte_at_a_time(), talk] {
        assert_eq!(lines(&play(&talk)), [format!("GET / | {line}")]);
    }
}

#[test]
fn a_body_and_trailers_of_a_request_are_part_of_it() {
    let block = [&[0x83, 0x86, 0x84][..]].concat();
    let talk = greeting()
        .request([headers(0, 1, block), data(0, 1, "abc"), headers(END_STREAM, 1, fields(&[("sum", "1")]))].concat())
        .response(headers(END_STREAM, 1, status("200")));
    assert_eq!(lines(&play(&talk)), ["POST / | 200 | 3 > 0"]);
}

#[test]
fn a_response_may_end_before_its_request() {
    let talk = greeting()
        .request([headers(0, 1, [0x83, 0x86, 0x84]), data(0, 1, "abc")].concat())
        .response([headers(END_STREAM, 1, status("413")), reset(1, 0)].concat())
        .request(data(END_STREAM, 1, "more"));
    assert_eq!(lines(&play(&talk)), ["POST / | 413 | 7 > 0"]);
}

#[test]
fn extended_connect_has_a_path() {
    let block = fields(&[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat")]);
    let talk = greeting()
        .request([headers(0, 1, block), data(0, 1, "hello")].concat())
        .response([headers(0, 1, status("200")), data(END_STREAM, 1, "bye")].concat());
    assert_eq!(lines(&play(&talk)), ["CONNECT /chat | 200 | ? > 3"]);
}

#[rstest]
#[case::by_the_client(reset(1, 8), ToServer, "GET / | ? | 0 > ? | CANCEL by ToServer")]
#[case::by_the_server(reset(1, 7), ToClient, "GET / | ? | 0 > ? | REFUSED_STREAM by ToClient")]
#[case::unknown_code(reset(1, 0x99), ToClient, "GET / | ? | 0 > ? | _OTHER by ToClient")]
#[case::of_another_stream(reset(3, 8), ToServer, "GET / | ? | 0 > ? | Normal")]
#[case::server_goes_away(go_away(0, 0), ToClient, "GET / | ? | 0 > ? | REFUSED_STREAM by ToClient")]
#[case::server_goes_away_later(go_away(1, 0), ToClient, "GET / | ? | 0 > ? | Normal")]
#[case::server_announces_it(go_away(0x7fff_ffff, 0), ToClient, "GET / | ? | 0 > ? | Normal")]
#[case::client_goes_away(go_away(0, 0), ToServer, "GET / | ? | 0 > ? | Normal")]
fn a_request_that_is_given_up_says_so(#[case] bytes: Vec<u8>, #[case] by: Direction, #[case] line: &str) {
    let talk = greeting().request(headers(END_STREAM, 1, get("/"))).response(frame(8, 0, 0, [0; 4])).says(by, bytes);
    assert_eq!(lines(&play(&talk)), [line]);
}

/// As many steps as there are open streams, not as there are ids.
#[test]
fn a_server_that_goes_away_ends_streams_with_the_largest_ids() {
    let requests = [headers(END_STREAM, 1, get("/a")), headers(END_STREAM, 0x7fff_ffff, get("/b"))].concat();
    let outcome = play(&greeting().request(requests).response(go_away(1, 0)).closes(Close::Normal));
    assert_eq!(lines(&outcome), ["GET /b | ? | 0 > ? | REFUSED_STREAM by ToClient", "GET /a | ? | 0 > ? | Normal"]);
}

/// Node 20 does so.
#[test]
fn a_server_may_end_a_response_by_a_reset_without_an_error() {
    let response = [headers(0, 1, status("200")), data(0, 1, "hello"), reset(1, 0)].concat();
    let talk = greeting().request(headers(END_STREAM, 1, get("/"))).response(response);
    assert_eq!(lines(&play(&talk)), ["GET / | 200 | 0 > 5"]);
}

#[test]
fn what_follows_a_reset_is_no_response() {
    let talk = greeting().request([headers(END_STREAM, 1, get("/")), reset(1, 8)].concat());
    let outcome = play(&talk.response([headers(0, 1, status("200")), data(END_STREAM, 1, "late")].concat()));
    assert_eq!((outcome.exchanges().len(), outcome.orphans()), (1, 0));
}

#[rstest]
#[case::no_preface(Talk::new().request("GET / HTTP/1.1\r\n\r\n"))]
#[case::first_frame(Talk::new().request([PREFACE, &headers(END_STREAM, 1, get("/"))].concat()))]
#[case::data_of_the_connection(exchange().request(data(0, 0, "x")))]
#[case::settings_of_a_stream(exchange().request(frame(4, 0, 1, "")))]
#[case::too_long(exchange().request(frame(0, 0, 1, vec![0; 16_385])))]
#[case::continuation_of_nothing(exchange().request(frame(9, 4, 3, "")))]
#[case::interrupted_block(exchange().request([frame(1, 1, 3, get("/")), data(0, 3, "x")].concat()))]
#[case::block_of_another_stream(exchange().request([frame(1, 1, 3, get("/")), frame(9, 4, 5, "")].concat()))]
#[case::malformed_block(exchange().request(headers(END_STREAM, 3, [0xff])))]
#[case::index_without_an_entry(exchange().request(headers(END_STREAM, 3, [0xbe])))]
#[case::padding(exchange().request(data(PADDED, 1, [9, 0])))]
#[case::even_stream(exchange().request(headers(END_STREAM, 2, get("/"))))]
fn what_every_endpoint_rejects_is_unparsable(#[case] talk: Talk) {
    assert!(play(&talk).unparsable.is_some());
    assert!(play(&talk.byte_at_a_time()).unparsable.is_some());
}

#[test]
fn a_setting_allows_longer_frames_of_the_other_end() {
    let long = data(END_STREAM, 1, vec![b'x'; 20_000]);
    let ask = |greeting: Talk| greeting.request(headers(END_STREAM, 1, get("/")));
    let answer = [headers(0, 1, status("200")), long].concat();
    let allowed = Talk::new().request([PREFACE, &settings(&[(5, 32_768)])].concat()).response(settings(&[]));
    assert_eq!(lines(&play(&ask(allowed).response(&answer))), ["GET / | 200 | 0 > 20000"]);
    assert!(play(&ask(greeting()).response(&answer)).unparsable.is_some());
}

#[test]
fn a_context_and_a_correlation_id_are_read() {
    let more = fields(&[
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1"),
        ("x-request-id", "r-7"),
    ]);
    let outcome = play(&greeting().request(headers(END_STREAM, 1, [get("/"), more].concat())));
    let Some(Finding::Begun(begun)) = outcome.findings.first() else { panic!("{outcome:?}") };
    let context = begun.context.as_ref().expect("a context");
    assert_eq!((context.span_id[0], &*context.tracestate, begun.correlation.as_deref()), (0xb7, "a=1", Some("r-7")));
}

#[test]
fn no_other_field_is_kept() {
    let secrets = [("authorization", "Bearer s3cret"), ("cookie", "id=s3cret"), ("grpc-message", "s3cret")];
    let block = [get("/?token=s3cret"), inserted(&secrets)].concat();
    let response = [status("200"), inserted(&[("set-cookie", "s3cret"), ("grpc-message", "s3cret")])].concat();
    let mut stepwise = Stepwise::new(true);
    stepwise.bytes(ToServer, &[PREFACE, &settings(&[]), &headers(END_STREAM, 1, block)].concat());
    stepwise.bytes(ToClient, &[settings(&[]), headers(END_STREAM, 1, response)].concat());
    assert!(!format!("{:?} {:?}", stepwise.found, stepwise.parser).contains("s3cret"));
    let bytes = format!("{:?}", b"s3cret");
    assert!(!format!("{:?}", stepwise.parser).contains(bytes.trim_matches(['[', ']'])), "{:?}", stepwise.parser);
    assert!(matches!(stepwise.found[..], [Finding::Begun(_), Finding::Exchange(_)]));
}

#[test]
fn requests_beyond_the_limit_are_lost_and_counted() {
    let requests: Vec<u8> = (0..4_100).flat_map(|nth| headers(END_STREAM, 2 * nth + 1, [0x82, 0x86, 0x84])).collect();
    let outcome = play(&greeting().request(requests));
    assert_eq!((outcome.exchanges().len(), outcome.lost()), (4_096, vec![LossReason::TooManyOpen; 4]));
}

#[test]
fn a_header_block_beyond_the_limit_is_lost_and_the_next_request_is_not() {
    let part = |kind, flags| frame(kind, flags, 1, fields(&[("a", &"x".repeat(120))]).repeat(130));
    let mut block = part(1, END_STREAM);
    (0..3).for_each(|_| block.extend(part(9, 0)));
    block.extend(part(9, END_HEADERS));
    let talk = greeting().request([block, headers(END_STREAM, 3, get("/"))].concat());
    let outcome =
        play(&talk.response([headers(END_STREAM, 1, status("431")), headers(END_STREAM, 3, status("200"))].concat()));
    assert_eq!(outcome.lost(), [LossReason::RequestHeadMissing]);
    assert_eq!((lines(&outcome), outcome.orphans()), (vec!["GET / | 200 | 0 > 0".to_owned()], 0));
}

#[test]
fn the_end_of_the_connection_ends_open_requests() {
    let talk = greeting().request([headers(END_STREAM, 1, get("/a")), headers(END_STREAM, 3, get("/b"))].concat());
    let talk = talk.response([headers(0, 1, status("200")), data(0, 1, "par")].concat());
    let killed = talk.clone().closes(Close::Error(104));
    assert_eq!(lines(&play(&killed)), ["GET /a | 200 | 0 > 3 | Error(104)", "GET /b | ? | 0 > ? | Error(104)"]);
    assert_eq!(
        lines(&play(&talk.end(ToClient).closes(Close::Error(104)))),
        ["GET /a | 200 | 0 > 3 | Normal", "GET /b | ? | 0 > ? | Normal"]
    );
}

/// RFC 9113 6.1: each frame has its own padding.
#[test]
fn padding_does_not_outlast_its_frame() {
    let padded = data(PADDED, 1, [&[9], "ok".as_bytes(), &[0; 9]].concat());
    let response = [headers(0, 1, status("200")), padded, data(PADDED | END_STREAM, 1, [1, b'!', 0])].concat();
    let talk = greeting().request(headers(END_STREAM, 1, get("/"))).response(response);
    assert_eq!(lines(&play(&talk)), ["GET / | 200 | 0 > 3"]);
    assert_eq!(lines(&play(&talk.byte_at_a_time())), ["GET / | 200 | 0 > 3"]);
}

/// RFC 9113 8.1: a head comes first.
#[test]
fn data_without_a_head_begins_no_response() {
    let talk = greeting().request(headers(END_STREAM, 1, get("/"))).response(data(0, 1, "stray"));
    assert_eq!(lines(&play(&talk.clone().closes(Close::Normal))), ["GET / | ? | 0 > ? | Normal"]);
    let later = talk.response([headers(0, 1, status("200")), data(END_STREAM, 1, "ok")].concat());
    assert_eq!(lines(&play(&later)), ["GET / | 200 | 0 > 2"]);
}

#[test]
fn an_aged_request_is_reported_once_and_its_late_response_is_none() {
    let talk = greeting().request(headers(END_STREAM, 1, get("/"))).age();
    let outcome = play(&talk.response([headers(0, 1, status("200")), data(END_STREAM, 1, "late")].concat()));
    assert_eq!((lines(&outcome), outcome.orphans()), (vec!["GET / | ? | 0 > ? | Aged".to_owned()], 0));
}

/// RFC 7540 3.2: the request of HTTP/1 becomes stream 1.
#[test]
fn a_connection_is_upgraded_from_http_1() {
    let ask = "GET /cart HTTP/1.1\r\nhost: shop\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    let answer = [headers(0, 1, status("200")), data(END_STREAM, 1, "ok")].concat();
    let talk = Talk::new()
        .request(ask)
        .response([switch.as_bytes(), &settings(&[]), &answer].concat())
        .request([PREFACE, &settings(&[]), &headers(END_STREAM, 3, get("/next"))].concat())
        .response(headers(END_STREAM, 3, status("204")));
    for talk in [talk.byte_at_a_time(), talk] {
        let outcome = talk.play(parser(&http1::SPEC, true));
        assert_eq!(lines(&outcome), ["GET /cart | 200 | 0 > 2", "GET /next | 204 | 0 > 0"]);
        assert!(outcome.findings.contains(&Finding::Upgraded(http2::SPEC.name)) && !outcome.switched());
        assert_eq!(outcome.begun(), 2);
    }
}

const METHOD: &str = "/shop.Cart/Get";

#[test]
fn a_unary_call_has_the_facts_of_a_call() {
    let talk = greeting()
        .request([headers(0, 1, call(METHOD, &[("grpc-timeout", "1S")])), data(END_STREAM, 1, message("id"))].concat())
        .response(headers(0, 1, [status("200"), fields(&[("content-type", "application/grpc")])].concat()))
        .response([data(0, 1, message("cart")), headers(END_STREAM, 1, fields(&[("grpc-status", "0")]))].concat());
    let outcome = play(&talk);
    assert_eq!(lines(&outcome), ["grpc shop.Cart/Get | OK | 1 > 1"]);
    let [exchange] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    let facts = rpc(exchange);
    assert_eq!((&*facts.host, facts.timeout.map(|it| it.as_secs())), ("shop:8080", Some(1)));
}

#[rstest]
#[case::trailers_only(headers(END_STREAM, 1, [status("200"), fields(&[("grpc-status", "5")])].concat()), "NOT_FOUND | 2 > 0")]
#[case::stream([headers(0, 1, status("200")), data(0, 1, message("a").repeat(3)), headers(END_STREAM, 1, fields(&[("grpc-status", "0")]))].concat(), "OK | 2 > 3")]
#[case::proxy([headers(0, 1, status("503")), data(END_STREAM, 1, "<html>")].concat(), "UNAVAILABLE | 2 > ?")]
#[case::no_status([headers(0, 1, status("200")), data(END_STREAM, 1, "")].concat(), "? | 2 > 0")]
#[case::server_gives_up(reset(1, 2), "INTERNAL | 2 > 0 | INTERNAL_ERROR by ToClient")]
#[case::server_goes_away(go_away(0, 0), "UNAVAILABLE | 2 > 0 | REFUSED_STREAM by ToClient")]
fn a_call_has_the_status_that_its_client_sees(#[case] response: Vec<u8>, #[case] line: &str) {
    let request =
        [headers(0, 1, call(METHOD, &[])), data(0, 1, message("a")), data(END_STREAM, 1, message(""))].concat();
    let talk = greeting().request(request).response(response);
    for talk in [talk.byte_at_a_time(), talk] {
        // The page of a proxy is no message. Its first bytes are read as the length of one.
        assert_eq!(
            lines(&play(&talk))[0].replace("> 1", "> ?"),
            format!("grpc shop.Cart/Get | {line}").replace("> 1", "> ?")
        );
    }
}

#[rstest]
#[case::cancelled("20S", "CANCELLED")]
#[case::out_of_time("2m", "DEADLINE_EXCEEDED")]
fn a_client_cancels_a_call(#[case] timeout: &str, #[case] code: &str) {
    let talk =
        greeting().request(headers(0, 1, call(METHOD, &[("grpc-timeout", timeout)]))).pauses(5).request(reset(1, 8));
    assert_eq!(lines(&play(&talk)), [format!("grpc shop.Cart/Get | {code} | 0 > 0 | CANCEL by ToServer")]);
}

#[test]
fn grpc_web_and_connect_are_calls_too() {
    let request = |stream, fields: Vec<u8>| headers(END_STREAM, stream, [&[0x83, 0x86][..], &fields].concat());
    let web = [(":path", METHOD), ("content-type", "application/grpc-web+proto")];
    let connect = [(":path", METHOD), ("content-type", "application/json"), ("connect-protocol-version", "1")];
    let stream = [(":path", METHOD), ("content-type", "application/connect+json")];
    let json = |json: &str, flags| [&[flags][..], &(json.len() as u32).to_be_bytes(), json.as_bytes()].concat();
    let talk = greeting()
        .request([request(1, fields(&web)), request(3, fields(&connect)), request(5, fields(&stream))].concat())
        .response(
            [
                headers(0, 1, status("200")),
                data(END_STREAM, 1, [message("a"), json("grpc-status: 3\r\n", 0x80)].concat()),
            ]
            .concat(),
        )
        .response([headers(0, 3, status("404")), data(END_STREAM, 3, r#"{"code":"not_found"}"#)].concat())
        .response(
            [
                headers(0, 5, status("200")),
                data(END_STREAM, 5, [message("a"), json("{\"error\":{\"code\":\"aborted\"}}", 2)].concat()),
            ]
            .concat(),
        );
    assert_eq!(
        lines(&play(&talk)),
        [
            "grpc shop.Cart/Get | INVALID_ARGUMENT | 0 > 1",
            "connectrpc shop.Cart/Get | not_found | ? > ?",
            "connectrpc shop.Cart/Get | aborted | 0 > 1",
        ]
    );
}

/// A response shows what a request did not, if a field of it refers to what passed unseen.
#[test]
fn a_call_is_recognised_by_its_response() {
    let mut stepwise = Stepwise::new(false);
    let unknown = [0xbe, 0xbf];
    let head = [&[0x83, 0x86][..], &fields(&[(":path", METHOD)]), &unknown].concat();
    stepwise.bytes(ToServer, &[headers(0, 7, head), data(END_STREAM, 7, message("id"))].concat());
    let kind = fields(&[("content-type", "application/grpc")]);
    stepwise.bytes(ToClient, &[headers(0, 7, [status("200"), kind].concat()), data(0, 7, message("a"))].concat());
    stepwise.bytes(ToClient, &headers(END_STREAM, 7, fields(&[("grpc-status", "0")])));
    let Some(Finding::Exchange(exchange)) = stepwise.found.last() else { panic!("{stepwise:?}") };
    assert_eq!(line(exchange), "grpc shop.Cart/Get | OK | ? > 1");
}
