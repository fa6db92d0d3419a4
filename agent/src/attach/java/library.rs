//! The library, as a file that the JVM can load. It exists only while it is loaded.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

/// Empty if Onlooker was built without a JDK.
pub(super) static CONTENT: &[u8] = include_bytes!(env!("ONLOOKER_JAVA_LIBRARY"));

/// The library in /tmp of a process. Dropping this removes it: a library that is loaded stays.
#[derive(Debug)]
pub(super) struct Placed<'folder> {
    folder: BorrowedFd<'folder>,
    name: String,
}

impl<'folder> Placed<'folder> {
    /// Writes the library into a folder. It belongs to the agent, so that no other user can change it.
    pub(super) fn new(folder: &'folder impl AsFd) -> io::Result<Self> {
        let name = format!(".onlooker-{:016x}.so", RandomState::new().build_hasher().finish());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(folder, &name, flags, Mode::RWXU)?);
        let placed = Self { folder: folder.as_fd(), name };
        file.write_all(CONTENT)?;
        // The umask does not apply here.
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::XUSR | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)?;
        Ok(placed)
    }

    /// Its path for the process.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/tmp").join(&self.name)
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty())
            && error != rustix::io::Errno::NOENT
        {
            tracing::warn!(%error, file = %self.path().display(), "cannot remove the library for JVMs");
        }
    }
}
