//! Distinguishes versions of a file, so that what was read of it can be remembered.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// A file's content, as far as the file system can distinguish it from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileVersion {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    /// Unlike `modified`, the owner of a file cannot set it.
    changed: (i64, i64),
    length: u64,
}

impl FileVersion {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            length: metadata.len(),
        })
    }

    /// The device and inode, which stay while somebody uses the file. The version changes when the file is renamed or deleted.
    pub(crate) fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}
