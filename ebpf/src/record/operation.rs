//! Records one operation on a stream.
//!
//! The stream may be a socket's or a TLS library's plaintext. What differs comes as data: the position, the bytes that
//! Onlooker added, and where the bytes are.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::capture::{Capture, raised};
use onlooker_common::connection::role;
use onlooker_common::limits::{LARGEST_CAPTURE, OPERATION_CAPTURE};
use onlooker_common::losses::Loss;
use onlooker_common::segment::{Segment, flag};
use onlooker_common::selection::process_flag;

use crate::kernel::sock::SockAddress;
use crate::maps::{RAISED, RAISED_PROCESSES, any_raised, count};
use crate::record::arguments::{Bytes, Source};
use crate::record::capture;
use crate::record::form::Moved;
use crate::state::stream::{Direction, Stream, bit};
use crate::work::owner::Worker;

/// One operation on a stream.
pub struct Operation<'moved> {
    pub worker: Worker,
    /// The socket that carries the stream.
    pub socket: SockAddress,
    pub direction: Direction,
    /// The peer's FIN was read, and no bytes.
    pub fin: bool,
    /// What the caller knows: [`Moved::new`] and the fields that do not apply to every stream.
    pub moved: &'moved mut Moved,
}

impl Operation<'_> {
    /// Records the operation, with bytes from `source` if some are wanted.
    #[inline(always)]
    pub fn record(self, stream: Stream, source: impl Source) {
        let egress = self.direction == Direction::Egress;
        let process = self.worker.process;
        let begins = !self.fin && stream.turn(self.direction);
        if self.fin {
            self.worker.input_ended(stream);
        } else {
            self.worker.moved(stream, self.socket, self.direction, begins, self.moved.position);
        }
        let request_side = stream.role() == role::UNKNOWN || (stream.role() == role::SERVER) != egress;
        if begins {
            stream.set_budget(self.budget(stream, request_side));
        }
        let wanted = if self.fin { 0 } else { self.wanted(stream.budget()) };
        let source = if wanted == 0 { Bytes::NOWHERE } else { source.bytes() };
        self.moved.flags |= (u32::from(egress) * flag::EGRESS)
            | (u32::from(begins) * flag::BEGINS)
            | (u32::from(stream.is(bit::FROM_START)) * flag::FROM_START)
            | (u32::from(self.fin) * flag::FIN)
            | (u32::from(source.is_nowhere() && !self.fin) * flag::LENGTH_ONLY)
            | (u32::from(process.has(process_flag::LOOP)) * flag::LOOP);
        // SAFETY: no arguments.
        self.moved.time = unsafe { bpf_ktime_get_ns() };
        match capture::segment(self.moved, stream, source, wanted) {
            Some(captured) => {
                stream.set_budget(stream.budget().saturating_sub(captured));
                process.recorded(captured + size_of::<Segment>() as u32);
            }
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
        if wanted < self.moved.length { wanted } else { self.moved.length }
    }
}
