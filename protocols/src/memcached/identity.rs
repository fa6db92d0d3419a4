//! What ties a response to its request.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::binary::Header;

/// What a response repeats of its request. Only digests are kept of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Identity {
    /// Of binary messages.
    pub(super) opcode: Option<u8>,
    pub(super) opaque: Option<u64>,
    pub(super) key: Option<u64>,
}

impl Identity {
    pub(super) fn of_meta(key: Option<&[u8]>, opaque: Option<&[u8]>) -> Self {
        Self { opcode: None, opaque: opaque.map(digest), key: key.map(digest) }
    }

    pub(super) fn of_binary(header: &Header, key: Option<&[u8]>) -> Self {
        let key = key.filter(|key| !key.is_empty()).map(digest);
        Self { opcode: Some(header.opcode), opaque: Some(header.opaque.into()), key }
    }

    /// Whether nothing that a response repeats contradicts that it answers the request with this identity.
    pub(super) fn fits(&self, response: &Self) -> bool {
        let may_equal = |request: Option<u64>, response: Option<u64>| match (request, response) {
            (Some(request), Some(response)) => request == response,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        let key_fits = self.key.is_none() || response.key.is_none() || self.key == response.key;
        self.opcode == response.opcode && may_equal(self.opaque, response.opaque) && key_fits
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
