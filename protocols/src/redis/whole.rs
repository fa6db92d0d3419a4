//! What lies whole in the bytes that pass, and so is read where it lies.

use super::frame::{CR_LF, KEPT};

/// A request that lies whole in what passes, as nearly all do.
#[derive(Debug)]
pub(super) struct WholeRequest<'b> {
    /// The first of its strings, as many as may matter; empty where one is longer than what is kept.
    pub(super) words: [&'b [u8]; 3],
    pub(super) strings: u64,
    pub(super) length: usize,
}

impl<'b> WholeRequest<'b> {
    /// `None` where the bytes begin with anything else.
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

/// A string, and how long it is with what is around it; `None` for what is anything else, or not all there.
pub(super) fn plain_string(bytes: &[u8]) -> Option<(&[u8], usize)> {
    if bytes.first() != Some(&b'$') {
        return None;
    }
    let (length, begin) = plain_number(bytes)?;
    let end = begin.checked_add(usize::try_from(length).ok()?)?;
    let after = end.checked_add(CR_LF.len())?;
    (bytes.get(end..after)? == CR_LF).then(|| (&bytes[begin..end], after))
}

/// The digits of a line after its type, and how long the line is; `None` for what is anything else, or not all there.
pub(super) fn plain_number(line: &[u8]) -> Option<(u64, usize)> {
    /// No length that [`LONGEST_STRING`](super::frame::LONGEST_STRING) allows has more.
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
