//! Messages of HTTP/1, and what is reported of them.

use onlooker_protocols::facts::Http;
use onlooker_protocols::http1::Http1;
use onlooker_protocols::{Exchange, Facts};

use super::{Outcome, Talk};

pub const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
pub const OK_3: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
pub const OK_EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// A response whose chunk is not complete.
pub const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1000\r\nabc";

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

pub fn play(talk: &Talk) -> Outcome {
    talk.play(Box::new(Http1::new(true)))
}

pub fn http(exchange: &Exchange) -> &Http {
    let Facts::Http(http) = &exchange.facts else { panic!("not HTTP: {exchange:?}") };
    http
}

/// The only exchange of a talk, which must be the same whole and byte by byte.
pub fn only_exchange(talk: &Talk) -> Exchange {
    let outcome = play(talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()), "differs byte by byte");
    let [exchange] = outcome.exchanges()[..] else { panic!("not one exchange: {outcome:?}") };
    exchange.clone()
}

/// Path and status of every exchange.
pub fn reported(outcome: &Outcome) -> Vec<(&str, Option<u16>)> {
    outcome.exchanges().into_iter().map(http).map(|http| (&*http.path, http.status)).collect()
}

/// Method, path, status, request and response body.
pub type Reported = (String, String, Option<u16>, Option<u64>, Option<u64>);

pub fn reported_in_full(outcome: &Outcome) -> Vec<Reported> {
    outcome
        .exchanges()
        .into_iter()
        .map(http)
        .map(|h| (h.method.to_string(), h.path.to_string(), h.status, h.request_body, h.response_body))
        .collect()
}
