//! Turns a recorded conversation into exchanges and prints them.
//!
//! ```text
//! cargo run -p onlooker-protocols --example exchanges [FILE]
//! ```
//!
//! A line of the file is what one end read: `>` for bytes that travel to the server, `<` for bytes that travel to the
//! client, and the bytes in hexadecimal. `end` instead of bytes is the end of a direction. The conversations in
//! `protocols/tests/fixtures` have this form.

#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::fs;

use onlooker_protocols::detect::{Guess, Sample, detect};
use onlooker_protocols::{
    Close, Direction, Exchange, Facts, Finding, Moment, NewParser, PROTOCOLS, Parser, Transport, Unparsable,
};

/// The conversation that is shown unless another is named.
const DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/redis/redis_cli.talk");
/// What passes between two lines of the file.
const STEP_NANOS: u64 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).unwrap_or_else(|| DEFAULT.to_owned());
    let lines = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let pieces = lines.lines().map(piece).collect::<Result<Vec<_>, _>>()?;
    let new_parser = recognise(&pieces)?;
    for finding in parse(new_parser(true), &pieces)? {
        match finding {
            Finding::Exchange(exchange) => println!("{}", shown(&exchange)),
            Finding::Lost(lost) => println!("lost: {:?}", lost.reason),
            Finding::Orphan(_) => println!("a response without its request"),
            Finding::Upgraded(protocol) => println!("the connection goes on in {protocol}"),
            Finding::SwitchedProtocol => println!("the connection goes on in another protocol"),
            Finding::Begun(_) | Finding::CaptureMore(_) | Finding::TableNotKept | Finding::StatementForgotten => {}
        }
    }
    Ok(())
}

/// Bytes in one direction, or `None` for its end.
type Piece = (Direction, Option<Vec<u8>>);

fn piece(line: &str) -> Result<Piece, Box<dyn Error>> {
    let (direction, rest) = match line.split_once(' ') {
        Some((">", rest)) => (Direction::ToServer, rest),
        Some(("<", rest)) => (Direction::ToClient, rest),
        _ => return Err(format!("a line begins with `>` or `<`: {line}").into()),
    };
    if rest == "end" {
        return Ok((direction, None));
    }
    let byte = |at: usize| u8::from_str_radix(rest.get(at..at + 2).unwrap_or_default(), 16);
    Ok((direction, Some((0..rest.len()).step_by(2).map(byte).collect::<Result<_, _>>()?)))
}

/// Finds the protocol by the first bytes. A run that is not recognised is passed over.
fn recognise(pieces: &[Piece]) -> Result<NewParser, Box<dyn Error>> {
    for (index, (direction, bytes)) in pieces.iter().enumerate() {
        let bytes = bytes.as_deref().unwrap_or_default();
        let sample =
            Sample { transport: Transport::Stream, direction: Some(*direction), from_start: index == 0, bytes };
        match detect(PROTOCOLS, &sample) {
            Guess::Protocol(protocol, _) => {
                println!("{}", protocol.title);
                return protocol.parser.ok_or_else(|| format!("{} has no parser", protocol.title).into());
            }
            Guess::Unparsed(protocol) => return Err(format!("{} is not parsed", protocol.title).into()),
            Guess::NeedMore | Guess::Unknown => {}
        }
    }
    Err("no known protocol".into())
}

fn parse(mut parser: Box<dyn Parser>, pieces: &[Piece]) -> Result<Vec<Finding>, Unparsable> {
    let mut found = Vec::new();
    let mut at = Moment::default();
    let mut positions = [0; 2];
    let mut before = None;
    for (direction, bytes) in pieces {
        // The conversation turns where the direction changes.
        at.run += u32::from(before.is_some_and(|before| before != direction));
        before = Some(direction);
        at.nanos += STEP_NANOS;
        let position = &mut positions[usize::from(*direction == Direction::ToClient)];
        at.position = *position;
        match bytes {
            Some(bytes) => {
                parser.bytes(*direction, bytes, at, &mut found)?;
                *position += bytes.len() as u64;
            }
            None => parser.end(*direction, at, &mut found),
        }
    }
    parser.close(Close::Normal, at, &mut found);
    Ok(found)
}

fn shown(exchange: &Exchange) -> String {
    let (what, result) = match &exchange.facts {
        Facts::Http(http) => {
            let status = http.status.map(|status| status.to_string());
            (format!("{} {}", http.method, http.path), status.unwrap_or_default())
        }
        Facts::Database(database) => (database.text.to_string(), database.status.to_string()),
        Facts::Messaging(messaging) => {
            (format!("{} {}", messaging.operation_name, messaging.destination), messaging.error.to_string())
        }
        Facts::Rpc(rpc) => {
            (rpc.method.to_string(), rpc.status.as_ref().map(|status| status.code.to_string()).unwrap_or_default())
        }
        Facts::Dns(dns) => (format!("{} {}", dns.record_type, dns.question), format!("{:?}", dns.answers)),
    };
    let sent = exchange.request_end.position - exchange.request_start.position;
    let received = exchange.response_start.zip(exchange.response_end);
    let received = received.map_or(0, |(start, end)| end.position - start.position);
    format!("{what} -> {result} ({sent} bytes sent, {received} received, {:?})", exchange.end)
}
