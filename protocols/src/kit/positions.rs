//! Finds a byte that occurs often.
//!
//! `memchr` finds the next one, and begins anew for the one after it. In short lines that takes longer than to look at each
//! byte once: sixteen bytes are compared at a time, and where they are equal is a mask.

use std::ops::ControlFlow;

use wide::u8x16;

const CHUNK: usize = size_of::<u8x16>();

/// Passes each position of `byte` in `bytes` to `take`, in ascending order, until `take` breaks.
#[inline]
pub(crate) fn each_position<T>(
    byte: u8,
    bytes: &[u8],
    mut take: impl FnMut(usize) -> ControlFlow<T>,
) -> ControlFlow<T> {
    let mut begin = 0;
    let (chunks, rest) = bytes.as_chunks();
    for &chunk in chunks {
        each_of_chunk(byte, chunk, |at| take(begin + at))?;
        begin += CHUNK;
    }
    // The bytes that are not there are different.
    let mut last = [!byte; CHUNK];
    last[..rest.len()].copy_from_slice(rest);
    each_of_chunk(byte, last, |at| take(begin + at))
}

#[inline]
fn each_of_chunk<T>(byte: u8, chunk: [u8; CHUNK], mut take: impl FnMut(usize) -> ControlFlow<T>) -> ControlFlow<T> {
    let mut mask = u8x16::new(chunk).simd_eq(u8x16::splat(byte)).to_bitmask();
    while mask != 0 {
        take(mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Lengths around those of one and two chunks.
    #[rstest]
    fn positions_are_those_of_the_byte(
        #[values(0, 1, 15, 16, 17, 31, 32, 33, 40)] length: usize,
        #[values(1, 2, 3, 7, 16, 17)] every: usize,
        #[values(b'\n', 0, 0xff)] byte: u8,
        #[values(0x01, 0x80, 0xff)] difference: u8,
    ) {
        let is_wanted = |at: usize| at % every == every - 1;
        let bytes: Vec<u8> = (0..length).map(|at| if is_wanted(at) { byte } else { byte ^ difference }).collect();
        let expected: Vec<usize> = (0..length).filter(|&at| is_wanted(at)).collect();
        let mut found = Vec::new();
        let all = each_position(byte, &bytes, |at| {
            found.push(at);
            ControlFlow::<()>::Continue(())
        });
        assert_eq!((found, all), (expected.clone(), ControlFlow::Continue(())));
        let first = each_position(byte, &bytes, ControlFlow::Break);
        assert_eq!(first.break_value(), expected.first().copied());
    }
}
