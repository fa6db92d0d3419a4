//! Recognises HTTP/2 by its preface, or by two frames one behind the other.

use super::frame::{FrameHeader, HEADER_LENGTH, INITIAL_MAX_LENGTH, Kind, flag, header_block};
use super::head::Head;
use super::hpack::Decoder;
use super::lane::PREFACE;
use crate::moment::Direction;
use crate::spec::{ENOUGH, Looks, Sample};

/// RFC 9113 3.4: a client begins with the preface, a server with a SETTINGS frame.
pub(super) fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    let bytes = sample.bytes;
    match (direction, sample.from_start) {
        (Direction::ToServer, true) => Looks::begins_with(bytes, PREFACE),
        (Direction::ToServer, false) if bytes.starts_with(b"P") => Looks::begins_with(bytes, PREFACE),
        (Direction::ToClient, true) => begins_with_settings(bytes),
        (_, false) => frames(direction, sample),
    }
}

fn begins_with_settings(bytes: &[u8]) -> Looks {
    let Some((header, payload)) = split(bytes) else {
        let pattern = [0, 0, 0, Kind::Settings as u8, 0, 0, 0, 0, 0];
        let fits = |(index, &byte): (usize, &u8)| index == 2 || byte == pattern[index];
        return if bytes.iter().enumerate().all(fits) { Looks::RightSoFar } else { Looks::Wrong };
    };
    let is_settings = header.kind == Kind::Settings && header.flags == 0 && header.is_usual(u8::MAX.into());
    let (settings, _) = payload[..payload.len().min(header.length as usize)].as_chunks::<6>();
    // RFC 9113 6.5.2, 11.3: settings have small numbers. Those from 0xf000 on are for experiments, such as those of gRPC, and
    // those that end in 0xa test whether others are ignored.
    let is_known =
        |[high, low, ..]: &[u8; 6]| (*high == 0 && (1..=0x20).contains(low)) || *high >= 0xf0 || low & 0xf == 0xa;
    if !is_settings || !settings.iter().all(is_known) {
        return Looks::Wrong;
    }
    match (header.length, settings, payload) {
        (1.., [], _) => Looks::RightSoFar,
        // Nine bytes with five zeros prove little, if others follow.
        (0, _, [_, ..]) => match split(payload) {
            Some((next, _)) if next.is_usual(INITIAL_MAX_LENGTH) => Looks::Right,
            Some(_) => Looks::Wrong,
            None => Looks::RightSoFar,
        },
        _ => Looks::Right,
    }
}

/// Whether two valid frames are one behind the other. If the direction is unknown, a head must show it.
fn frames(direction: Direction, sample: &Sample<'_>) -> Looks {
    let mut rest = sample.bytes;
    let (mut headers, mut shown) = (0, None);
    while let Some((header, payload)) = split(rest) {
        if !may_begin(&header) {
            return Looks::Wrong;
        }
        headers += 1;
        let Some((payload, next)) = payload.split_at_checked(header.length as usize) else { break };
        if header.kind == Kind::Headers {
            match head(&header, payload) {
                Some(head) if head.is_request => shown = Some(Direction::ToServer),
                Some(head) if head.status.is_some() => shown = Some(Direction::ToClient),
                Some(_) => {}
                None => return Looks::Wrong,
            }
        }
        if shown.is_some_and(|shown| shown != direction) {
            return Looks::Wrong;
        }
        rest = next;
        if headers >= 2 && (shown.or(sample.direction)) == Some(direction) {
            return Looks::Right;
        }
    }
    if headers >= 2 && (shown.or(sample.direction)) == Some(direction) {
        return Looks::Right;
    }
    let is_possible = headers > 0 || may_become_header(rest);
    if is_possible && sample.bytes.len() < ENOUGH { Looks::RightSoFar } else { Looks::Wrong }
}

/// Whether a frame may be the first that is seen. Header blocks are in one frame nearly always.
fn may_begin(header: &FrameHeader) -> bool {
    let is_part = matches!(header.kind, Kind::Headers | Kind::PushPromise) && !header.has(flag::END_HEADERS);
    header.kind != Kind::Continuation && !is_part && header.is_usual(INITIAL_MAX_LENGTH)
}

/// Whether the beginning of a header, without its length, can be that of a usual frame.
fn may_become_header(bytes: &[u8]) -> bool {
    let is_short = match bytes {
        [0, high, ..] => *high <= 0x40,
        [first] => *first == 0,
        [] => true,
        _ => false,
    };
    is_short && bytes.get(3).is_none_or(|&kind| kind < Kind::Continuation as u8)
}

fn split(bytes: &[u8]) -> Option<(FrameHeader, &[u8])> {
    let (header, payload) = bytes.split_first_chunk::<HEADER_LENGTH>()?;
    Some((FrameHeader::parse(header), payload))
}

/// The head in a whole frame, if it is well-formed.
fn head(header: &FrameHeader, payload: &[u8]) -> Option<Head> {
    let block = header_block(header, payload).ok()?;
    Head::decode(&mut Decoder::new(false), block).ok()
}
