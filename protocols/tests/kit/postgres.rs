//! Messages of PostgreSQL (its documentation, "Message Formats"), and what is reported of them.

use onlooker_protocols::facts::{Database, Rows};
use onlooker_protocols::postgres::Postgres;
use onlooker_protocols::{Close, Direction, End, Exchange, Facts, Finding, Moment, Parser, Unparsable};

use super::{Outcome, Talk, reported_error};

pub fn play(talk: &Talk) -> Outcome {
    talk.play(Box::new(Postgres::new(true)))
}

pub fn join_late(talk: &Talk) -> Outcome {
    talk.play(Box::new(Postgres::new(false)))
}

/// Every preparation is reported by itself, because much time passes after each piece.
pub fn play_apart(talk: &Talk) -> Outcome {
    talk.play(Box::new(Late(Postgres::new(true))))
}

#[derive(Debug)]
struct Late(Postgres);

impl Parser for Late {
    fn bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        let result = self.0.bytes(direction, bytes, at, found);
        self.0.pass_time(u64::MAX, found);
        result
    }

    fn gap(
        &mut self,
        direction: Direction,
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        self.0.gap(direction, missing, at, found)
    }

    fn end(&mut self, direction: Direction, at: Moment, found: &mut Vec<Finding>) {
        self.0.end(direction, at, found);
    }

    fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>) {
        self.0.close(why, at, found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>) {
        self.0.give_up_before(oldest, at, found);
    }

    fn open(&self) -> usize {
        self.0.open()
    }
}

pub fn query(exchange: &Exchange) -> &Database {
    match &exchange.facts {
        Facts::Database(query) if query.system == "postgresql" => query,
        other => panic!("not PostgreSQL: {other:?}"),
    }
}

/// One line for one exchange: `summary | text | rows | error | marks`, without empty parts.
pub fn line(exchange: &Exchange) -> String {
    let Database { text, summary, rows, skipped, prepared, .. } = query(exchange);
    let rows = rows.map(|rows| format!("{} rows", Rows::count(rows))).unwrap_or_default();
    let skipped = if *skipped { "skipped" } else { "" };
    let prepared = if *prepared { "prepared" } else { "" };
    let end = if exchange.end == End::Complete { "" } else { "closed" };
    [summary.as_str(), &**text, &rows, reported_error(query(exchange)), skipped, prepared, end]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" | ")
}

pub fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.exchanges().into_iter().map(line).collect()
}

/// The positions where an exchange begins and ends in both streams.
pub fn span(exchange: &Exchange) -> (u64, u64, Option<u64>, Option<u64>) {
    let position = |moment: Moment| moment.position;
    let Exchange { request_start, request_end, response_start, response_end, .. } = exchange;
    (position(*request_start), position(*request_end), response_start.map(position), response_end.map(position))
}

pub fn message(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = u32::try_from(body.len() + 4).expect("a short message").to_be_bytes();
    [&[kind], &length[..], body].concat()
}

pub fn packet(code: u32, body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("a short message").to_be_bytes();
    [&length[..], &code.to_be_bytes(), body.as_bytes()].concat()
}

pub fn startup() -> Vec<u8> {
    packet(3 << 16, "user\0ann\0database\0shop\0application_name\0secret\0\0")
}

pub fn simple(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0"))
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0"))
}

/// With one parameter, `secret`.
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\x01\0\0\0\x06secret\0\0"))
}

pub fn describe(what: char, name: &str) -> Vec<u8> {
    message(b'D', format!("{what}{name}\0"))
}

pub fn execute(portal: &str, limit: u8) -> Vec<u8> {
    message(b'E', [portal.as_bytes(), &[0, 0, 0, 0, limit]].concat())
}

pub fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0"))
}

pub fn sync() -> Vec<u8> {
    message(b'S', "")
}

pub fn flush() -> Vec<u8> {
    message(b'H', "")
}

pub fn ready() -> Vec<u8> {
    message(b'Z', "I")
}

pub fn done(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0"))
}

pub fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SFEHLER\0VERROR\0C{code}\0Msecret\0Rexec\0\0"))
}

pub fn rows(count: usize) -> Vec<u8> {
    let row = message(b'D', b"\0\x01\0\0\0\x06secret");
    [message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\0\x06\0\0\0\0\0\0"), row.repeat(count)].concat()
}

pub fn parsed() -> Vec<u8> {
    message(b'1', "")
}

pub fn bound() -> Vec<u8> {
    message(b'2', "")
}

pub fn no_data() -> Vec<u8> {
    message(b'n', "")
}

/// A session that is ready for its first query.
pub fn session() -> Talk {
    Talk::new().request(startup()).response(
        [
            message(b'R', [0, 0, 0, 0]),
            message(b'S', "client_encoding\0UTF8\0"),
            message(b'K', [0, 0, 0, 1, 0, 0, 0, 2]),
            ready(),
        ]
        .concat(),
    )
}

pub fn asks(talk: Talk, request: &[Vec<u8>], response: &[Vec<u8>]) -> Talk {
    talk.request(request.concat()).response(response.concat())
}

pub fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}
