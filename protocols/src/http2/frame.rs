//! Frame headers (RFC 9113 4.1, 6).

use Stream::{Any, Connection, Request};

pub(super) const HEADER_LENGTH: usize = 9;
/// RFC 9113 6.5.2: the longest payload before a setting is known.
pub(super) const INITIAL_MAX_LENGTH: u32 = 16_384;
/// RFC 9113 6.5.2: the longest payload that a setting can allow.
pub(super) const LARGEST_MAX_LENGTH: u32 = (1 << 24) - 1;

/// RFC 9113 6: the kinds of frames, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// Any other number. Such frames are ignored (RFC 9113 5.5).
    Extension,
}

pub(super) mod flag {
    /// Of DATA and HEADERS.
    pub(in super::super) const END_STREAM: u8 = 0x1;
    /// Of SETTINGS and PING.
    pub(in super::super) const ACK: u8 = 0x1;
    /// Of HEADERS, PUSH_PROMISE and CONTINUATION.
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    /// Of DATA, HEADERS and PUSH_PROMISE.
    pub(in super::super) const PADDED: u8 = 0x8;
    /// Of HEADERS.
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// What a frame may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Connection,
    Request,
    Any,
}

/// What there is to know of a kind of frame.
struct Rule {
    kind: Kind,
    flags: u8,
    stream: Stream,
    /// The shortest and the longest payload. `u32::MAX`: as long as a setting allows.
    length: [u32; 2],
    /// Its payload says something that a parser needs.
    is_read: bool,
}

/// Indexed by the number of the kind.
const RULES: [Rule; 10] = [
    rule(Kind::Data, flag::END_STREAM | flag::PADDED, Request, [0, u32::MAX], false),
    rule(
        Kind::Headers,
        flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
        Request,
        [0, u32::MAX],
        true,
    ),
    rule(Kind::Priority, 0, Request, [5, 5], false),
    rule(Kind::RstStream, 0, Request, [4, 4], true),
    rule(Kind::Settings, flag::ACK, Connection, [0, u32::MAX], true),
    rule(Kind::PushPromise, flag::END_HEADERS | flag::PADDED, Request, [4, u32::MAX], true),
    rule(Kind::Ping, flag::ACK, Connection, [8, 8], false),
    rule(Kind::GoAway, 0, Connection, [8, u32::MAX], true),
    rule(Kind::WindowUpdate, 0, Any, [4, 4], false),
    rule(Kind::Continuation, flag::END_HEADERS, Request, [0, u32::MAX], true),
];

const fn rule(kind: Kind, flags: u8, stream: Stream, length: [u32; 2], is_read: bool) -> Rule {
    Rule { kind, flags, stream, length, is_read }
}

/// A header that may be of no valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Of the payload.
    pub(super) length: u32,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    is_reserved_bit_set: bool,
    number: u8,
}

impl FrameHeader {
    pub(super) fn parse(bytes: &[u8; HEADER_LENGTH]) -> Self {
        let [l0, l1, l2, number, flags, s0, s1, s2, s3] = *bytes;
        let kind = RULES.get(usize::from(number)).map_or(Kind::Extension, |rule| rule.kind);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: stream & 0x7fff_ffff,
            is_reserved_bit_set: stream >> 31 != 0,
            number,
        }
    }

    /// Fails with the reason if every endpoint treats the frame as an error of the connection.
    pub(super) fn check(&self, max_length: u32) -> Result<(), &'static str> {
        if self.length > max_length {
            return Err("a frame is longer than allowed");
        }
        let Some(rule) = self.rule() else { return Ok(()) };
        let is_right_stream = match rule.stream {
            Connection => self.stream == 0,
            Request => self.stream != 0,
            Any => true,
        };
        if !is_right_stream {
            return Err("a frame is of a stream that it cannot be of");
        }
        let [shortest, longest] = rule.length;
        if !(shortest..=longest).contains(&self.length) || (rule.kind == Kind::Settings && !self.is_whole_settings()) {
            return Err("a frame has a wrong length");
        }
        Ok(())
    }

    /// Whether it is valid, and nothing in it is left to later versions. Other bytes hardly ever look so.
    pub(super) fn is_usual(&self, max_length: u32) -> bool {
        let is_known = self.rule().is_some_and(|rule| self.flags & !rule.flags == 0);
        let is_empty_head = self.kind == Kind::Headers && self.length == 0;
        is_known && !is_empty_head && !self.is_reserved_bit_set && self.check(max_length).is_ok()
    }

    /// RFC 9113 6.5: settings have six bytes, and an acknowledgement has none.
    fn is_whole_settings(&self) -> bool {
        self.length.is_multiple_of(6) && (!self.has(flag::ACK) || self.length == 0)
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// It says with its flags that it is the last of its direction of the stream.
    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.has(flag::END_STREAM)
    }

    /// Whether the payload says something that a parser needs.
    pub(super) fn is_read(&self) -> bool {
        self.rule().is_some_and(|rule| rule.is_read)
    }

    fn rule(&self) -> Option<&'static Rule> {
        RULES.get(usize::from(self.number))
    }
}

/// The part of a HEADERS or PUSH_PROMISE payload that is behind its fixed fields and before its padding.
pub(super) fn header_block<'a>(header: &FrameHeader, payload: &'a [u8]) -> Result<&'a [u8], &'static str> {
    const WRONG: &str = "the padding of a frame is longer than the frame";
    let (padding, rest) = if header.has(flag::PADDED) && header.kind != Kind::Continuation {
        let (&padding, rest) = payload.split_first().ok_or(WRONG)?;
        (usize::from(padding), rest)
    } else {
        (0, payload)
    };
    let fixed = match header.kind {
        Kind::Headers if header.has(flag::PRIORITY) => 5,
        Kind::PushPromise => 4,
        _ => 0,
    };
    let end = rest.len().checked_sub(padding).ok_or(WRONG)?;
    rest.get(fixed..end).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn header(length: u32, number: u8, flags: u8, stream: u32) -> FrameHeader {
        let [_, l0, l1, l2] = length.to_be_bytes();
        let [s0, s1, s2, s3] = stream.to_be_bytes();
        FrameHeader::parse(&[l0, l1, l2, number, flags, s0, s1, s2, s3])
    }

    #[test]
    fn each_rule_is_at_the_number_of_its_kind() {
        for (number, rule) in RULES.iter().enumerate() {
            assert_eq!(rule.kind as usize, number);
        }
    }

    #[rstest]
    #[case::data(header(16_384, 0, 0x9, 1), true)]
    #[case::headers(header(1, 1, 0x2d, 3), true)]
    #[case::headers_before_continuation(header(0, 1, 0x1, 3), true)]
    #[case::settings(header(12, 4, 0, 0), true)]
    #[case::acknowledgement(header(0, 4, 1, 0), true)]
    #[case::window_of_the_connection(header(4, 8, 0, 0), true)]
    #[case::extension(header(5, 0x10, 0xff, 7), true)]
    #[case::too_long(header(16_385, 0, 0, 1), false)]
    #[case::data_of_the_connection(header(1, 0, 0, 0), false)]
    #[case::settings_of_a_stream(header(6, 4, 0, 1), false)]
    #[case::part_of_a_setting(header(7, 4, 0, 0), false)]
    #[case::acknowledgement_with_settings(header(6, 4, 1, 0), false)]
    #[case::ping(header(7, 6, 0, 0), false)]
    #[case::reset(header(5, 3, 0, 1), false)]
    fn a_frame_is_valid_by_its_rule(#[case] header: FrameHeader, #[case] is_valid: bool) {
        assert_eq!(header.check(INITIAL_MAX_LENGTH).is_ok(), is_valid);
    }

    #[rstest]
    #[case::unknown_flag(header(1, 0, 0x4, 1))]
    #[case::extension(header(5, 0x10, 0, 7))]
    #[case::reserved_bit(header(1, 0, 0, 1 << 31 | 1))]
    #[case::empty_headers(header(0, 1, 0, 1))]
    fn a_valid_frame_may_be_unusual(#[case] header: FrameHeader) {
        assert!(header.check(INITIAL_MAX_LENGTH).is_ok() && !header.is_usual(INITIAL_MAX_LENGTH));
    }

    #[rstest]
    #[case::plain(header(3, 1, 0x4, 1), b"abc", Some(&b"abc"[..]))]
    #[case::padded(header(6, 1, 0xc, 1), b"\x02abc\0\0", Some(&b"abc"[..]))]
    #[case::priority(header(8, 1, 0x24, 1), b"\0\0\0\0\x10abc", Some(&b"abc"[..]))]
    #[case::promise(header(8, 5, 0x4, 1), b"\0\0\0\x02abc", Some(&b"abc"[..]))]
    #[case::only_padding(header(3, 1, 0xc, 1), b"\x02\0\0", Some(&b""[..]))]
    #[case::too_much_padding(header(3, 1, 0xc, 1), b"\x03\0\0", None)]
    #[case::too_short(header(3, 1, 0x24, 1), b"abc", None)]
    fn a_header_block_is_between_fixed_fields_and_padding(
        #[case] header: FrameHeader,
        #[case] payload: &[u8],
        #[case] block: Option<&[u8]>,
    ) {
        assert_eq!(header_block(&header, payload).ok(), block);
    }
}
