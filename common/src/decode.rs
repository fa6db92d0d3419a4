//! Records of the ring, read from bytes that are not trusted.

use zerocopy::FromBytes;

use crate::event::{Connection, Process, Segment, kind};

/// One record, borrowed from the ring.
#[derive(Debug)]
pub enum Event<'ring> {
    Segment(&'ring Segment, &'ring [u8]),
    Connection(&'ring Connection),
    Process(&'ring Process),
}

/// A record that is none: a kernel object and an agent of different builds, or memory gone bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'ring> Event<'ring> {
    /// Reads one record. `bytes` must be aligned to eight bytes, as the ring's records are.
    pub fn decode(bytes: &'ring [u8]) -> Result<Self, Malformed> {
        let (&found, _) = u32::ref_from_prefix(bytes).map_err(|_| Malformed)?;
        match found {
            kind::SEGMENT => {
                let (segment, payload) = Segment::ref_from_prefix(bytes).map_err(|_| Malformed)?;
                let captured = payload.get(..segment.captured as usize).ok_or(Malformed)?;
                if segment.captured > segment.length || usize::from(segment.tail_length) > segment.tail.len() {
                    return Err(Malformed);
                }
                Ok(Event::Segment(segment, captured))
            }
            kind::CONNECTION => {
                let (connection, _) = Connection::ref_from_prefix(bytes).map_err(|_| Malformed)?;
                Ok(Event::Connection(connection))
            }
            kind::PROCESS => {
                let (process, _) = Process::ref_from_prefix(bytes).map_err(|_| Malformed)?;
                Ok(Event::Process(process))
            }
            _ => Err(Malformed),
        }
    }
}
