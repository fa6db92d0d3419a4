//! The file that lines are appended to.
//!
//! A line that could not be written completely is removed again. So a full disk costs spans, which are counted, and the
//! next line is tried. If the file ends within a line, left by an agent that was killed, a new line is begun first.
//!
//! The file may be a FIFO. Opening one never waits for a reader, and writing to one never blocks the thread.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::debug;

/// Spans may contain personal data, so only the owner may read the file.
const MODE: u32 = 0o600;
/// How long to wait before writing to a full FIFO again.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// A file that lines are appended to.
#[derive(Debug)]
pub(super) struct TargetFile {
    path: PathBuf,
    /// When a line would make the file larger, the file is renamed, and a new one begun.
    max_bytes: Option<u64>,
    /// None while it must be opened again, or is a FIFO without a reader.
    file: Option<File>,
    /// The file ends within a line: from before, or because a line could not be removed.
    torn: bool,
}

impl TargetFile {
    /// Opens or creates the file.
    pub(super) fn open(path: PathBuf, max_bytes: Option<u64>) -> io::Result<Self> {
        let mut target = Self { path, max_bytes, file: None, torn: false };
        target.open_file()?;
        Ok(target)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file at the path again before the next line, because the old one may have been renamed.
    pub(super) fn reopen(&mut self) {
        self.file = None;
    }

    /// Appends a line. Waits while a FIFO is full.
    pub(super) async fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open_file()?;
        }
        self.rotate(line.len())?;
        let Some(file) = &mut self.file else {
            return Err(io::Error::new(ErrorKind::NotConnected, "the FIFO has no reader"));
        };
        if self.torn {
            write_all(file, b"\n").await?;
            self.torn = false;
        }
        let metadata = file.metadata()?;
        let written = write_all(file, line).await;
        if let Err(error) = &written {
            self.torn = !(metadata.is_file() && file.set_len(metadata.len()).is_ok());
            if error.kind() == ErrorKind::BrokenPipe {
                // The reader of the FIFO has gone. Another one begins with a whole line.
                self.file = None;
                self.torn = false;
            }
        }
        written
    }

    fn open_file(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(MODE).custom_flags(libc::O_NONBLOCK);
        match options.open(&self.path) {
            Ok(file) => {
                self.torn = is_torn(&file, &self.path).unwrap_or_else(|error| {
                    debug!("cannot read the end of {}: {error}", self.path.display());
                    false
                });
                self.file = Some(file);
                Ok(())
            }
            // ENXIO: a FIFO that nothing reads (fifo(7)).
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_fifo(&self.path) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Renames the file to `PATH.1`, and begins a new one, if it would become too large.
    fn rotate(&mut self, added: usize) -> io::Result<()> {
        let (Some(file), Some(max)) = (&self.file, self.max_bytes) else { return Ok(()) };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 || metadata.len() + added as u64 <= max {
            return Ok(());
        }
        // Another program may have renamed it already.
        let at_path = self.path.metadata().ok();
        if at_path.is_some_and(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino())) {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            rename(&self.path, old)?;
        }
        self.file = None;
        self.open_file()
    }
}

async fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(FULL_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_fifo(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Whether a regular file ends within a line. Permission to write it does not imply permission to read it.
fn is_torn(file: &File, path: &Path) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, metadata.len() - 1)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn an_incomplete_line_is_ended_before_the_next() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "half").unwrap();
        let mut target = TargetFile::open(file.path().to_owned(), None).unwrap();
        target.append(b"whole\n").await.unwrap();
        target.append(b"next\n").await.unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "half\nwhole\nnext\n");
    }

    /// Issue 7, fault 16.
    #[tokio::test]
    async fn a_fifo_without_a_reader_blocks_nothing_and_is_written_when_it_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let mut target = TargetFile::open(path.clone(), None).unwrap();
        assert_eq!(target.append(b"lost\n").await.unwrap_err().kind(), ErrorKind::NotConnected);

        let read = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        let mut reader = read(&path);
        // More than a pipe holds: the rest is written when there is room again.
        let long = vec![b'x'; 100_000];
        let mut received = Vec::new();
        let reads = async {
            while received.len() < long.len() {
                let _ = reader.read_to_end(&mut received);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (written, ()) = tokio::join!(target.append(&long), reads);
        written.unwrap();
        assert_eq!(received, long);

        drop(reader);
        assert_eq!(target.append(b"lost\n").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut reader = read(&path);
        target.append(b"again\n").await.unwrap();
        let mut text = [0; 6];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"again\n");
    }

    /// Issue 7, fault 16.
    #[tokio::test]
    async fn a_renamed_file_is_left_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let (path, renamed) = (folder.path().join("spans"), folder.path().join("spans.old"));
        let mut target = TargetFile::open(path.clone(), None).unwrap();
        target.append(b"first\n").await.unwrap();
        rename(&path, &renamed).unwrap();
        target.reopen();
        target.append(b"second\n").await.unwrap();
        let texts = [renamed, path.clone()].map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!(texts, ["first\n", "second\n"]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
    }

    /// Issue 7, fault 16.
    #[tokio::test]
    async fn a_file_that_would_become_too_large_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans");
        let mut target = TargetFile::open(path.clone(), Some(12)).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "a line that is too long by itself\n", "five\n"] {
            target.append(line.as_bytes()).await.unwrap();
            let first = std::fs::read_to_string(&path).unwrap();
            assert!(first.len() <= 12 || first.lines().count() == 1, "{first}");
        }
        let texts = [folder.path().join("spans.1"), path].map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!(texts, ["a line that is too long by itself\n", "five\n"]);
    }
}
