//! Walks through bytes that have no known bound, a step at a time.

use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;

use crate::user::LEAVE;

/// A walk through the bytes at an address, and the state that they change.
#[repr(C)]
pub struct Walk<State> {
    pub state: *mut State,
    /// Address of the bytes.
    from: u64,
    length: u32,
    /// Bytes that were passed.
    at: u32,
    /// What the walk found. The first step finds 0.
    outcome: u32,
    pad: u32,
}

impl<State> Walk<State> {
    /// Walks through the `length` bytes at the address `from`, of which `at` were passed before. A step returns whether the walk goes on. Returns
    /// the outcome and how many bytes were passed.
    #[inline(always)]
    pub fn run(
        state: *mut State,
        from: u64,
        length: u32,
        at: u32,
        steps: u32,
        step: extern "C" fn(u32, *mut Self) -> i64,
    ) -> (u32, u32) {
        let mut walk = Self { state, from, length, at, outcome: 0, pad: 0 };
        // SAFETY: the callback takes the index and a Walk.
        unsafe { bpf_loop(steps, step as *mut c_void, (&raw mut walk).cast(), 0) };
        // SAFETY: the callback changes it.
        unsafe { ((&raw const walk.outcome).read_volatile(), (&raw const walk.at).read_volatile()) }
    }

    /// How many bytes are left.
    #[inline(always)]
    pub fn left(&self) -> u32 {
        self.length.saturating_sub(self.at)
    }

    /// The address of the next byte.
    #[inline(always)]
    pub fn address(&self) -> u64 {
        self.from + u64::from(self.at)
    }

    #[inline(always)]
    pub fn pass(&mut self, bytes: u32) {
        self.at += bytes;
    }

    /// Ends the walk.
    #[inline(always)]
    pub fn end(&mut self, outcome: u32) -> i64 {
        self.outcome = outcome;
        LEAVE
    }
}
