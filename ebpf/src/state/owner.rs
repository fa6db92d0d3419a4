//! Owners and message ids, in place.

use onlooker_common::owner::{MessageIds, Owner};

/// An owner, in place in a state.
#[derive(Clone, Copy)]
pub struct SharedOwner(*mut Owner);

impl SharedOwner {
    /// # Safety
    /// The pointer must point to a live value for as long as the program runs.
    #[inline(always)]
    pub unsafe fn within(owner: *mut Owner) -> Self {
        Self(owner)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *const Owner {
        self.0
    }

    /// The cookie of its connection; 0 if the owner is unknown.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: a member of a live value.
        unsafe { (*self.0).cookie }
    }

    #[inline(always)]
    pub fn position(self) -> u64 {
        // SAFETY: a member of a live value.
        unsafe { (*self.0).position }
    }

    #[inline(always)]
    pub fn ids(self) -> SharedIds {
        // SAFETY: a member of a live value.
        SharedIds(unsafe { &raw mut (*self.0).ids })
    }

    #[inline(always)]
    pub fn is_known(self) -> bool {
        self.cookie() != 0
    }

    #[inline(always)]
    pub fn is_same_request(self, other: Self) -> bool {
        self.cookie() == other.cookie() && self.position() == other.position()
    }

    #[inline(always)]
    pub fn set(self, cookie: u64, position: u64, ids: SharedIds, evidence: u32) {
        // SAFETY: members of live values. Copied word by word: a copy of the struct would go over the stack.
        unsafe {
            (*self.0).cookie = cookie;
            (*self.0).position = position;
            (*self.0).evidence = evidence;
        }
        self.ids().copy(ids);
    }

    #[inline(always)]
    pub fn copy(self, from: Self) {
        self.set(from.cookie(), from.position(), from.ids(), from.evidence());
    }

    #[inline(always)]
    pub fn copy_with_evidence(self, from: Self, evidence: u32) {
        self.set(from.cookie(), from.position(), from.ids(), evidence);
    }

    #[inline(always)]
    pub fn evidence(self) -> u32 {
        // SAFETY: a member of a live value.
        unsafe { (*self.0).evidence }
    }

    #[inline(always)]
    pub fn set_evidence(self, evidence: u32) {
        // SAFETY: a member of a live value.
        unsafe { (*self.0).evidence = evidence };
    }

    /// Makes the request unknown, and keeps the rest.
    #[inline(always)]
    pub fn forget(self) {
        // SAFETY: members of a live value.
        unsafe {
            (*self.0).cookie = 0;
            (*self.0).position = 0;
        }
    }

    /// Makes the owner unknown.
    #[inline(always)]
    pub fn clear(self) {
        // SAFETY: a live value, of which zeros are one.
        unsafe { self.0.write_bytes(0, 1) };
    }
}

/// The ids of a message, in place in a state.
#[derive(Clone, Copy)]
pub struct SharedIds(*mut MessageIds);

impl SharedIds {
    /// # Safety
    /// The pointer must point to a live value for as long as the program runs.
    #[inline(always)]
    pub unsafe fn within(ids: *mut MessageIds) -> Self {
        Self(ids)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *const MessageIds {
        self.0
    }

    #[inline(always)]
    pub fn trace_id(self) -> [u64; 2] {
        // SAFETY: a member of a live value.
        unsafe { (*self.0).trace_id }
    }

    #[inline(always)]
    pub fn set(self, trace_id: [u64; 2], span_id: u64) {
        // SAFETY: members of a live value.
        unsafe {
            (*self.0).trace_id = trace_id;
            (*self.0).span_id = span_id;
        }
    }

    #[inline(always)]
    pub fn span_id(self) -> u64 {
        // SAFETY: a member of a live value.
        unsafe { (*self.0).span_id }
    }

    #[inline(always)]
    pub fn set_trace_id(self, trace_id: [u64; 2]) {
        // SAFETY: a member of a live value.
        unsafe { (*self.0).trace_id = trace_id };
    }

    #[inline(always)]
    fn copy(self, from: Self) {
        self.set(from.trace_id(), from.span_id());
    }
}
