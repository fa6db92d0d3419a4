//! Each protocol's parser alone: what a small exchange costs, and how many bytes of larger ones go through in a second.

mod conversations;

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use onlooker_protocols::{Direction, Finding, Moment, NewParser};
use onlooker_protocols::{http1, http2, registry};

use self::conversations::Conversation;
use crate::cpu::time_of_this_thread;
use crate::report::{Aim, Row};
use crate::statistics::least;

/// Windows of which the best counts.
const WINDOWS: usize = 200;
/// Bytes that pass in a window: it takes about a millisecond.
const WINDOW_BYTES: usize = 512 << 10;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let get = Http1Get::measure()?;
    for (protocol, new_parser) in registry::parsed() {
        let mut small = Conversation::read(protocol, "small")?;
        let nanos = per_round(new_parser, &mut small)?;
        let row = Row::new(format!("{}: {}", protocol.title, small.what), nanos, "ns");
        let is_http2 = *protocol == http2::SPEC;
        rows.push(if is_http2 { row.beside(get.0, "GETs of HTTP/1").aim(Aim::AtMost(MOST_GETS)) } else { row });
        let mut large = Conversation::read(protocol, "large")?;
        let nanos = per_round(new_parser, &mut large)?;
        // Bytes per nanosecond are gigabytes per second.
        let megabytes = large.bytes() as f64 * 1e3 / nanos;
        rows.push(Row::new(format!("{}: {}", protocol.title, large.what), megabytes, "MB/s"));
    }
    Ok(rows)
}

/// A small exchange of HTTP/2 takes no longer than so many of HTTP/1.
const MOST_GETS: f64 = 3.0;

/// Nanoseconds that a small exchange of HTTP/1 takes.
struct Http1Get(f64);

impl Http1Get {
    fn measure() -> Result<Self> {
        let mut small = Conversation::read(&http1::SPEC, "small")?;
        let new_parser = http1::SPEC.parser.context("HTTP/1 has a parser")?;
        Ok(Self(per_round(new_parser, &mut small)?))
    }
}

/// Nanoseconds that the parser takes for the conversation, in the best window.
fn per_round(new_parser: NewParser, conversation: &mut Conversation) -> Result<f64> {
    let mut parser = new_parser(true);
    let mut found = Vec::new();
    let mut clock = Moment::default();
    let mut positions = [0; 2];
    let mut play = |messages: &[(Direction, Vec<u8>)], found: &mut Vec<Finding>| -> Result<()> {
        for (direction, bytes) in messages {
            let position = &mut positions[usize::from(*direction == Direction::ToClient)];
            clock = Moment { nanos: clock.nanos + 1_000, position: *position, run: clock.run.wrapping_add(1) };
            parser.bytes(*direction, bytes, clock, found)?;
            *position += bytes.len() as u64;
        }
        Ok(())
    };
    play(&conversation.opening, &mut found)?;
    found.clear();
    play(&conversation.round, &mut found)?;
    let exchanges = found.iter().filter(|finding| matches!(finding, Finding::Exchange(_))).count();
    ensure!(exchanges == conversation.exchanges, "{exchanges} exchanges were parsed: {found:?}");

    let rounds = (WINDOW_BYTES / conversation.bytes()).max(1);
    let mut windows = Vec::with_capacity(WINDOWS);
    for _ in 0..WINDOWS {
        let start = time_of_this_thread();
        for _ in 0..rounds {
            found.clear();
            conversation.go_on();
            play(&conversation.round, &mut found)?;
            black_box(&found);
        }
        windows.push((time_of_this_thread() - start).as_nanos() as f64 / rounds as f64);
    }
    Ok(least(windows))
}
