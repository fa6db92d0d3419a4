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
        let mut conversation = Self { what: String::new(), opening: Vec::new(), round: Vec::new(), exchanges: 0 };
        for line in lines.lines() {
            match line.split_once(' ') {
                Some(("#", what)) => what.clone_into(&mut conversation.what),
                Some((">", hex)) => conversation.push(Direction::ToServer, bytes(hex)?),
                Some(("<", hex)) => conversation.push(Direction::ToClient, bytes(hex)?),
                Some(("round", rest)) => {
                    let count = rest.strip_prefix("of ").context("a round without a number of exchanges")?;
                    conversation.exchanges = count.parse().context("a round's number of exchanges")?;
                }
                _ => bail!("neither request, response nor round: {line}"),
            }
        }
        Ok(conversation)
    }

    fn push(&mut self, direction: Direction, bytes: Vec<u8>) {
        let part = if self.exchanges == 0 { &mut self.opening } else { &mut self.round };
        part.push((direction, bytes));
    }

    pub(super) fn bytes(&self) -> usize {
        self.round.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let byte =
        |at| u8::from_str_radix(hex.get(at..at + 2).context("half a byte")?, 16).context("no hexadecimal digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}
