//! The fast path for requests and strings that are complete in the input. They are borrowed.

use super::line::{CR_LF, KEPT};

/// A request that is complete in the input. Nearly all are.
#[derive(Debug)]
pub(super) struct WholeRequest<'b> {
    /// Its first strings. Empty if longer than the limit.
    pub(super) words: [&'b [u8]; 3],
    pub(super) strings: u64,
    pub(super) length: usize,
}

impl<'b> WholeRequest<'b> {
    /// `None` if the bytes begin with anything else.
    pub(super) fn at_start(bytes: &'b [u8]) -> Option<Self> {
        if bytes.first() != Some(&b'*') {
            return None;
        }
        let (strings, mut length) = plain_number(bytes).filter(|&(strings, _)| strings > 0)?;
        let mut words = [&[][..]; 3];
        let mut wanted = words.iter_mut();
        for _ in 0..strings {
            let (text, used) = plain_string(&bytes[length..])?;
            length += used;
            if let Some(word) = wanted.next()
                && text.len() <= KEPT
            {
                *word = text;
            }
        }
        Some(Self { words, strings, length })
    }
}

/// A string, and its length on the wire. `None` if it is incomplete or anything else.
pub(super) fn plain_string(bytes: &[u8]) -> Option<(&[u8], usize)> {
    if bytes.first() != Some(&b'$') {
        return None;
    }
    let (length, begin) = plain_number(bytes)?;
    let end = begin.checked_add(usize::try_from(length).ok()?)?;
    let after = end.checked_add(CR_LF.len())?;
    (bytes.get(end..after)? == CR_LF).then(|| (&bytes[begin..end], after))
}

/// The number after the type of a line, and the length of the line. `None` if it is incomplete or anything else.
pub(super) fn plain_number(line: &[u8]) -> Option<(u64, usize)> {
    /// The digits of the longest string that Redis accepts.
    const MOST_DIGITS: usize = 10;
    let mut number = 0;
    for (at, &byte) in line.iter().enumerate().skip(1).take(MOST_DIGITS + 1) {
        match byte {
            b'0'..=b'9' => number = number * 10 + u64::from(byte - b'0'),
            b'\r' if at > 1 && line.get(at + 1) == Some(&b'\n') => return Some((number, at + 2)),
            _ => return None,
        }
    }
    None
}
