//! A talk as a string of bytes, for a fuzzer to change: any bytes are some talk.
//!
//! The first byte holds whether the talk is heard from its start, and how it ends. Each step has a byte for its kind, a
//! length, and as many bytes if it is bytes. An end with a length is no end, but ages the requests before it.

use super::{Piece, Talk, What};
use onlooker_protocols::{Close, Direction};

/// Bits of the first byte.
const FROM_START: u8 = 1;
const CLOSE: u8 = 0b1110;
/// Bits of a step's first byte.
const WHAT: u8 = 0b011;
const RESPONSE: u8 = 0b100;
/// The length of a hole is shifted by this many bytes, so that 16 bits can hold any length.
const SHIFT: u8 = 0b111_0000;

const BYTES: u8 = 0;
const GAP: u8 = 1;
const LOST: u8 = 2;

impl Talk {
    /// The talk of a script, and whether it is heard from its start.
    pub fn from_script(script: &[u8]) -> (bool, Self) {
        let (&first, mut rest) = script.split_first().unwrap_or((&0, &[]));
        let mut talk = Self::new().closes(match (first & CLOSE) >> 1 {
            0 => Close::Normal,
            1 => Close::Error(104),
            2 => Close::ProcessExit,
            3 => Close::Aged,
            5 => Close::Deselected,
            _ => Close::Shutdown,
        });
        while let Some(([step, low, high], after)) = rest.split_first_chunk() {
            rest = after;
            let direction = if step & RESPONSE == 0 { Direction::ToServer } else { Direction::ToClient };
            let length = u16::from_le_bytes([*low, *high]);
            let far = u64::from(length) << (8 * ((step & SHIFT) >> 4).min(4));
            talk = match step & WHAT {
                BYTES => {
                    let (said, after) = rest.split_at(rest.len().min(length.into()));
                    rest = after;
                    talk.says(direction, said)
                }
                GAP => talk.gap(direction, far),
                LOST => talk.then(direction, What::Lost(far)),
                _ if length == 0 => talk.end(direction),
                _ => talk.then(direction, What::Age),
            };
        }
        (first & FROM_START != 0, talk)
    }

    /// The script of this talk.
    pub fn to_script(&self, from_start: bool) -> Vec<u8> {
        let close = match self.close {
            Close::Normal => 0,
            Close::Error(_) => 1,
            Close::ProcessExit => 2,
            Close::Aged => 3,
            Close::Shutdown => 4,
            Close::Deselected => 5,
        };
        let mut script = vec![close << 1 | u8::from(from_start)];
        for Piece { direction, what, .. } in &self.pieces {
            let way = if *direction == Direction::ToClient { RESPONSE } else { 0 };
            match what {
                What::Bytes(bytes) => {
                    for said in bytes.chunks(u16::MAX.into()) {
                        push(&mut script, way | BYTES, said.len() as u64);
                        script.extend_from_slice(said);
                    }
                }
                What::Gap(missing) => push(&mut script, way | GAP, *missing),
                What::Lost(missing) => push(&mut script, way | LOST, *missing),
                What::End => push(&mut script, way | WHAT, 0),
                What::Age => push(&mut script, way | WHAT, 1),
            }
        }
        script
    }
}

/// Lengths beyond 16 bits are rounded.
fn push(script: &mut Vec<u8>, step: u8, length: u64) {
    let mut shift = 0_u8;
    while length >> (8 * shift) > u16::MAX.into() {
        shift += 1;
    }
    let [low, high, ..] = (length >> (8 * shift)).to_le_bytes();
    script.extend([step | shift << 4, low, high]);
}
