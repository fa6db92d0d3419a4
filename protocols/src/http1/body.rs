//! Where a message's body ends (RFC 9112 6 and 7), and stepping over it.

/// How the body of a message is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// RFC 9112 6.3: no body, e.g. 204, 304, any response to HEAD.
    None,
    Length(u64),
    /// Perhaps with trailers, that is, announced ones.
    Chunked {
        trailers: bool,
    },
    /// RFC 9112 6.3 rule 8: until the connection closes.
    UntilClose,
    /// The fields contradict each other or hold no number: the receiver gives up on the connection, or guesses.
    Broken,
}

/// A body on its way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    Length { left: u64 },
    Chunked { chunk: Chunk, trailers: bool },
    UntilClose,
}

/// RFC 9112 7.1
#[derive(Debug, Clone, Copy)]
pub(super) enum Chunk {
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    Data { left: u64 },
    DataEnd,
    Trailers { line_is_empty: bool, length: usize },
}

/// How far a step went.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Bytes of the connection.
    pub(super) bytes: u64,
    /// Bytes of content among them: without the transfer coding.
    pub(super) content: u64,
    pub(super) ended: bool,
}

/// A hole in which the framing was lost, and what the end of the body will look like.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hidden(pub(super) EndMark);

/// How a message whose boundary is hidden can be seen to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndMark {
    /// An operation that ends in a chunk of size 0.
    LastChunk,
    /// The same, or an operation that ends in a line of text and an empty line.
    Trailers,
    /// An operation that ends in an empty line: of a head without body, or of trailers.
    EmptyLine,
    /// Like a body of chunks, if it is one: that is not known.
    Perhaps,
    /// It can't.
    Never,
}

impl EndMark {
    /// Whether the message can't have ended as long as the mark was not seen.
    pub(super) fn is_sure(self) -> bool {
        !matches!(self, Self::Perhaps | Self::Never)
    }
}

/// Trailers are fields: they get as much room as a head.
const MAX_TRAILERS_LENGTH: usize = super::head::MAX_LENGTH;
/// As many hexadecimal digits as fit into 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

impl Body {
    /// `None` for a body that is over before it begins.
    pub(super) fn new(framing: Framing) -> Option<Self> {
        match framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(left) => Some(Self::Length { left }),
            Framing::Chunked { trailers } => Some(Self::Chunked { chunk: Chunk::START, trailers }),
            Framing::UntilClose | Framing::Broken => Some(Self::UntilClose),
        }
    }

    /// Steps over what of `bytes` belongs to the body, or to the part of it that needs looking at.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<Passed, &'static str> {
        let len = bytes.len() as u64;
        match self {
            Self::Length { left } => {
                let taken = len.min(*left);
                *left -= taken;
                Ok(Passed { bytes: taken, content: taken, ended: *left == 0 })
            }
            Self::Chunked { chunk, .. } => chunk.bytes(bytes),
            Self::UntilClose => Ok(Passed { bytes: len, content: len, ended: false }),
        }
    }

    /// The same for bytes that were not captured.
    pub(super) fn gap(&mut self, missing: u64) -> Result<Passed, Hidden> {
        match self {
            Self::Length { left } => {
                let taken = missing.min(*left);
                *left -= taken;
                Ok(Passed { bytes: taken, content: taken, ended: *left == 0 })
            }
            Self::Chunked { chunk, trailers } => chunk.gap(missing, *trailers),
            Self::UntilClose => Ok(Passed { bytes: missing, content: missing, ended: false }),
        }
    }
}

impl Chunk {
    const START: Self = Self::Size { digits: 0, size: 0 };

    fn bytes(&mut self, bytes: &[u8]) -> Result<Passed, &'static str> {
        let mut at = 0;
        let mut content = 0;
        while at < bytes.len() {
            match *self {
                Self::Data { left } => {
                    let taken = left.min((bytes.len() - at) as u64);
                    // At most as many as there are bytes here.
                    at += taken as usize;
                    content += taken;
                    *self = if taken == left { Self::DataEnd } else { Self::Data { left: left - taken } };
                }
                Self::Extension { size } => match memchr::memchr(b'\n', &bytes[at..]) {
                    Some(line_end) => {
                        at += line_end + 1;
                        *self = Self::after_size(size);
                    }
                    None => at = bytes.len(),
                },
                Self::Size { digits, size } => {
                    *self = Self::after_digit(digits, size, bytes[at])?;
                    at += 1;
                }
                Self::DataEnd => {
                    match bytes[at] {
                        b'\r' => {}
                        b'\n' => *self = Self::START,
                        _ => return Err("chunk longer than its size"),
                    }
                    at += 1;
                }
                Self::Trailers { line_is_empty, length } => {
                    let byte = bytes[at];
                    at += 1;
                    if byte == b'\n' && line_is_empty {
                        return Ok(Passed { bytes: at as u64, content, ended: true });
                    }
                    if length >= MAX_TRAILERS_LENGTH {
                        return Err("trailers too long");
                    }
                    let line_is_empty = byte == b'\n' || (line_is_empty && byte == b'\r');
                    *self = Self::Trailers { line_is_empty, length: length + 1 };
                }
            }
        }
        Ok(Passed { bytes: at as u64, content, ended: false })
    }

    fn gap(&mut self, missing: u64, trailers: bool) -> Result<Passed, Hidden> {
        match *self {
            Self::Data { left } if missing <= left => {
                *self = if missing == left { Self::DataEnd } else { Self::Data { left: left - missing } };
                Ok(Passed { bytes: missing, content: missing, ended: false })
            }
            Self::Trailers { .. } => Err(Hidden(EndMark::EmptyLine)),
            _ if trailers => Err(Hidden(EndMark::Trailers)),
            _ => Err(Hidden(EndMark::LastChunk)),
        }
    }

    fn after_digit(digits: u8, size: u64, byte: u8) -> Result<Self, &'static str> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\n' if digits > 0 => return Ok(Self::after_size(size)),
            b'\r' | b';' | b' ' | b'\t' if digits > 0 => return Ok(Self::Extension { size }),
            _ => return Err("chunk without a size"),
        };
        // Leading zeros don't count: they can't overflow.
        let digits = if size == 0 { 1 } else { digits + 1 };
        if digits > MAX_SIZE_DIGITS {
            return Err("chunk size beyond 64 bits");
        }
        Ok(Self::Size { digits, size: (size << 4) | u64::from(digit) })
    }

    fn after_size(size: u64) -> Self {
        match size {
            0 => Self::Trailers { line_is_empty: true, length: 0 },
            left => Self::Data { left },
        }
    }
}

/// The last bytes that passed without a hole between them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail {
    /// The newest byte is the lowest.
    bytes: u128,
    len: u8,
}

impl Tail {
    /// As much as is captured of every operation's end.
    const ROOM: usize = 16;
    /// So much of a line must be seen, and be text, to be taken for a trailer's. Chunks of binary data that happen to
    /// end like an empty line are not.
    const LINE: usize = 8;

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(Self::ROOM)..] {
            self.bytes = (self.bytes << 8) | u128::from(byte);
            self.len = (self.len + 1).min(Self::ROOM as u8);
        }
    }

    /// Whether an operation that ends here ends the message.
    pub(super) fn shows(self, mark: EndMark) -> bool {
        let room = self.bytes.to_be_bytes();
        let seen = &room[Self::ROOM - usize::from(self.len)..];
        let Some(before) = seen.strip_suffix(b"\r\n\r\n").or_else(|| seen.strip_suffix(b"\n\n")) else { return false };
        match mark {
            EndMark::Never => false,
            EndMark::EmptyLine => true,
            EndMark::LastChunk => matches!(before_zeros(before), Some(None | Some(b'\n'))),
            EndMark::Trailers => matches!(before_zeros(before), Some(None | Some(b'\n'))) || ends_in_text(before),
            EndMark::Perhaps => matches!(before_zeros(before), Some(Some(b'\n'))),
        }
    }
}

/// The byte before the zeros that this ends in, if it does. A line of them is the last chunk's size; where a hole hid
/// what was before them, they may be.
fn before_zeros(seen: &[u8]) -> Option<Option<u8>> {
    let rest = seen.len() - seen.iter().rev().take_while(|&&byte| byte == b'0').count();
    (rest < seen.len()).then(|| seen[..rest].last().copied())
}

fn ends_in_text(before: &[u8]) -> bool {
    let text = before.iter().rev().take_while(|byte| matches!(byte, b' '..=b'~')).count();
    text >= Tail::LINE
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const CHUNKED: Framing = Framing::Chunked { trailers: false };

    /// Content seen, and how many bytes were taken when it ended (`None`: it did not).
    fn walk(framing: Framing, pieces: &[&str]) -> Result<(u64, Option<u64>), &'static str> {
        let mut body = Body::new(framing).expect("a body");
        let (mut content, mut taken) = (0, 0);
        for piece in pieces {
            let mut rest = piece.as_bytes();
            while !rest.is_empty() {
                let passed = body.bytes(rest)?;
                content += passed.content;
                taken += passed.bytes;
                if passed.ended {
                    return Ok((content, Some(taken)));
                }
                rest = &rest[passed.bytes as usize..];
            }
        }
        Ok((content, None))
    }

    #[rstest]
    #[case::one("3\r\nabc\r\n0\r\n\r\nGET", 3, 13)]
    #[case::two_and_upper_case("A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", 11, 26)]
    #[case::extensions("3;a=b;c=\"d\"\r\nabc\r\n0;last\r\n\r\n", 3, 28)]
    #[case::blanks_after_the_size("3 \t\r\nabc\r\n0 \r\n\r\n", 3, 16)]
    #[case::trailers("0\r\nx-sum: 1\r\ny: 2\r\n\r\nHTTP", 0, 21)]
    #[case::bare_line_feeds("3\nabc\n0\n\nrest", 3, 9)]
    #[case::leading_zeros("00000000000000000000003\r\nabc\r\n000\r\n\r\n", 3, 37)]
    fn chunks_end_where_rfc_9112_says(#[case] wire: &str, #[case] content: u64, #[case] taken: u64) {
        assert_eq!(walk(CHUNKED, &[wire]), Ok((content, Some(taken))));
        let single: Vec<&str> = wire.split("").filter(|byte| !byte.is_empty()).collect();
        assert_eq!(walk(CHUNKED, &single), Ok((content, Some(taken))));
    }

    #[rstest]
    #[case::no_size("\r\nabc", "chunk without a size")]
    #[case::not_a_number("xyz\r\n", "chunk without a size")]
    #[case::negative("-1\r\n", "chunk without a size")]
    #[case::beyond_64_bits("10000000000000000\r\n", "chunk size beyond 64 bits")]
    #[case::data_too_long("1\r\nab\r\n", "chunk longer than its size")]
    fn broken_chunks_are_said_to_be_broken(#[case] wire: &str, #[case] why: &str) {
        assert_eq!(walk(CHUNKED, &[wire]).unwrap_err(), why);
    }

    #[test]
    fn trailers_have_a_limit() {
        let wire = format!("0\r\nx: {}", "y".repeat(MAX_TRAILERS_LENGTH));
        assert_eq!(walk(CHUNKED, &[&wire]), Err("trailers too long"));
    }

    #[test]
    fn a_hole_within_a_chunk_is_stepped_over() {
        let mut body = Body::new(CHUNKED).unwrap();
        body.bytes(b"ff\r\nabc").unwrap();
        assert_eq!(body.gap(252), Ok(Passed { bytes: 252, content: 252, ended: false }));
        assert_eq!(body.bytes(b"\r\n0\r\n\r\n"), Ok(Passed { bytes: 7, content: 0, ended: true }));
    }

    #[test]
    fn a_hole_over_a_chunks_end_hides_the_boundary() {
        let mut body = Body::new(CHUNKED).unwrap();
        body.bytes(b"ff\r\nabc").unwrap();
        assert_eq!(body.gap(253), Err(Hidden(EndMark::LastChunk)));
        let mut body = Body::new(CHUNKED).unwrap();
        body.bytes(b"0\r\nx").unwrap();
        assert_eq!(body.gap(1), Err(Hidden(EndMark::EmptyLine)));
    }

    #[rstest]
    #[case::last_chunk("abc\r\n0\r\n\r\n", EndMark::LastChunk, true)]
    #[case::last_chunk_alone("0\r\n\r\n", EndMark::LastChunk, true)]
    #[case::many_zeros("\r\n000\r\n\r\n", EndMark::LastChunk, true)]
    #[case::end_of_data_that_ends_in_zero("price: 10\r\n\r\n", EndMark::LastChunk, false)]
    #[case::empty_line_is_no_chunk("abc\r\n\r\n", EndMark::LastChunk, false)]
    #[case::empty_line("abc\r\n\r\n", EndMark::EmptyLine, true)]
    #[case::line("abc\r\n", EndMark::EmptyLine, false)]
    #[case::trailer("x-sum: 1\r\n\r\n", EndMark::Trailers, true)]
    #[case::last_chunk_without_the_trailer("\r\n0\r\n\r\n", EndMark::Trailers, true)]
    #[case::binary_data("\u{1}\u{2}x-sum:\r\n\r\n", EndMark::Trailers, false)]
    #[case::perhaps("\r\n0\r\n\r\n", EndMark::Perhaps, true)]
    #[case::perhaps_of_a_number("0\r\n\r\n", EndMark::Perhaps, false)]
    #[case::never("0\r\n\r\n", EndMark::Never, false)]
    fn a_tail_shows_the_end(#[case] tail: &str, #[case] mark: EndMark, #[case] shown: bool) {
        let mut whole = Tail::default();
        whole.push(tail.as_bytes());
        assert_eq!(whole.shows(mark), shown);
        let mut single = Tail::default();
        tail.as_bytes().iter().for_each(|&byte| single.push(&[byte]));
        assert_eq!(single.shows(mark), shown);
    }
}
