//! What the parsers are measured with: the bytes of both directions, as programs write them.
//!
//! Each protocol's recorded conversations have a folder `bench` with two files: `small` is one exchange as short as they
//! are in practice, `large` is one that takes many bytes. A file has these lines:
//!
//! ```text
//! # what a round is
//! > hexadecimal bytes of a request, before the first round
//! < hexadecimal bytes of a response
//! round of 1 (the exchanges in a round)
//! > ...
//! < ...
//! ```
//!
//! Stream ids of HTTP/2 are used once. A line before the rounds says by how much they grow from one to the next:
//! `stream ids grow by 2`.

use std::fs;

use anyhow::{Context as _, Result, bail};
use onlooker_protocols::{Direction, Spec};

/// A round that is repeated on a connection.
#[derive(Debug)]
pub(super) struct Conversation {
    /// What passes in a round.
    pub(super) what: String,
    /// What comes before the first round.
    pub(super) opening: Vec<(Direction, Vec<u8>)>,
    pub(super) round: Vec<(Direction, Vec<u8>)>,
    /// The number of exchanges in a round.
    pub(super) exchanges: usize,
    /// By how much the stream ids of HTTP/2 grow with each round, and where they are: a message and an offset in it.
    growth: u32,
    stream_ids: Vec<(usize, usize)>,
}

impl Conversation {
    /// The conversation of this name (`small` or `large`) of a protocol.
    pub(super) fn read(protocol: &Spec, name: &str) -> Result<Self> {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocols/tests/fixtures");
        let path = format!("{fixtures}/{}/bench/{name}.talk", protocol.name);
        let lines = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&lines).with_context(|| format!("cannot parse {path}"))
    }

    fn parse(lines: &str) -> Result<Self> {
        let mut conversation = Self {
            what: String::new(),
            opening: Vec::new(),
            round: Vec::new(),
            exchanges: 0,
            growth: 0,
            stream_ids: Vec::new(),
        };
        for line in lines.lines() {
            match line.split_once(' ') {
                Some(("#", what)) => what.clone_into(&mut conversation.what),
                Some((">", hex)) => conversation.push(Direction::ToServer, bytes(hex)?),
                Some(("<", hex)) => conversation.push(Direction::ToClient, bytes(hex)?),
                Some(("stream", rest)) => {
                    let growth = rest.strip_prefix("ids grow by ").context("a growth of stream ids")?;
                    conversation.growth = growth.parse().context("a growth of stream ids")?;
                }
                Some(("round", rest)) => {
                    let count = rest.strip_prefix("of ").context("a round without a number of exchanges")?;
                    conversation.exchanges = count.parse().context("a round's number of exchanges")?;
                }
                _ => bail!("neither request, response nor round: {line}"),
            }
        }
        if conversation.growth > 0 {
            conversation.find_stream_ids()?;
        }
        Ok(conversation)
    }

    /// Each message of a round holds whole frames of streams.
    fn find_stream_ids(&mut self) -> Result<()> {
        for (message, (_, bytes)) in self.round.iter().enumerate() {
            let mut at = 0;
            while at < bytes.len() {
                let header = bytes.get(at..at + FRAME_HEADER).context("a frame")?;
                self.stream_ids.push((message, at + 5));
                at += FRAME_HEADER + u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            }
        }
        Ok(())
    }

    /// Prepares the next round.
    pub(super) fn go_on(&mut self) {
        for &(message, at) in &self.stream_ids {
            if let Some(id) = self.round[message].1.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut()) {
                *id = (u32::from_be_bytes(*id) + self.growth).to_be_bytes();
            }
        }
    }

    fn push(&mut self, direction: Direction, bytes: Vec<u8>) {
        let part = if self.exchanges == 0 { &mut self.opening } else { &mut self.round };
        part.push((direction, bytes));
    }

    pub(super) fn bytes(&self) -> usize {
        self.round.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// RFC 9113 4.1: three bytes of length, two of type and flags, four of the stream's id.
const FRAME_HEADER: usize = 9;

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let byte =
        |at| u8::from_str_radix(hex.get(at..at + 2).context("half a byte")?, 16).context("no hexadecimal digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}
