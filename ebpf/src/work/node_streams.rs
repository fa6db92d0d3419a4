//! Streams of HTTP/2 in Node. One thread reads and writes those of all connections, so an operation does not show its owner.
//!
//! - Node reads frames and hands them over one by one. For a frame of a stream it runs the callbacks, with all that they put off to
//!   `nextTick` or promises, before the next frame. So what runs and is born from then on belongs to the request of that stream, or to
//!   the owner of that call. `OnFrameReceive` and `OnDataChunkReceived` show the frame.
//! - For a request that opens a stream it first makes an `Http2Stream`. The request is found by the thread that just read it.
//! - For a call, Node makes an `Http2Stream` while the caller runs: the ids of that moment prove the owner. HEADERS are sent later,
//!   together with those of other calls, by `SendPendingData` of the session. So the call is noted by session and number.
//! - A callback of a stream that runs at another time has the stream's id, which was born in the name of its request, or of the call's
//!   owner. A session's id has no owner, because its callbacks are about all streams.

use onlooker_common::async_ids::begun_by;
use onlooker_common::owner::evidence;
use onlooker_common::unit::{self, StreamKey};

use crate::kernel::task::{Task, current_ids};
use crate::maps::STREAMS;
use crate::selected::Selected;
use crate::state::event_loop::{reading, verdict};
use crate::state::owner::SharedOwner;
use crate::state::thread::Thread;
use crate::state::unit::Unit;
use crate::work::units::{node, thread};

/// `nghttp2_headers_category`: a request that a server reads, and what Node gives a call.
const REQUEST: u32 = 0;
const CALL: u32 = 3;

/// The thread of a Node whose async ids are read.
struct Loop {
    tgid: u32,
    tid: u32,
    process: Selected,
    thread: Thread,
}

impl Loop {
    #[inline(always)]
    fn current() -> Option<Self> {
        let (tgid, tid) = current_ids();
        let process = Selected::find(tgid)?;
        if !process.reads_async_ids(tgid) {
            return None;
        }
        Some(Self { tgid, tid, process, thread: thread::state(Task::current())? })
    }

    #[inline(always)]
    fn read(&self) -> bool {
        node::read(self.process.unit_source(self.tgid), Task::current(), self.tid).is_some()
    }
}

/// Node makes an `Http2Stream` of a session, with this number.
#[inline(always)]
pub fn stream_begins(session: u64, number: u32, category: u32) {
    let Some(now) = Loop::current() else { return };
    match category {
        REQUEST => request_begins(&now, session, number),
        CALL => call_begins(&now, session, number),
        _ => {}
    }
}

#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
fn request_begins(now: &Loop, session: u64, number: u32) {
    let tick = now.thread.tick();
    let mut key = StreamKey { tgid: now.tgid, number, unit: u64::from(now.tid) };
    tick.clear();
    if now.thread.event_loop().reading() == reading::REQUESTS
        && let Some(request) = STREAMS.get_ptr_mut(key)
    {
        // SAFETY: a live value of the map. Only this thread uses it.
        tick.copy(unsafe { SharedOwner::within(request) });
        let _ = STREAMS.remove(key);
    }
    key.unit = session;
    // SAFETY: a live value. If the kernel has no room, it forgets another stream, whose calls then have no owner.
    let _ = unsafe { STREAMS.insert(key, &*tick.as_ptr(), 0) };
    continue_with_tick(now);
}

/// What runs from now on works for the owner of the tick, if that is known.
#[inline(always)]
fn continue_with_tick(now: &Loop) {
    let by = if now.thread.tick().is_known() { begun_by::STREAM } else { begun_by::FRAMES };
    if now.read() {
        node::begins(now.thread, by);
    }
}

/// Node hands a frame of a stream over, or a part of one. `number` is 0 for a frame of the connection.
#[inline(always)]
pub fn frame_begins(session: u64, number: u32) {
    let Some(now) = Loop::current() else { return };
    // Outside of a read, nothing would show the end of what runs for it.
    if now.thread.event_loop().reading() == reading::NOTHING {
        return;
    }
    let tick = now.thread.tick();
    match STREAMS.get_ptr_mut(StreamKey { tgid: now.tgid, number, unit: session }) {
        // SAFETY: a live value of the map. Only this thread uses it.
        Some(owner) => tick.copy(unsafe { SharedOwner::within(owner) }),
        None => tick.clear(),
    }
    continue_with_tick(&now);
}

#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
fn call_begins(now: &Loop, session: u64, number: u32) {
    let event_loop = now.thread.event_loop();
    let is_read = node::read_and_judge(now.process.unit_source(now.tgid), Task::current(), now.tid).is_some();
    let is_owned = is_read && event_loop.current_verdict() == verdict::OWNED;
    let owner = event_loop.owner();
    if !is_owned {
        owner.clear();
    } else if owner.evidence() != evidence::TICK {
        // What was born from a likely owner's work is no more certain than that.
        owner.set_evidence(evidence::ASYNC_ID);
    }
    let key = StreamKey { tgid: now.tgid, number, unit: session };
    // SAFETY: a live value. If the kernel has no room, it forgets another stream, whose call then has no owner.
    let _ = unsafe { STREAMS.insert(key, &*owner.as_ptr(), 0) };
    if is_read {
        node::next_id_is(now.thread, is_owned);
    }
}

/// Node makes a session.
#[inline(always)]
pub fn session_begins() {
    let Some(now) = Loop::current() else { return };
    if now.read() {
        node::next_id_is(now.thread, false);
    }
}

/// A session is about to send the frames that are due.
#[inline(always)]
pub fn sends(session: u64) {
    if let Some(now) = Loop::current() {
        now.thread.event_loop().set_session(session);
    }
}

/// The frames of an operation have been handed over.
#[inline(always)]
pub fn frames_end() {
    let Some(now) = Loop::current() else { return };
    let event_loop = now.thread.event_loop();
    event_loop.set_reading(reading::NOTHING);
    if matches!(event_loop.begun_by(), begun_by::FRAMES | begun_by::STREAM | begun_by::REQUEST) {
        now.thread.tick().clear();
        if now.read() {
            node::begins(now.thread, begun_by::UNKNOWN);
        }
    }
}

/// The session that sends frames on the current thread.
#[inline(always)]
pub fn sender() -> Unit {
    match thread::state(Task::current()).map(|thread| thread.event_loop().session()) {
        Some(session) if session != 0 => Unit { kind: unit::ASYNC_ID, words: [session, 0] },
        _ => Unit::UNKNOWN,
    }
}
