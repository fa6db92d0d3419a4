//! Follows the header block of a request, in whatever pieces it is sent.
//!
//! Only what is certainly HTTP/1 is followed: a known method, a version, and lines that end with CR and LF (RFC 9112 2). Everything
//! else is left alone.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;
use onlooker_common::injection::{FIELD_NAMES, FRAMING_NAMES, OWN_NAMES};
use onlooker_common::limits::INJECTED_HEAD;

use super::hexadecimal::has_byte;
use super::walk::Walk;
use crate::globals::field_name_byte;
use crate::state::injection::{Injection, InjectionState, framing, phase};
use crate::user::{CONTINUE, LEAVE};
use crate::verifier::opaque;

/// Bytes that are read at a time.
const WORD: u32 = 8;

/// What was found in a piece of a header block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The block goes on behind the piece.
    More,
    /// The block ends with the line that begins at this offset.
    End(u32),
    /// This is no header block of HTTP/1.
    Other,
}

/// Values that the global function returns.
const GOES_ON: u32 = 0;
const ENDS: u32 = 1;
const IS_OTHER: u32 = 2;

/// Follows the block through the `length` bytes at the address `from`, of which `at` were looked at before.
#[inline(always)]
pub fn follow(injection: Injection, from: u64, length: u32, at: u32) -> Found {
    match Walk::run(injection.as_ptr(), from, length, at, INJECTED_HEAD / WORD, next_word) {
        (ENDS, at) => Found::End(at),
        (IS_OTHER, _) => Found::Other,
        _ => Found::More,
    }
}

extern "C" fn next_word(_index: u32, walk: *mut Walk<InjectionState>) -> i64 {
    // SAFETY: called by `follow` with its own struct.
    let walk = unsafe { &mut *walk };
    let left = walk.left();
    if left == 0 {
        return LEAVE;
    }
    let bytes = if left >= WORD { WORD } else { left };
    let mut word = 0_u64;
    // SAFETY: the local has room for as many bytes. The message is in kernel memory.
    let failed = unsafe {
        let from = walk.address() as *const c_void;
        if left >= WORD {
            bpf_probe_read_kernel((&raw mut word).cast(), WORD, from)
        } else {
            bpf_probe_read_kernel((&raw mut word).cast(), (opaque(u64::from(bytes)) & 7) as u32, from)
        }
    };
    // SAFETY: the helper writes it.
    let mut word = unsafe { (&raw const word).read_volatile() };
    if failed != 0 {
        return walk.end(IS_OTHER);
    }
    // SAFETY: a live value of the caller.
    let in_line = unsafe { Injection::within(walk.state) }.phase() == phase::LINE;
    if left >= WORD && in_line && !has_byte(word, b'\r') && !has_byte(word, b'\n') {
        walk.pass(WORD);
        return CONTINUE;
    }
    for index in 0..WORD {
        if index >= bytes {
            break;
        }
        let outcome = head_byte(walk.state, (word & 0xff) as u32);
        if outcome != GOES_ON {
            walk.pass(index);
            return walk.end(outcome);
        }
        word >>= 8;
    }
    walk.pass(bytes);
    CONTINUE
}

/// The next byte of the request. This is a global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn head_byte(injection: *mut InjectionState, byte: u32) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(injection) = (unsafe { Injection::new(injection) }) else { return IS_OTHER };
    match injection.phase() {
        phase::METHOD => method_byte(injection, byte),
        phase::TARGET => {
            if byte == u32::from(b'\r') {
                // The version was the last eight bytes, behind a space.
                let version = injection.latest();
                if (version != HTTP_1_1 && version != HTTP_1_0) || injection.earlier() != u32::from(b' ') {
                    return IS_OTHER;
                }
                injection.set_phase(phase::LINE_FEED);
            } else if byte < u32::from(b' ') {
                return IS_OTHER;
            }
            push(injection, byte);
            GOES_ON
        }
        phase::LINE_FEED => {
            injection.set_phase(phase::LINE_START);
            if byte == u32::from(b'\n') { GOES_ON } else { IS_OTHER }
        }
        phase::LINE_START if byte == u32::from(b'\r') => {
            injection.set_phase(phase::END);
            ENDS
        }
        phase::LINE_START => {
            // It continues the line before (RFC 9112 5.2), which may be a length.
            if byte == u32::from(b' ') || byte == u32::from(b'\t') {
                injection.set_framing(injection.framing() | framing::IS_LAST);
            }
            injection.set_matched(0);
            name_byte(injection, byte)
        }
        phase::NAME => name_byte(injection, byte),
        phase::LINE => line_byte(injection, byte),
        phase::LENGTH => length_byte(injection, byte),
        _ => IS_OTHER,
    }
}

#[inline(always)]
fn method_byte(injection: Injection, byte: u32) -> u32 {
    if byte == u32::from(b' ') {
        if !METHODS.contains(&injection.latest()) {
            return IS_OTHER;
        }
        injection.set_phase(phase::TARGET);
    } else if byte < u32::from(b'A') || byte > u32::from(b'Z') || injection.latest() >> 48 != 0 {
        return IS_OTHER;
    }
    push(injection, byte);
    GOES_ON
}

/// A byte of a line that has begun like one of the names, or begins now.
#[inline(always)]
fn name_byte(injection: Injection, byte: u32) -> u32 {
    let at = injection.matched();
    let before = if at == 0 { u32::MAX } else { injection.candidates() };
    // Each letter in lower case. Control characters would become others.
    let letter = if byte < u32::from(b' ') { u32::MAX } else { byte | 0x20 };
    let (mut candidates, mut found) = (0, 0);
    // Without branches: the verifier would walk through every combination of names.
    for name in 0..FIELD_NAMES {
        let is_letter = before >> name & is_zero(u32::from(field_name_byte(name, at)) ^ letter);
        candidates |= is_letter << name;
        found |= (is_letter & is_zero(u32::from(field_name_byte(name, at + 1)))) << name;
    }
    injection.set_phase(phase::LINE);
    if candidates == 0 {
        return line_byte(injection, byte);
    }
    if found & LENGTH_NAME != 0 {
        let before = injection.framing();
        // Several lengths may differ.
        let several = if before & framing::HAS_LENGTH != 0 { framing::IS_LAST } else { 0 };
        injection.set_framing(before | framing::HAS_LENGTH | several);
        injection.set_matched(length::COLON);
        injection.set_phase(phase::LENGTH);
    } else if found & OTHER_FRAMING_NAMES != 0 {
        injection.set_framing(injection.framing() | framing::IS_LAST);
    } else if found != 0 {
        injection.set_has_own(1);
    } else {
        injection.set_candidates(candidates);
        injection.set_matched(at + 1);
        injection.set_phase(phase::NAME);
    }
    GOES_ON
}

/// 1 for zero, and 0 for every other number. The compiler does not know that, and makes no branch of it.
#[inline(always)]
fn is_zero(number: u32) -> u32 {
    (opaque(u64::from(number).wrapping_sub(1)) >> 63) as u32
}

/// Bits of names that were found.
const LENGTH_NAME: u32 = 1 << OWN_NAMES;
const OTHER_FRAMING_NAMES: u32 = ((1 << FRAMING_NAMES.len()) - 2) << OWN_NAMES;

/// The longest body behind which a request is looked for. Sequence numbers distinguish twice as much.
const MOST_BODY: u32 = 1 << 30;

/// What of a length is expected next: values of `matched` in `phase::LENGTH`.
mod length {
    pub const COLON: u32 = 0;
    pub const BLANK_OR_DIGIT: u32 = 1;
    pub const DIGIT_OR_END: u32 = 2;
}

/// A byte behind `Content-Length` (RFC 9110 8.6). If it is not as simple as almost always, no further request is looked for.
#[inline(always)]
fn length_byte(injection: Injection, byte: u32) -> u32 {
    let (expected, digit) = (injection.matched(), byte.wrapping_sub(u32::from(b'0')));
    if expected == length::COLON && byte == u32::from(b':') {
        injection.set_matched(length::BLANK_OR_DIGIT);
        return GOES_ON;
    }
    if expected == length::BLANK_OR_DIGIT && (byte == u32::from(b' ') || byte == u32::from(b'\t')) {
        return GOES_ON;
    }
    if expected != length::COLON && digit < 10 && injection.body() <= MOST_BODY / 10 {
        injection.set_body(injection.body() * 10 + digit);
        injection.set_matched(length::DIGIT_OR_END);
        return GOES_ON;
    }
    if expected != length::DIGIT_OR_END || byte != u32::from(b'\r') {
        injection.set_framing(injection.framing() | framing::IS_LAST);
    }
    injection.set_phase(phase::LINE);
    line_byte(injection, byte)
}

#[inline(always)]
fn line_byte(injection: Injection, byte: u32) -> u32 {
    if byte == u32::from(b'\r') {
        injection.set_phase(phase::LINE_FEED);
    } else if byte == u32::from(b'\n') {
        return IS_OTHER;
    }
    GOES_ON
}

#[inline(always)]
fn push(injection: Injection, byte: u32) {
    let latest = injection.latest();
    injection.set_earlier((latest >> 56) as u32);
    injection.set_latest(latest << 8 | u64::from(byte));
}

/// Text as a number whose lowest byte is the last character.
const fn text(text: &[u8]) -> u64 {
    let (mut number, mut at) = (0, 0);
    while at < text.len() {
        number = number << 8 | text[at] as u64;
        at += 1;
    }
    number
}

const HTTP_1_0: u64 = text(b"HTTP/1.0");
const HTTP_1_1: u64 = text(b"HTTP/1.1");

/// Methods of requests that have a header block, and behind which comes no other protocol.
const METHODS: [u64; 7] =
    [text(b"GET"), text(b"HEAD"), text(b"POST"), text(b"PUT"), text(b"PATCH"), text(b"DELETE"), text(b"OPTIONS")];
