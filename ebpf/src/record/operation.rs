//! Records one operation on a stream.
//!
//! The stream may be a socket's or a TLS library's plaintext. What differs comes as data: the position, the bytes that
//! Onlooker added, and where the bytes are.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::capture::{Capture, raised};
use onlooker_common::connection::role;
use onlooker_common::limits::{LARGEST_CAPTURE, OPERATION_CAPTURE};
use onlooker_common::losses::Loss;
use onlooker_common::segment::flag;
use onlooker_common::selection::process_flag;

use crate::kernel::sock::FormerSock;
use crate::maps::{RAISED, RAISED_PROCESSES, any_raised, count};
use crate::record::arguments::{Bytes, Source};
use crate::record::capture;
use crate::record::form::Moved;
use crate::state::stream::{Direction, Place, Stream, bit};
use crate::work::owner::Worker;
use crate::work::units::Unit;

/// One operation on a stream.
pub struct Operation {
    pub worker: Worker,
    pub unit: Unit,
    /// The socket that carries the stream.
    pub socket: FormerSock,
    pub direction: Direction,
    pub length: u32,
    pub place: Place,
    /// The peer's FIN was read. `length` is 0.
    pub fin: bool,
    /// Bits of `common::segment::flag` that only the caller knows.
    pub flags: u32,
    /// When a send that waited for buffer space began; 0 if unknown.
    pub began: u64,
    /// For a unix socket: the peer's cookie.
    pub peer: u64,
}

impl Operation {
    /// Records the operation, with bytes from `source` if some are wanted.
    #[inline(always)]
    pub fn record(&self, stream: Stream, source: impl Source) {
        let egress = self.direction == Direction::Egress;
        let process = self.worker.process;
        let begins = !self.fin && stream.turn(self.direction);
        if self.fin {
            self.worker.input_ended(stream);
        } else {
            self.worker.moved(stream, self.socket, self.direction, begins, self.place.position);
        }
        let request_side = stream.role() == role::UNKNOWN || (stream.role() == role::SERVER) != egress;
        if begins {
            stream.set_budget(self.budget(stream, request_side));
        }
        let wanted = if self.fin { 0 } else { self.wanted(stream.budget()) };
        let source = if wanted == 0 { Bytes::NOWHERE } else { source.bytes() };
        let moved = Moved {
            // SAFETY: no arguments.
            time: unsafe { bpf_ktime_get_ns() },
            began: self.began,
            position: self.place.position,
            opposite: self.place.opposite,
            peer: self.peer,
            unit: self.unit.words,
            unit_kind: self.unit.kind,
            length: self.length,
            flags: self.flags
                | (u32::from(egress) * flag::EGRESS)
                | (u32::from(begins) * flag::BEGINS)
                | (u32::from(stream.is(bit::FROM_START)) * flag::FROM_START)
                | (u32::from(self.fin) * flag::FIN)
                | (u32::from(source.is_nowhere() && !self.fin) * flag::LENGTH_ONLY)
                | (u32::from(process.has(process_flag::LOOP)) * flag::LOOP),
            added: u32::from(self.place.added),
            tgid: self.worker.tgid,
            tid: self.worker.tid,
        };
        match capture::segment(&moved, stream, source, wanted) {
            Some(captured) => stream.set_budget(stream.budget().saturating_sub(captured)),
            None => count(if begins && request_side { Loss::RingFullRequest } else { Loss::RingFullSegment }),
        }
    }

    /// How many bytes of the run that begins may be captured.
    #[inline(always)]
    fn budget(&self, stream: Stream, request_side: bool) -> u32 {
        let process = self.worker.process;
        let budget = if request_side { process.request_capture() } else { process.response_capture() };
        let any = any_raised();
        if any == 0 {
            return budget;
        }
        let raise = |budget: u32, by: Option<*const Capture>| {
            // SAFETY: a live value of one of the maps.
            let raised = by.map_or(0, |by| unsafe { if request_side { (*by).request } else { (*by).response } });
            if raised > budget { raised } else { budget }
        };
        let of_connection = if any & raised::CONNECTIONS != 0 { RAISED.get_ptr(stream.cookie()) } else { None };
        let of_process = if any & raised::PROCESSES != 0 { RAISED_PROCESSES.get_ptr(self.worker.tgid) } else { None };
        raise(raise(budget, of_connection), of_process)
    }

    /// How many bytes of this operation are wanted: what is left of the run's budget, and always a few.
    #[inline(always)]
    fn wanted(&self, budget: u32) -> u32 {
        let mut wanted = if budget > OPERATION_CAPTURE { budget } else { OPERATION_CAPTURE };
        if wanted > LARGEST_CAPTURE {
            wanted = LARGEST_CAPTURE;
        }
        if wanted < self.length { wanted } else { self.length }
    }
}
