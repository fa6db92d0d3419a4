//! Messages of Redis, and what is reported of them.

use onlooker_protocols::facts::{Database, Namespace};
use onlooker_protocols::redis::Redis;
use onlooker_protocols::{End, Exchange, Facts};

use super::{Outcome, Talk, reported_error};

pub fn play(talk: &Talk) -> Outcome {
    talk.play(Box::new(Redis::new(true)))
}

pub fn join_late(talk: &Talk) -> Outcome {
    talk.play(Box::new(Redis::new(false)))
}

pub fn command(exchange: &Exchange) -> &Database {
    match &exchange.facts {
        Facts::Database(command) if command.system == "redis" => command,
        other => panic!("not Redis: {other:?}"),
    }
}

/// One line for one exchange: `text | @database | error | end`, without empty and usual parts.
pub fn line(exchange: &Exchange) -> String {
    let Database { text, namespace, .. } = command(exchange);
    let database = match namespace {
        Namespace::Number(0) => String::new(),
        Namespace::Number(number) => format!("@{number}"),
        Namespace::Name(_) => "@?".to_owned(),
    };
    let end = match (exchange.end, exchange.response_end) {
        (End::Complete, Some(_)) => "",
        (End::Unseen, _) => "unseen",
        (End::Complete, None) => "silent",
        (End::Closed(..) | End::Reset(..), Some(_)) => "cut off",
        (End::Closed(..) | End::Reset(..), None) => "unanswered",
    };
    let parts = [&**text, &database, reported_error(command(exchange)), end];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" | ")
}

pub fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.exchanges().into_iter().map(line).collect()
}

pub fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

/// A request as clients send it.
pub fn ask(words: &str) -> String {
    let words: Vec<_> = words.split(' ').collect();
    let strings: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{strings}", words.len())
}

/// Several, one after the other.
pub fn asks(requests: &[&str]) -> String {
    requests.iter().map(|words| ask(words)).collect()
}

pub fn array(of: &[&str]) -> String {
    format!("*{}\r\n{}", of.len(), of.concat())
}

pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
