//! HPACK (RFC 7541): decodes header blocks.
//!
//! A [`Decoder`] may begin in the middle of a connection, and blocks may pass unseen. A field is reported as unknown if it
//! refers to an entry of the dynamic table that was inserted unseen. It is never reported with a wrong name or value.
//!
//! The caller chooses by [`Name`] which names matter. No other value is kept, not even in the dynamic table.
//!
//! ```
//! use onlooker_protocols::http2::hpack::{Decoder, Name};
//!
//! #[derive(Debug, Clone, Copy, PartialEq)]
//! enum Field {
//!     Method,
//!     Other,
//! }
//!
//! impl Name for Field {
//!     fn of(name: &[u8]) -> Self {
//!         if name == b":method" { Self::Method } else { Self::Other }
//!     }
//!     fn is_kept(&self) -> bool {
//!         *self == Self::Method
//!     }
//! }
//!
//! // `:method: GET`, then a field of the dynamic table.
//! let mut seen = Vec::new();
//! let mut decoder = Decoder::<Field>::new(false);
//! decoder.decode(&[0x82, 0xbe], |field| seen.push(field.map(|(&name, value)| (name, value.to_vec()))))?;
//! assert_eq!(seen, [Some((Field::Method, b"GET".to_vec())), None]);
//! # Ok::<(), onlooker_protocols::http2::hpack::Malformed>(())
//! ```

mod dynamic;
mod fixed;
mod huffman;
mod primitive;

use std::fmt::Debug;

use dynamic::{Dynamic, Found};
use primitive::{Literal, integer};

/// What is kept of a name.
pub trait Name: Clone + Debug {
    fn of(name: &[u8]) -> Self;

    /// Whether values of this name are kept and reported. Others are reported as empty.
    fn is_kept(&self) -> bool;

    /// The name of an entry of the static table. Its index is between 1 and 61.
    fn of_static(_index: usize, name: &'static str) -> Self {
        Self::of(name.as_bytes())
    }
}

/// The entries of the static table, in the order of their indices. The first has index 1.
pub fn static_fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    fixed::STATIC.into_iter()
}

/// A block that no encoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a header block ends within a field")]
    Truncated,
    #[error("an integer of a header block is too large")]
    Integer,
    #[error("a string of a header block is no Huffman code")]
    Huffman,
    #[error("an index of a header block has no entry")]
    Index,
    #[error("a header block changes the table size behind a field")]
    LateResize,
}

/// Decodes the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Decoder<N> {
    dynamic: Dynamic<N>,
    /// The encoder chose a table that is larger than what is kept.
    is_cut: bool,
    /// For names and values that are Huffman-coded.
    name_room: Vec<u8>,
    value_room: Vec<u8>,
}

impl<N: Name> Decoder<N> {
    /// `from_start`: the first block is the first of the connection.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        Self { dynamic: Dynamic::new(from_start), is_cut: false, name_room: Vec::new(), value_room: Vec::new() }
    }

    /// A block passed unseen. What it inserted is unknown.
    pub fn miss(&mut self) {
        self.dynamic.lose();
    }

    /// Whether the encoder has chosen a table of more than 64 KiB since this was called last. Of such a table, fields that refer to
    /// older entries than are kept are unknown.
    pub fn takes_cut(&mut self) -> bool {
        std::mem::take(&mut self.is_cut)
    }

    /// Decodes a whole block. Calls `emit` with each field, or with `None` for a field that is unknown.
    ///
    /// Fails if the block is malformed. Fields before the malformed one were emitted.
    pub fn decode(&mut self, mut block: &[u8], mut emit: impl FnMut(Option<(&N, &[u8])>)) -> Result<(), Malformed> {
        let mut has_field = false;
        while let Some(&first) = block.first() {
            match first {
                // RFC 7541 6.1: an indexed field.
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    if let Some((name, value)) = fixed::field(index) {
                        emit(Some((&N::of_static(index, name), value.as_bytes())));
                    } else {
                        match self.dynamic(index)? {
                            Found::Entry(entry) => emit(entry.name.as_ref().map(|name| (name, &*entry.value))),
                            Found::Unknown | Found::Nothing => emit(None),
                        }
                    }
                }
                // RFC 7541 6.2.1: a literal that is inserted.
                0x40..0x80 => self.literal(&mut block, 6, true, &mut emit)?,
                // RFC 7541 4.2, 6.3: a change of the table size, at the beginning of a block.
                0x20..0x40 if has_field => return Err(Malformed::LateResize),
                0x20..0x40 => {
                    self.is_cut |= self.dynamic.resize(integer(&mut block, 5)?);
                    continue;
                }
                // RFC 7541 6.2.2, 6.2.3: a literal that is not inserted, or that nobody may insert.
                0x00..0x20 => self.literal(&mut block, 4, false, &mut emit)?,
            }
            has_field = true;
        }
        Ok(())
    }

    fn dynamic(&self, index: usize) -> Result<Found<'_, N>, Malformed> {
        let index = index.checked_sub(fixed::STATIC.len() + 1).ok_or(Malformed::Index)?;
        match self.dynamic.get(index) {
            Found::Nothing => Err(Malformed::Index),
            found => Ok(found),
        }
    }

    fn literal(
        &mut self,
        block: &mut &[u8],
        bits: u32,
        is_inserted: bool,
        emit: &mut impl FnMut(Option<(&N, &[u8])>),
    ) -> Result<(), Malformed> {
        let index = integer(block, bits)?;
        let (name, name_length) = if index == 0 {
            let name = Literal::take(block)?.text(&mut self.name_room)?;
            (Some(N::of(name)), name.len())
        } else if let Some((name, _)) = fixed::field(index) {
            (Some(N::of_static(index, name)), name.len())
        } else {
            match self.dynamic(index)? {
                Found::Entry(entry) => (entry.name.clone(), entry.name_length),
                Found::Unknown | Found::Nothing => (None, 0),
            }
        };
        let value = Literal::take(block)?;
        let is_kept = name.as_ref().is_some_and(N::is_kept);
        if !is_kept && !is_inserted {
            emit(name.as_ref().map(|name| (name, &[][..])));
            return Ok(());
        }
        let value = value.text(&mut self.value_room)?;
        let kept = if is_kept { value } else { &[] };
        emit(name.as_ref().map(|name| (name, kept)));
        if is_inserted {
            self.dynamic.insert(name, (name_length, value.len()), kept);
        }
        Ok(())
    }
}
