//! Identifies what a proxy passes on unchanged, unless it is configured to rewrite it: method, target and host of a request.

use std::hash::Hasher as _;
use std::num::NonZeroU64;

use rustc_hash::FxHasher;

/// Hashes of the three, 0 of what is absent. HTTP/1 and HTTP/2 give the same for the same request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PassedOn {
    pub(crate) method: u64,
    pub(crate) target: u64,
    pub(crate) host: u64,
}

impl PassedOn {
    /// The hash of one of them.
    #[must_use]
    pub(crate) fn hash(bytes: &[u8]) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write(bytes);
        hasher.write_usize(bytes.len());
        hasher.finish()
    }

    /// One number for all three. `None` without a method or a target.
    #[must_use]
    pub(crate) fn number(self) -> Option<NonZeroU64> {
        let Self { method, target, host } = self;
        if method == 0 || target == 0 {
            return None;
        }
        let mut hasher = FxHasher::default();
        [method, target, host].into_iter().for_each(|hash| hasher.write_u64(hash));
        NonZeroU64::new(hasher.finish())
    }
}
