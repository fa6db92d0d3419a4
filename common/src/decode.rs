//! Reads records of the ring from untrusted bytes.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::connection::ConnectionChange;
use crate::datagram::Datagram;
use crate::kind;
use crate::plaintext::{Plaintext, Tie};
use crate::process::{Execution, ProcessChange};
use crate::segment::Segment;

/// One record, borrowed from the ring. Slices are the captured bytes.
#[derive(Debug)]
pub enum Event<'ring> {
    Segment(&'ring Segment, &'ring [u8]),
    Plaintext(&'ring Plaintext, &'ring [u8]),
    Tie(&'ring Tie),
    Datagram(&'ring Datagram, &'ring [u8]),
    Connection(&'ring ConnectionChange),
    Process(&'ring ProcessChange),
    Execution(&'ring Execution),
}

/// The bytes are not a record: the kernel programs and the agent are of different builds, or memory is corrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'ring> Event<'ring> {
    /// Reads one record.
    ///
    /// `bytes` must be aligned to eight bytes, as the ring's records are.
    ///
    /// # Errors
    /// [`Malformed`] if the kind is unknown, or if the record is shorter than it claims to be.
    pub fn decode(bytes: &'ring [u8]) -> Result<Self, Malformed> {
        let (&found, _) = u32::ref_from_prefix(bytes).map_err(|_| Malformed)?;
        match found {
            kind::SEGMENT => {
                let (segment, payload) = header::<Segment>(bytes)?;
                Ok(Event::Segment(segment, captured(segment, payload)?))
            }
            kind::PLAINTEXT => {
                let (plaintext, payload) = header::<Plaintext>(bytes)?;
                Ok(Event::Plaintext(plaintext, captured(&plaintext.segment, payload)?))
            }
            kind::TIE => Ok(Event::Tie(header(bytes)?.0)),
            kind::DATAGRAM => {
                let (datagram, payload) = header::<Datagram>(bytes)?;
                let captured = payload.get(..datagram.captured as usize).ok_or(Malformed)?;
                if datagram.captured > datagram.length {
                    return Err(Malformed);
                }
                Ok(Event::Datagram(datagram, captured))
            }
            kind::CONNECTION => Ok(Event::Connection(header(bytes)?.0)),
            kind::PROCESS => Ok(Event::Process(header(bytes)?.0)),
            kind::EXECUTION => Ok(Event::Execution(header(bytes)?.0)),
            _ => Err(Malformed),
        }
    }
}

fn header<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<(&T, &[u8]), Malformed> {
    T::ref_from_prefix(bytes).map_err(|_| Malformed)
}

fn captured<'ring>(segment: &Segment, payload: &'ring [u8]) -> Result<&'ring [u8], Malformed> {
    let captured = payload.get(..segment.captured as usize).ok_or(Malformed)?;
    if segment.captured > segment.length || usize::from(segment.tail_length) > segment.tail.len() {
        return Err(Malformed);
    }
    Ok(captured)
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::plaintext::StreamKey;

    /// Room for a header and some bytes, aligned as the ring's records are.
    #[repr(C, align(8))]
    struct Room([u8; 512]);

    fn place(header: &(impl IntoBytes + Immutable), payload: &[u8]) -> (Room, usize) {
        let mut room = Room([0; 512]);
        let header = header.as_bytes();
        room.0[..header.len()].copy_from_slice(header);
        room.0[header.len()..header.len() + payload.len()].copy_from_slice(payload);
        (room, header.len() + payload.len())
    }

    fn segment(kind: u32) -> Segment {
        Segment { kind, captured: 5, length: 7, position: 100, added: 70, ..Segment::default() }
    }

    #[test]
    fn a_segment_ends_behind_the_bytes_that_were_added() {
        let (room, length) = place(&segment(kind::SEGMENT), b"hello");
        let Ok(Event::Segment(segment, captured)) = Event::decode(&room.0[..length]) else { panic!("a segment") };
        assert_eq!((captured, segment.next_position()), (&b"hello"[..], 177));
    }

    #[test]
    fn plaintext_names_its_stream_and_not_yet_its_socket() {
        let stream = StreamKey { object: 0x7f00_0000_1000, generation: 3, tgid: 42 };
        let (room, length) = place(&Plaintext { segment: segment(kind::PLAINTEXT), stream }, b"hello");
        let Ok(Event::Plaintext(plaintext, captured)) = Event::decode(&room.0[..length]) else { panic!("plaintext") };
        assert_eq!((captured, plaintext.stream, plaintext.segment.cookie), (&b"hello"[..], stream, 0));

        let tie = Tie { kind: kind::TIE, stream, cookie: 9, time: 1_000, ..Tie::default() };
        let (room, length) = place(&tie, b"");
        let Ok(Event::Tie(found)) = Event::decode(&room.0[..length]) else { panic!("a tie") };
        assert_eq!(*found, tie);
    }

    #[test]
    fn a_datagram_carries_its_bytes() {
        let datagram = Datagram { kind: kind::DATAGRAM, captured: 5, length: 512, ..Datagram::default() };
        let (room, length) = place(&datagram, b"hello");
        let Ok(Event::Datagram(found, captured)) = Event::decode(&room.0[..length]) else { panic!("a datagram") };
        assert_eq!((captured, found.length), (&b"hello"[..], 512));
    }

    #[test]
    fn every_truncated_record_is_malformed() {
        let plaintext = Plaintext { segment: segment(kind::PLAINTEXT), ..Plaintext::default() };
        let datagram = Datagram { kind: kind::DATAGRAM, captured: 5, length: 5, ..Datagram::default() };
        let records = [
            place(&segment(kind::SEGMENT), b"hello"),
            place(&plaintext, b"hello"),
            place(&datagram, b"hello"),
            place(&Tie { kind: kind::TIE, ..Tie::default() }, b""),
            place(&ProcessChange { kind: kind::PROCESS, ..ProcessChange::default() }, b""),
        ];
        for (room, length) in records {
            assert!(Event::decode(&room.0[..length]).is_ok());
            for cut in 0..length {
                assert_eq!(Event::decode(&room.0[..cut]).unwrap_err(), Malformed, "{cut} of {length}");
            }
        }
    }

    #[test]
    fn more_captured_than_moved_is_malformed() {
        let (room, length) = place(&Segment { length: 4, ..segment(kind::SEGMENT) }, b"hello");
        assert_eq!(Event::decode(&room.0[..length]).unwrap_err(), Malformed);
        let (room, length) = place(&Segment { tail_length: 17, ..segment(kind::SEGMENT) }, b"hello");
        assert_eq!(Event::decode(&room.0[..length]).unwrap_err(), Malformed);
        let (room, length) =
            place(&Datagram { kind: kind::DATAGRAM, captured: 5, length: 4, ..Datagram::default() }, b"hello");
        assert_eq!(Event::decode(&room.0[..length]).unwrap_err(), Malformed);
        let (room, length) = place(&[99_u32, 0], b"");
        assert_eq!(Event::decode(&room.0[..length]).unwrap_err(), Malformed);
    }
}
