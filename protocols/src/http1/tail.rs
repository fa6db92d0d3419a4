//! Recognizes the end of a message by the last bytes of an operation, when its framing is lost.
//!
//! So few bytes are no proof, because data may end like a message. If they can be data, the end is [`Shown::Perhaps`], and
//! the next bytes decide.

use super::lines::is_token_char;
use crate::kit::tail::Tail;

/// How the end of a message will look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndMark {
    /// The operation ends with a chunk of size 0.
    LastChunk,
    /// The same, or the operation ends with a field and an empty line.
    Trailers,
    /// The operation ends with an empty line, of a head without body or of trailers.
    EmptyLine,
    /// As `LastChunk` if the body is chunked, which is unknown.
    Perhaps,
    /// Nothing shows it, but it is not before this position of the stream.
    NotBefore(u64),
    /// Nothing shows it.
    Never,
}

impl EndMark {
    /// Whether a message without the mark has not ended.
    pub(super) fn is_sure(self) -> bool {
        matches!(self, Self::LastChunk | Self::Trailers | Self::EmptyLine)
    }
}

/// Whether the last bytes of an operation end the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    No,
    /// They can, and can be data.
    Perhaps,
    Yes,
}

/// How much text of a line must be seen for it to be a trailer field perhaps. This excludes binary chunks that end like
/// an empty line.
const LINE: usize = 8;

impl EndMark {
    /// Whether an operation ends the message. `seen` are its last bytes.
    pub(super) fn shown_by(self, seen: &[u8]) -> Shown {
        match (self, Lines::of(seen)) {
            (EndMark::NotBefore(_) | EndMark::Never, _) => Shown::No,
            // A hole may hide the rest of the mark.
            (_, None) if matches!(seen, b"\n" | b"\r\n" | b"\n\r\n") => Shown::Perhaps,
            (_, None) => Shown::No,
            (EndMark::EmptyLine, Some(_)) => Shown::Yes,
            (EndMark::LastChunk, Some(lines)) => lines.last_chunk(),
            (EndMark::Perhaps, Some(lines)) if lines.begin_with_zeros() => Shown::No,
            (EndMark::Perhaps, Some(lines)) => lines.last_chunk(),
            (EndMark::Trailers, Some(lines)) => lines.last_chunk().max(lines.field()),
        }
    }
}

/// The lines before an empty line.
#[derive(Debug, Clone, Copy)]
struct Lines<'a> {
    /// Without the last line end.
    before: &'a [u8],
    line_end: &'a [u8],
    /// Bytes before them are no longer held.
    is_cut: bool,
}

impl<'a> Lines<'a> {
    fn of(seen: &'a [u8]) -> Option<Self> {
        let is_cut = seen.len() == Tail::LENGTH;
        [&b"\r\n"[..], b"\n"].into_iter().find_map(|line_end| {
            let before = seen.strip_suffix(line_end)?.strip_suffix(line_end)?;
            Some(Self { before, line_end, is_cut })
        })
    }

    /// The bytes before the zeros at the end, if there are zeros.
    fn before_zeros(self) -> Option<&'a [u8]> {
        let zeros = self.before.iter().rev().take_while(|&&byte| byte == b'0').count();
        (zeros > 0).then(|| &self.before[..self.before.len() - zeros])
    }

    fn begin_with_zeros(self) -> bool {
        self.before_zeros() == Some(&[])
    }

    /// Whether the last line is a size of 0, after the end of a chunk.
    fn last_chunk(self) -> Shown {
        match self.before_zeros() {
            // The operation begins with it.
            Some([]) if !self.is_cut => Shown::Yes,
            Some(data) if data.ends_with(self.line_end) && !self.is_one_chunk() => Shown::Yes,
            Some(data) if data.is_empty() || data.ends_with(b"\n") => Shown::Perhaps,
            None if self.before.is_empty() => Shown::Perhaps,
            Some(_) | None => Shown::No,
        }
    }

    /// Whether the lines are one chunk whose data ends with a line of zeros: its size is there and matches.
    fn is_one_chunk(self) -> bool {
        let ends = memchr::memchr_iter(b'\n', self.before);
        let mut begin = 0;
        ends.into_iter().any(|end| {
            let line = self.before[begin..end].trim_ascii_end();
            begin = end + 1;
            let data = self.before.len() - begin + self.line_end.len();
            let size = std::str::from_utf8(line).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
            size == Some(data)
        })
    }

    /// Whether the last line looks like a field.
    fn field(self) -> Shown {
        let begin = memchr::memrchr(b'\n', self.before).map(|end| end + 1);
        let line = &self.before[begin.unwrap_or_default()..];
        let is_text = line.iter().all(|byte| matches!(byte, b' '..=b'~'));
        let name = line.iter().take_while(|&&byte| is_token_char(byte)).count();
        let is_named = name > 0 && line[name..].starts_with(b": ");
        match is_text {
            true if is_named => Shown::Yes,
            true if begin.is_none() && line.len() >= LINE => Shown::Perhaps,
            _ => Shown::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::last_chunk("abc\r\n0\r\n\r\n", EndMark::LastChunk, Shown::Yes)]
    #[case::last_chunk_alone("0\r\n\r\n", EndMark::LastChunk, Shown::Yes)]
    #[case::bare_line_feeds("abc\n0\n\n", EndMark::LastChunk, Shown::Yes)]
    #[case::many_zeros("\r\n000\r\n\r\n", EndMark::LastChunk, Shown::Yes)]
    #[case::more_zeros_than_can_be_seen("x000000000000\r\n\r\n", EndMark::LastChunk, Shown::Perhaps)]
    #[case::end_of_data_that_ends_in_zero("price: 10\r\n\r\n", EndMark::LastChunk, Shown::No)]
    #[case::data_that_is_a_line_of_zero("ab\r\n3\r\n0\r\n\r\n", EndMark::LastChunk, Shown::Perhaps)]
    #[case::data_that_ends_in_a_line_of_zero("8\r\n1234\n0\r\n\r\n", EndMark::LastChunk, Shown::Perhaps)]
    #[case::data_of_two_lines("b\r\nabcdef\r\n0\r\n\r\n", EndMark::LastChunk, Shown::Perhaps)]
    #[case::line_ends_mixed("abcdefghij\n0\r\n\r\n", EndMark::LastChunk, Shown::Perhaps)]
    #[case::empty_line_is_no_chunk("abc\r\n\r\n", EndMark::LastChunk, Shown::No)]
    #[case::empty_line_after_a_hole("\r\n\r\n", EndMark::LastChunk, Shown::Perhaps)]
    #[case::line_end_after_a_hole("\n", EndMark::LastChunk, Shown::Perhaps)]
    #[case::empty_line("abc\r\n\r\n", EndMark::EmptyLine, Shown::Yes)]
    #[case::empty_line_half_hidden("\n\r\n", EndMark::EmptyLine, Shown::Perhaps)]
    #[case::line("abc\r\n", EndMark::EmptyLine, Shown::No)]
    #[case::trailer("x-sum: 1\r\n\r\n", EndMark::Trailers, Shown::Yes)]
    #[case::trailer_after_another("b: 2\r\nx-sum: 1\r\n\r\n", EndMark::Trailers, Shown::Yes)]
    #[case::last_chunk_without_the_trailer("\r\n0\r\n\r\n", EndMark::Trailers, Shown::Yes)]
    #[case::trailer_whose_name_is_hidden("x-sum: 0123456789abcdef\r\n\r\n", EndMark::Trailers, Shown::Perhaps)]
    #[case::data_that_ends_a_line("5\r\nhello world..\r\n\r\n", EndMark::Trailers, Shown::Perhaps)]
    #[case::data_of_a_line("ab\r\nhello\r\n\r\n", EndMark::Trailers, Shown::No)]
    #[case::time_of_day("ab\r\n12:30:45\r\n\r\n", EndMark::Trailers, Shown::No)]
    #[case::binary_data("\u{1}\u{2}x-sum:\r\n\r\n", EndMark::Trailers, Shown::No)]
    #[case::perhaps("\r\n0\r\n\r\n", EndMark::Perhaps, Shown::Yes)]
    #[case::perhaps_of_a_number("0\r\n\r\n", EndMark::Perhaps, Shown::No)]
    #[case::never("0\r\n\r\n", EndMark::Never, Shown::No)]
    fn a_tail_shows_the_end(#[case] tail: &str, #[case] mark: EndMark, #[case] shown: Shown) {
        let mut whole = Tail::default();
        whole.push(tail.as_bytes());
        assert_eq!(mark.shown_by(whole.bytes()), shown);
        let mut single = Tail::default();
        tail.as_bytes().iter().for_each(|&byte| single.push(&[byte]));
        assert_eq!(mark.shown_by(single.bytes()), shown);
    }
}
