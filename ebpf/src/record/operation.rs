//! Records one operation on a stream.
//!
//! The stream may be a socket's or a TLS library's plaintext. What differs comes as data: the position, the bytes that
//! Onlooker added, and where the bytes are.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::capture::{Capture, any};
use onlooker_common::connection::role;
use onlooker_common::limits::OPERATION_CAPTURE;
use onlooker_common::losses::Loss;
use onlooker_common::segment::{Segment, flag};
use onlooker_common::selection::process_flag;

use crate::emit;
use crate::globals::{injects, run_capture};
use crate::inject::context;
use crate::kernel::sock::SockAddress;
use crate::maps::{LIMITED, RAISED_PROCESSES, any_capture, count};
use crate::record::arguments::{Bytes, Source};
use crate::record::capture;
use crate::record::form::Moved;
use crate::record::frames::{self, Framed};
use crate::state::stream::{Direction, Stream, StreamState, bit};
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
    /// Records the operation in the form `F`, with bytes from `source` if some are wanted.
    #[inline(always)]
    pub fn record<F: Framed>(self, stream: Stream, source: impl Source) {
        let egress = self.direction == Direction::Egress;
        let process = self.worker.process;
        let begins = !self.fin && stream.turn(self.direction);
        self.moved.flags |= (u32::from(egress) * flag::EGRESS)
            | (u32::from(begins) * flag::BEGINS)
            | (u32::from(stream.is(bit::FROM_START)) * flag::FROM_START)
            | (u32::from(self.fin) * flag::FIN)
            | (u32::from(process.has(process_flag::LOOP)) * flag::LOOP)
            | (u32::from(process.has(process_flag::VIRTUAL_THREADS)) * flag::VIRTUAL_THREADS)
            | (u32::from(process.has(process_flag::PROXY)) * flag::PROXY);
        // SAFETY: no arguments.
        self.moved.time = unsafe { bpf_ktime_get_ns() };
        if !self.fin && may_have_frames(stream, begins) {
            let bytes = source.peek();
            // SAFETY: the stream has the form.
            let recorded = unsafe { F::record(process, self.moved, stream, bytes) };
            if recorded != frames::NOT_FOLLOWED {
                process.recorded(recorded);
                return;
            }
        }
        if self.fin {
            self.worker.input_ended(stream);
        } else {
            self.worker.moved(stream, self.socket, self.direction, begins, self.moved.position);
        }
        let request_side = stream.role() == role::UNKNOWN || (stream.role() == role::SERVER) != egress;
        if begins {
            stream.set_captured(0);
        }
        let wanted = if self.fin { 0 } else { self.wanted(stream, request_side) };
        // The verifier would check what follows twice if this remembered what it found above.
        let source = if wanted == 0 { Bytes::NOWHERE } else { source.bytes() };
        if injects() && !egress && stream.role() == role::SERVER {
            context::look(stream, source, self.moved.length, begins);
        }
        // What was done meanwhile may have shown an event loop.
        self.moved.flags |= (u32::from(source.is_nowhere() && !self.fin) * flag::LENGTH_ONLY)
            | (u32::from(process.has(process_flag::LOOP)) * flag::LOOP)
            | (u32::from(process.has(process_flag::VIRTUAL_THREADS)) * flag::VIRTUAL_THREADS);
        if injects() {
            self.moved.flags |= u32::from(stream.is(bit::SENDS_CONTEXT)) * flag::SENDS_CONTEXT;
        }
        match capture::operation::<F>(self.moved, stream, source, wanted) {
            Some(captured) => {
                stream.set_captured(stream.captured().saturating_add(captured));
                process.recorded(captured + size_of::<Segment>() as u32);
            }
            None => count(if begins && request_side { Loss::RingFullRequest } else { Loss::RingFullSegment }),
        }
    }

    /// How many bytes of this operation are wanted. Most operations are so short that all of them are.
    #[inline(always)]
    fn wanted(&self, stream: Stream, request_side: bool) -> u32 {
        let length = self.moved.length;
        let process = self.worker.process;
        let heads = if request_side { process.request_capture() } else { process.response_capture() };
        let captured = stream.captured();
        if length <= OPERATION_CAPTURE || (captured <= heads && length <= heads - captured) {
            return length;
        }
        wanted_of_long_run(&raw const *self.moved, stream.as_ptr(), heads, u32::from(request_side))
    }
}

/// Whether HTTP/2 frames may be followed. It is looked for at the beginning of a connection, and where the agent found it.
#[inline(always)]
fn may_have_frames(stream: Stream, begins: bool) -> bool {
    // Without a branch for each condition, because the verifier would check what follows for each.
    let is_first = u32::from(begins) & u32::from(stream.run() <= 1) & u32::from(stream.is(bit::FROM_START));
    (stream.framed() | is_first | any_capture() & any::FRAMES) != 0
}

/// How many bytes of an operation are wanted, if it does not fit into `heads`, the process's budget for a run.
///
/// This is a global function: the verifier checks it once, by itself, and not for every path that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wanted_of_long_run(moved: *const Moved, stream: *mut StreamState, heads: u32, request_side: u32) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return 0 };
    if moved.is_null() {
        return 0;
    }
    // SAFETY: a live value of the caller.
    let (length, tgid) = unsafe { ((*moved).length, (*moved).tgid) };
    let left = most(stream, tgid, heads, request_side != 0).saturating_sub(stream.captured());
    let wanted = if left > OPERATION_CAPTURE { left } else { OPERATION_CAPTURE };
    if wanted < length { wanted } else { length }
}

/// How many bytes of the run may be captured. `heads` is the process's budget.
#[inline(always)]
fn most(stream: Stream, tgid: u32, heads: u32, request_side: bool) -> u32 {
    // SAFETY: a live value of one of the maps.
    let side = |of: *const Capture| unsafe { if request_side { (*of).request } else { (*of).response } };
    let tables = any_capture();
    let limit = if tables & any::LIMITED != 0 { LIMITED.get_ptr(stream.cookie()).map_or(0, side) } else { 0 };
    let most = if limit == 0 && !emit::is_filling_up() { run_capture() } else { limit };
    let is_raised = tables & any::RAISED_PROCESSES != 0;
    let raised = if is_raised { RAISED_PROCESSES.get_ptr(tgid).map_or(0, side) } else { 0 };
    let least = if raised > heads { raised } else { heads };
    if most > least { most } else { least }
}
