//! Reuses the memory of delivered requests, so that buffers grow only once.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// How many buffers are kept: as many as there are requests while a collector keeps up. Those of a backlog are freed.
const KEPT: usize = 6;

/// A pool of buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
    /// The size of the last request.
    usual: AtomicUsize,
}

impl Buffers {
    /// An empty buffer with room for a request like the last one.
    pub(super) fn take(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = spare.unwrap_or_default();
        buffer.reserve_exact(self.usual.load(Relaxed));
        buffer
    }

    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < KEPT {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Makes a request of `buffer` from `start` on. The buffer returns to the pool when the last clone is dropped.
    pub(super) fn lend(self: &Arc<Self>, buffer: Vec<u8>, start: usize) -> Bytes {
        self.usual.store(buffer.len(), Relaxed);
        Bytes::from_owner(Lent { buffer, pool: Arc::clone(self) }).slice(start..)
    }
}

struct Lent {
    buffer: Vec<u8>,
    pool: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_reused_when_its_request_is_dropped() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"..request");
        let memory = buffer.as_ptr();
        let request = buffers.lend(buffer, 2);
        let again = request.clone();
        assert_eq!(request, "request");
        drop(request);
        let other = buffers.take();
        assert!(other.as_ptr() != memory && other.capacity() >= b"..request".len(), "it has the size of the last");
        assert_eq!(again, "request");
        drop(again);
        let buffer = buffers.take();
        assert_eq!((buffer.as_ptr(), buffer.len()), (memory, 0));
    }

    #[test]
    fn a_limited_number_of_buffers_is_kept() {
        let buffers = Buffers::default();
        for _ in 0..2 * KEPT {
            buffers.give_back(Vec::with_capacity(1));
        }
        assert_eq!(buffers.spare.lock().unwrap().len(), KEPT);
    }
}
