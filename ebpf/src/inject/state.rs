//! The `tracestate` of a request that was read, which goes with the calls that are made for the request.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::ffi::c_void;
use core::ptr;
use onlooker_common::injection::{STATE_BYTES, TraceState, lookup};

use crate::globals::writes_state;
use crate::maps::{NEW_STATE, RECEIVED, STATES};
use crate::state::stream::{Stream, StreamState};
use crate::user;
use crate::verifier::opaque;

/// Bits that an index in the value has.
const MASK: u32 = STATE_BYTES as u32 - 1;

/// Bytes of the name of the field with its colon.
const NAME_BYTES: u32 = 11;

/// The request has a `tracestate`, whose line begins at an address. `left` bytes are there, which are more than the name has.
///
/// This is a global function: the verifier checks it once. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_state(stream: *mut StreamState, at: u64, left: u32) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return 0 };
    let Some(state) = state_of(stream) else { return 0 };
    // SAFETY: a live value of the map, which other CPUs may write.
    let state = unsafe { &mut *state };
    state.length = 0;
    state.fields += 1;
    // Several fields would have to be joined.
    if state.fields > 1 {
        return 0;
    }
    let blank = user::peek::<u8>(at + u64::from(NAME_BYTES)).is_some_and(|next| next == b' ' || next == b'\t');
    let before = NAME_BYTES + u32::from(blank);
    let (at, left) = (at + u64::from(before), left.saturating_sub(before));
    let length = if left < STATE_BYTES as u32 { left } else { STATE_BYTES as u32 };
    if length == 0 {
        return 0;
    }
    let bounded = (opaque(u64::from(length)).wrapping_sub(1) as u32 & MASK) + 1;
    // SAFETY: the value has room for as many bytes.
    if unsafe { bpf_probe_read_user(state.value.as_mut_ptr().cast(), bounded, at as *const c_void) } == 0 {
        state.length = length_of(state.value.as_ptr(), length);
    }
    0
}

/// The state of the request that was read, made if there is none.
#[inline(always)]
fn state_of(stream: Stream) -> Option<*mut TraceState> {
    let (cookie, position) = (stream.cookie(), stream.message_position());
    if STATES.get_ptr(cookie).is_none() {
        // SAFETY: a value of the map that no program writes. The stack has no room for a copy.
        let new: &TraceState = unsafe { &*NEW_STATE.get_ptr(0)? };
        STATES.insert(cookie, new, 0).ok()?;
    }
    let state = STATES.get_ptr_mut(cookie)?;
    // SAFETY: a live value of the map.
    unsafe {
        if (*state).position != position {
            (*state).position = position;
            (*state).fields = 0;
        }
    }
    Some(state)
}

/// The bytes of the value before the end of its line, without blanks at its end (RFC 9110 5.5). 0 if it is no text or has no end.
///
/// Not a walk, whose frame would be one too many on the stack. The verifier walks through the loop once for each byte.
#[inline(always)]
fn length_of(value: *const u8, read: u32) -> u32 {
    let mut length = 0;
    for at in 0..STATE_BYTES as u32 {
        if at >= read {
            break;
        }
        // SAFETY: the index is less than the length of the value.
        match unsafe { value.add(at as usize).read_volatile() } {
            b'\r' | b'\n' => return length,
            b' ' | b'\t' => {}
            b'!'..=b'~' => length = at + 1,
            _ => break,
        }
    }
    0
}

/// The `tracestate` that goes with a call.
#[derive(Clone, Copy)]
pub struct State {
    pub value: *const TraceState,
    /// Bytes of the value; 0 if there is none.
    pub length: u32,
}

impl State {
    const NONE: Self = Self { value: ptr::null(), length: 0 };

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.length == 0 || self.value.is_null()
    }

    /// Whether it is still that of the request that a call is made for. Otherwise another request was read meanwhile, and what was
    /// copied may be partly of that.
    #[inline(always)]
    pub fn is_unchanged(self, stream: Stream) -> bool {
        // SAFETY: a live value of the map, which other CPUs may write.
        let (position, length) = unsafe {
            ((&raw const (*self.value).position).read_volatile(), (&raw const (*self.value).length).read_volatile())
        };
        position == stream.owner().position() && length == self.length
    }

    /// That of the request that a call is made for. Only a request with a `traceparent` has one.
    #[inline(always)]
    pub fn of_call(stream: Stream) -> Self {
        let owner = stream.owner();
        if !writes_state() || !owner.is_known() {
            return Self::NONE;
        }
        let (Some(received), Some(state)) = (RECEIVED.get_ptr(owner.cookie()), STATES.get_ptr(owner.cookie())) else {
            return Self::NONE;
        };
        // SAFETY: live values of the maps, which other CPUs may write.
        let (is_of_owner, length) = unsafe {
            let is_of_owner = (*received).position == owner.position()
                && (*received).lookup == lookup::FOUND
                && (*state).position == owner.position();
            (is_of_owner, (&raw const (*state).length).read_volatile())
        };
        if is_of_owner && length <= STATE_BYTES as u32 { Self { value: state, length } } else { Self::NONE }
    }
}
