//! Memory of requests that are done with, for those to come: what was grown once is not grown again.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept: for as many requests as are on their way or being made while a collector keeps up. Those of a backlog
/// are freed when it is gone.
const KEPT: usize = 6;

/// Where buffers come from and go back to.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
    /// What the last request took.
    usual: AtomicUsize,
}

impl Buffers {
    /// An empty buffer that has room for what the last request took.
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

    /// Makes a request of all of `buffer` from `start` on. The buffer comes back when the last who holds it lets go.
    pub(super) fn lend(self: &Arc<Self>, buffer: Vec<u8>, start: usize) -> Bytes {
        self.usual.store(buffer.len(), Relaxed);
        Bytes::from_owner(Lent { buffer, home: Arc::clone(self) }).slice(start..)
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_request_is_gone_and_is_used_again() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"..request");
        let memory = buffer.as_ptr();
        let request = buffers.lend(buffer, 2);
        let again = request.clone();
        assert_eq!(request, "request");
        drop(request);
        let other = buffers.take();
        assert!(other.as_ptr() != memory && other.capacity() >= b"..request".len(), "as large as the last");
        assert_eq!(again, "request");
        drop(again);
        let buffer = buffers.take();
        assert_eq!((buffer.as_ptr(), buffer.len()), (memory, 0));
    }

    #[test]
    fn few_are_kept() {
        let buffers = Buffers::default();
        for _ in 0..2 * KEPT {
            buffers.give_back(Vec::with_capacity(1));
        }
        assert_eq!(buffers.spare.lock().unwrap().len(), KEPT);
    }
}
