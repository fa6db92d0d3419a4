//! Where the bytes of an ELF file come from: a file, or memory.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// The content of a file.
///
/// It may change or shrink while it is read. So nothing is mapped into memory, and every read may fail.
pub trait Content: fmt::Debug {
    /// In bytes.
    fn length(&self) -> u64;

    /// Fills `bytes` with what is at `offset`. False if the content is shorter or cannot be read.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool;
}

impl Content for File {
    fn length(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.read_exact_at(bytes, offset).is_ok()
    }
}

impl Content for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let found = from.and_then(|from| from.get(..bytes.len()));
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    }
}
