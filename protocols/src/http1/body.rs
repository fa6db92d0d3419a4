//! Steps over the body of a message and finds its end (RFC 9112 6 and 7).

use super::framing::Framing;
use super::tail::EndMark;
use crate::kit::pieces::Content;

/// A body that has not ended.
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

/// What one step consumed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Bytes on the wire.
    pub(super) bytes: u64,
    /// Bytes of content, without the transfer coding.
    pub(super) content: u64,
    pub(super) ended: bool,
}

/// The hole hides the framing. The mark is how the end of the body will look.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hidden(pub(super) EndMark);

/// Trailers are fields, so their limit is that of a head.
const MAX_TRAILERS_LENGTH: usize = super::head::MAX_LENGTH;
/// Hexadecimal digits of a 64-bit number.
const MAX_SIZE_DIGITS: u8 = 16;

impl Body {
    /// `None` for an empty body.
    pub(super) fn new(framing: Framing) -> Option<Self> {
        match framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(left) => Some(Self::Length { left }),
            Framing::Chunked { trailers } => Some(Self::Chunked { chunk: Chunk::START, trailers }),
            Framing::UntilClose | Framing::Broken => Some(Self::UntilClose),
        }
    }

    /// Consumes the bytes that belong to the body, or some of them. Hands their content to `reader`.
    pub(super) fn bytes(&mut self, bytes: &[u8], reader: &mut impl FnMut(Content<'_>)) -> Result<Passed, &'static str> {
        match self {
            Self::Chunked { chunk, .. } => chunk.bytes(bytes, reader),
            _ => Ok(self.plain(Content::Bytes(bytes), reader)),
        }
    }

    /// Consumes bytes that were not captured.
    pub(super) fn gap(&mut self, missing: u64, reader: &mut impl FnMut(Content<'_>)) -> Result<Passed, Hidden> {
        match self {
            Self::Chunked { chunk, trailers } => {
                let passed = chunk.gap(missing, *trailers)?;
                reader(Content::Hole(missing));
                Ok(passed)
            }
            _ => Ok(self.plain(Content::Hole(missing), reader)),
        }
    }

    /// Consumes part of a body without transfer coding.
    #[inline]
    fn plain(&mut self, content: Content<'_>, reader: &mut impl FnMut(Content<'_>)) -> Passed {
        let (content, ended) = match self {
            Self::Length { left } => {
                let content = content.first(*left);
                *left -= content.len();
                (content, *left == 0)
            }
            Self::Chunked { .. } | Self::UntilClose => (content, false),
        };
        reader(content);
        Passed { bytes: content.len(), content: content.len(), ended }
    }
}

impl Chunk {
    const START: Self = Self::Size { digits: 0, size: 0 };

    fn bytes(&mut self, bytes: &[u8], reader: &mut impl FnMut(Content<'_>)) -> Result<Passed, &'static str> {
        let mut at = 0;
        let mut content = 0;
        while at < bytes.len() {
            match *self {
                Self::Data { left } => {
                    let data = Content::Bytes(&bytes[at..]).first(left);
                    let taken = data.len();
                    reader(data);
                    // `taken` is at most the number of bytes here.
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
        // Leading zeros cannot overflow and are not counted.
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const CHUNKED: Framing = Framing::Chunked { trailers: false };

    /// The content, and the bytes consumed until the end if there was one.
    fn walk(framing: Framing, pieces: &[&str]) -> Result<(u64, Option<u64>), &'static str> {
        let mut body = Body::new(framing).expect("a body");
        let (mut content, mut taken, mut read) = (0, 0, 0);
        for piece in pieces {
            let mut rest = piece.as_bytes();
            while !rest.is_empty() {
                let passed = body.bytes(rest, &mut |content| read += content.len())?;
                content += passed.content;
                taken += passed.bytes;
                assert_eq!(read, content, "the reader has the content");
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
    fn invalid_chunks_fail(#[case] wire: &str, #[case] why: &str) {
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
        let mut read = 0;
        let mut reader = |content: Content<'_>| read += content.len();
        body.bytes(b"ff\r\nabc", &mut reader).unwrap();
        assert_eq!(body.gap(252, &mut reader), Ok(Passed { bytes: 252, content: 252, ended: false }));
        assert_eq!(body.bytes(b"\r\n0\r\n\r\n", &mut reader), Ok(Passed { bytes: 7, content: 0, ended: true }));
        assert_eq!(read, 255);
    }

    #[test]
    fn a_hole_over_a_chunks_end_hides_the_boundary() {
        let hidden_behind = |bytes: &[u8], missing| {
            let mut body = Body::new(CHUNKED).unwrap();
            body.bytes(bytes, &mut |_| {}).unwrap();
            body.gap(missing, &mut |_| panic!("the hole is no content"))
        };
        assert_eq!(hidden_behind(b"ff\r\nabc", 253), Err(Hidden(EndMark::LastChunk)));
        assert_eq!(hidden_behind(b"0\r\nx", 1), Err(Hidden(EndMark::EmptyLine)));
    }
}
