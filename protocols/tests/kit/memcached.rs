//! Messages of memcached, and what is reported of them.

use onlooker_protocols::facts::Database;
use onlooker_protocols::{End, Exchange, Facts, memcached};

use super::{Outcome, Talk, parser, reported_error};

pub fn play(talk: &Talk) -> Outcome {
    talk.play(parser(&memcached::SPEC, true))
}

pub fn join_late(talk: &Talk) -> Outcome {
    talk.play(parser(&memcached::SPEC, false))
}

pub fn command(exchange: &Exchange) -> &Database {
    match &exchange.facts {
        Facts::Database(command) if command.system == "memcached" => command,
        other => panic!("not memcached: {other:?}"),
    }
}

/// One line for one exchange: `operation | number of keys | error | end`, without empty and usual parts.
pub fn line(exchange: &Exchange) -> String {
    let facts = command(exchange);
    let operation = if facts.operation.is_empty() { "?" } else { &facts.operation };
    let keys = facts.batch_size.map(|keys| format!("{keys} keys")).unwrap_or_default();
    let end = match (exchange.end, exchange.response_end) {
        (End::Complete, Some(_)) => "",
        (End::Unseen, _) => "unseen",
        (End::Complete, None) => "silent",
        (End::Closed(..) | End::Reset(..), Some(_)) => "cut off",
        (End::Closed(..) | End::Reset(..), None) => "unanswered",
    };
    let parts = [operation, &keys, reported_error(facts), end];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" | ")
}

pub fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.exchanges().into_iter().map(line).collect()
}

/// A binary request: opcode, opaque, extras, key and value.
pub fn binary_request(opcode: u8, opaque: u32, extras: &[u8], key: &str, value: &str) -> Vec<u8> {
    binary(0x80, opcode, 0, opaque, extras, key, value)
}

/// A binary response: opcode, opaque, status, extras, key and value.
pub fn binary_response(opcode: u8, opaque: u32, status: u16, extras: &[u8], key: &str, value: &str) -> Vec<u8> {
    binary(0x81, opcode, status, opaque, extras, key, value)
}

fn binary(magic: u8, opcode: u8, status: u16, opaque: u32, extras: &[u8], key: &str, value: &str) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut message = vec![magic, opcode];
    message.extend((key.len() as u16).to_be_bytes());
    message.extend([extras.len() as u8, 0]);
    message.extend(status.to_be_bytes());
    message.extend(body.to_be_bytes());
    message.extend(opaque.to_be_bytes());
    message.extend([0; 8]);
    [&message, extras, key.as_bytes(), value.as_bytes()].concat()
}
