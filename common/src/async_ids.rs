//! Async ids of Node: which request a socket operation of an event loop belongs to.
//!
//! Node numbers its asynchronous operations. All ids of an event loop come from one counter. So all ids that were born
//! between two points in time belong to the request that the loop worked on in between: an *interval* of ids has an owner.
//!
//! At each socket operation the loop has two ids: that of the callback that runs (execution), and that of the operation that
//! caused it (trigger). Both are 0 where a promise continues, because Node does not number promises unless a program asks for
//! it. This module decides what the two ids prove. It knows no owners: the caller looks up the intervals.
//!
//! The rules hold for Node 18 to 24. `async_wrap` in Node's `src/env.h` describes the fields.

/// The fields of one event loop, converted from Node's doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncIds {
    /// The callback that runs; 0 if it has no id.
    pub execution: u64,
    /// The operation that caused it; 0 if there is none.
    pub trigger: u64,
    /// The last id that was given out.
    pub newest: u64,
    /// While a socket is written to: the socket's own id. Otherwise 0.
    pub socket: u64,
}

impl AsyncIds {
    /// Converts the fields from the bits of the doubles. `None` if they are not ids.
    #[must_use]
    #[inline(always)]
    pub const fn from_bits(fields: [u64; 4]) -> Option<Self> {
        let (Some(execution), Some(trigger), Some(newest)) = (whole(fields[0]), whole(fields[1]), whole(fields[2]))
        else {
            return None;
        };
        if newest == 0 || execution > newest || trigger > newest {
            return None;
        }
        // The fourth field is -1 while nothing sets it.
        let socket = match whole(fields[3]) {
            Some(socket) if socket <= newest => socket,
            None if fields[3] == MINUS_ONE => 0,
            _ => return None,
        };
        Some(Self { execution, trigger, newest, socket })
    }
}

/// The double -1.0.
const MINUS_ONE: u64 = 0xbff0_0000_0000_0000;

/// The whole number that a double is. Kernel programs have no floating-point numbers.
#[must_use]
#[inline(always)]
pub const fn whole(bits: u64) -> Option<u64> {
    /// Bits of the fraction, and the exponent of 1.0 (IEEE 754, binary64).
    const FRACTION: u64 = 52;
    const BIAS: u64 = 1023;
    if bits == 0 {
        return Some(0);
    }
    // A negative number has a larger exponent here.
    let exponent = bits >> FRACTION;
    if exponent < BIAS || exponent > BIAS + FRACTION {
        return None;
    }
    let mantissa = bits & ((1 << FRACTION) - 1) | 1 << FRACTION;
    let shift = BIAS + FRACTION - exponent;
    if mantissa & ((1 << shift) - 1) == 0 { Some(mantissa >> shift) } else { None }
}

/// What began the current stretch of work of an event loop.
pub mod begun_by {
    /// The wait for events, or something whose owner is unknown.
    pub const UNKNOWN: u32 = 0;
    /// The loop read a request. What runs then works on this request, because nobody waits for it.
    pub const REQUEST: u32 = 1;
    /// The loop read the response to a call. What runs then works for the call's owner, or for a request that waited for the
    /// connection.
    pub const RESPONSE: u32 = 2;
    /// The loop began to run timers, or callbacks of operations that other threads finished.
    pub const CALLBACKS: u32 = 3;
    /// The loop read frames of HTTP/2. Callbacks of a stream have the id of the stream, and what they put off has it as trigger.
    pub const FRAMES: u32 = 4;
    /// Node hands over a frame of a stream whose owner is known. What runs then works for that owner, until the next frame, or until
    /// the frames that were read are used up.
    pub const STREAM: u32 = 5;
}

/// Since when, and on what, an event loop has been working without a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// One of [`begun_by`].
    pub begun_by: u32,
    /// The newest id when it began.
    pub newest: u64,
    /// A callback of `setImmediate` is due, or may have begun to run since.
    pub immediates: bool,
}

/// What the ids of a write prove about its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It belongs to the owner of the current stretch.
    Stretch,
    /// It belongs to the owner of the interval in which this id was born. If that has no owner, the owner is unknown.
    Birth(u64),
    /// The ids prove nothing. Other evidence may.
    Nothing,
}

impl Stretch {
    /// Decides what the ids of a write prove.
    #[must_use]
    #[inline(always)]
    pub const fn proof(&self, ids: AsyncIds) -> Proof {
        let execution_is_old = ids.execution != 0 && ids.execution <= self.newest;
        let trigger_is_old = ids.trigger != 0 && ids.trigger <= self.newest;
        if self.begun_by == begun_by::STREAM {
            // Callbacks of `setImmediate` run only after the frames.
            return Proof::Stretch;
        }
        if !execution_is_old && self.begun_by == begun_by::REQUEST {
            return if self.immediates { Proof::Nothing } else { Proof::Stretch };
        }
        if !execution_is_old && ids.execution != 0 && trigger_is_old {
            // `process.nextTick` within an older operation: a request that waited for a connection of a pool
            // (lib/_http_agent.js wraps it in an AsyncResource), or a callback.
            return Proof::Birth(ids.trigger);
        }
        if execution_is_old && matches!(self.begun_by, begun_by::CALLBACKS | begun_by::FRAMES) {
            // The callback of a timer, of a finished operation or of a stream, whose id was born when the operation began.
            return Proof::Birth(ids.execution);
        }
        // The callback of a connection has the connection's id, and that of `setImmediate` its own. They look the same.
        Proof::Nothing
    }
}

/// Intervals that are kept of each event loop: a power of two. A request takes about eight.
pub const INTERVALS: u32 = 1024;

/// Searches a ring of [`INTERVALS`] intervals for the one in which `id` was born.
///
/// `next` is the place of the oldest entry, which is replaced next. `start_at` returns the newest id when the interval at a
/// place began, and 0 for a place without one. Returns the place; `None` if the id is older than all intervals.
#[inline(always)]
pub fn interval_of(id: u64, next: u32, start_at: impl Fn(u32) -> u64) -> Option<u32> {
    let place = |age: u32| (next.wrapping_add(age)) & (INTERVALS - 1);
    // The last entry that began before the id was born. The entries are in order of their beginnings.
    let mut last = 0;
    let mut step = INTERVALS / 2;
    while step > 0 {
        // Without a branch: the verifier would check the rest of the search once for each way through it.
        let began_before = start_at(place(last + step)).wrapping_sub(id) >> (u64::BITS - 1);
        last += step * began_before as u32;
        step /= 2;
    }
    let start = start_at(place(last));
    (start != 0 && start < id).then(|| place(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest whole number that a double has.
    const LARGEST: u64 = 1 << 53;

    fn ids(execution: u64, trigger: u64) -> AsyncIds {
        AsyncIds { execution, trigger, newest: 2_000, socket: 0 }
    }

    fn bits(fields: [f64; 4]) -> [u64; 4] {
        fields.map(f64::to_bits)
    }

    #[test]
    fn whole_numbers_are_converted_from_doubles() {
        for number in [0, 1, 2, 3, 7, 1024, 123_456_789, (1 << 53) - 1] {
            assert_eq!(whole((number as f64).to_bits()), Some(number));
        }
        for other in [-1.0, 0.5, 1.5, 1e300, f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE] {
            assert_eq!(whole(other.to_bits()), None, "{other}");
        }
    }

    #[test]
    fn fields_that_are_not_ids_are_refused() {
        let read = AsyncIds { execution: 0, trigger: 0, newest: 1413, socket: 0 };
        assert_eq!(AsyncIds::from_bits(bits([0.0, 0.0, 1413.0, -1.0])), Some(read));
        let write = AsyncIds { execution: 1424, trigger: 693, newest: 1426, socket: 1423 };
        assert_eq!(AsyncIds::from_bits(bits([1424.0, 693.0, 1426.0, 1423.0])), Some(write));
        for fields in [
            [0.0, 0.0, 0.0, -1.0],
            [5.0, 0.0, 4.0, -1.0],
            [0.0, 5.0, 4.0, -1.0],
            [0.0, 0.0, 4.0, 5.0],
            [0.0, 0.0, 4.0, -2.0],
            [0.5, 0.0, 4.0, -1.0],
        ] {
            assert_eq!(AsyncIds::from_bits(bits(fields)), None, "{fields:?}");
        }
    }

    /// The ids were recorded at socket operations of Node 20 (`tests/apps/node/caller.js` and others).
    #[test]
    fn the_ids_of_a_write_prove_its_owner() {
        let stretch = |begun_by| Stretch { begun_by, newest: 1_413, immediates: false };
        let [unknown, request, response, callbacks] =
            [begun_by::UNKNOWN, begun_by::REQUEST, begun_by::RESPONSE, begun_by::CALLBACKS].map(stretch);
        // A pool hands a connection to the request that waited for it: operation 693.
        assert_eq!(response.proof(ids(1_424, 693)), Proof::Birth(693));
        // A callback of a timer calls, and its write is put off to the next tick of the queue.
        assert_eq!(callbacks.proof(ids(1_424, 693)), Proof::Birth(693));
        assert_eq!(callbacks.proof(ids(693, 600)), Proof::Birth(693));
        // The handler of the request that was just read calls. Its trigger is the connection's, as old as that.
        assert_eq!(request.proof(ids(1_420, 52)), Proof::Stretch);
        assert_eq!(request.proof(ids(0, 0)), Proof::Stretch);
        // A connection is established while another request is read.
        assert_eq!(request.proof(ids(80, 79)), Proof::Nothing);
        // A promise continues, and could be that of any request.
        for stretch in [response, callbacks, unknown] {
            assert_eq!(stretch.proof(ids(0, 0)), Proof::Nothing);
            assert_eq!(stretch.proof(ids(1_420, 0)), Proof::Nothing);
        }
        assert_eq!(response.proof(ids(1_420, 1_418)), Proof::Nothing);
    }

    /// A session's own id, which is older than its streams, has no owner: see `node_session`.
    #[test]
    fn the_id_of_a_stream_of_http_2_proves_its_request() {
        let stretch = |begun_by| Stretch { begun_by, newest: 1_413, immediates: true };
        let [frames, stream] = [begun_by::FRAMES, begun_by::STREAM].map(stretch);
        // `data` is emitted in the stream's name, and `end` is put off from there.
        assert_eq!(frames.proof(ids(693, 52)), Proof::Birth(693));
        assert_eq!(frames.proof(ids(1_424, 693)), Proof::Birth(693));
        // A handler is put off from the session, or a promise continues. Nothing of another stream runs meanwhile.
        for ids in [ids(1_424, 52), ids(0, 0), ids(693, 52), ids(1_424, 1_420)] {
            assert_eq!(stream.proof(ids), Proof::Stretch);
        }
        // A promise continues, and could be that of any request.
        assert_eq!(frames.proof(ids(0, 0)), Proof::Nothing);
        assert_eq!(frames.proof(ids(1_424, 1_420)), Proof::Nothing);
    }

    /// undici sends what waited in a callback of `setImmediate`, in the name of the request that freed the connection.
    #[test]
    fn a_callback_of_set_immediate_proves_nothing() {
        for begun_by in [begun_by::UNKNOWN, begun_by::REQUEST, begun_by::RESPONSE] {
            let stretch = Stretch { begun_by, newest: 1_513, immediates: true };
            for ids in [ids(1_503, 1_426), ids(1_515, 0), ids(0, 0)] {
                assert_eq!(stretch.proof(ids), Proof::Nothing);
            }
        }
    }

    #[test]
    fn an_id_belongs_to_the_interval_it_was_born_in() {
        let mut ring = [0_u64; INTERVALS as usize];
        let start_of = |written: usize| 10 + 3 * written as u64;
        for written in 0..2_500 {
            let start = start_of(written);
            ring[written % ring.len()] = start;
            let next = (written as u32 + 1) & (INTERVALS - 1);
            let find = |id| interval_of(id, next, |place| ring[place as usize]).map(|place| ring[place as usize]);
            let oldest = start_of((written + 1).saturating_sub(ring.len()));
            assert_eq!(find(oldest), None, "the id was born before the oldest interval began");
            assert_eq!(find(oldest + 1), Some(oldest));
            assert_eq!(find(start + 1), Some(start));
            assert_eq!(find(LARGEST), Some(start));
            if start > oldest {
                assert_eq!(find(start), Some(start - 3), "the newest id of before");
            }
        }
    }
}
