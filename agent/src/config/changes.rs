//! Notices that the configuration file was changed.
//!
//! The folders are watched, not the file: editors replace files, and Kubernetes swaps a link above the file. If the file is behind links, its own
//! folder is watched too. What counts is the text: only a different one is a change.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::contents;

/// How long the file must be left alone before it is read. An editor writes it in several steps.
const QUIET: Duration = Duration::from_millis(50);

/// Watches a file.
#[derive(Debug)]
pub struct Changes {
    inotify: AsyncFd<OwnedFd>,
    file: PathBuf,
    /// The text that was seen last. None if it could not be read.
    seen: Option<String>,
    /// Something happened in the folders, or may have, that was not looked into yet.
    is_stirred: bool,
}

impl Changes {
    /// Watches a file that was read, with this text. To be called in a tokio runtime.
    pub fn watch(file: &Path, text: String) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // SAFETY: the descriptor is owned, and stays open and unchanged until it is dropped with the AsyncFd.
        let inotify = unsafe { AsyncFd::register(inotify) }?;
        let changes = Self { inotify, file: file.to_owned(), seen: Some(text), is_stirred: true };
        changes.watch_folders()?;
        Ok(changes)
    }

    /// Completes when the file has another text, or has become unreadable. May be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            if !self.is_stirred {
                match self.inotify.readable().await {
                    Ok(mut guard) => guard.clear_ready(),
                    // The event loop ends.
                    Err(_) => std::future::pending().await,
                }
                self.is_stirred = true;
            }
            tokio::time::sleep(QUIET).await;
            if self.drain() {
                continue;
            }
            self.is_stirred = false;
            if self.look() {
                return;
            }
        }
    }

    /// Notes that the file is about to be read for another reason.
    pub fn read_now(&mut self) {
        self.look();
    }

    /// Takes the events that have come. Returns whether there were any since the last call.
    fn drain(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut any = false;
        while events.next().is_ok() {
            any = true;
        }
        any
    }

    /// Whether the text is another one than when it was last looked at.
    fn look(&mut self) -> bool {
        // Links may lead elsewhere now. What cannot be watched is read again on SIGHUP.
        let _ = self.watch_folders();
        let text = contents(&self.file).ok();
        let is_changed = text != self.seen;
        self.seen = text;
        is_changed
    }

    fn watch_folders(&self) -> io::Result<()> {
        const EVENTS: WatchFlags = WatchFlags::CREATE
            .union(WatchFlags::MOVED_TO)
            .union(WatchFlags::MOVED_FROM)
            .union(WatchFlags::DELETE)
            .union(WatchFlags::CLOSE_WRITE);
        let folder = |file: &Path| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        inotify::add_watch(self.inotify.get_ref(), folder(&self.file), EVENTS)?;
        if let Ok(target) = self.file.canonicalize() {
            inotify::add_watch(self.inotify.get_ref(), folder(&target), EVENTS)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Whether a change is noticed soon.
    async fn is_noticed(changes: &mut Changes) -> bool {
        tokio::time::timeout(Duration::from_secs(5), changes.changed()).await.is_ok()
    }

    async fn is_quiet(changes: &mut Changes) -> bool {
        tokio::time::timeout(Duration::from_millis(300), changes.changed()).await.is_err()
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("onlooker.yaml");
        fs::write(&file, "a").unwrap();
        let mut changes = Changes::watch(&file, "a".to_owned()).unwrap();
        assert!(is_quiet(&mut changes).await);
        fs::write(&file, "b").unwrap();
        assert!(is_noticed(&mut changes).await);
        fs::write(folder.path().join("new"), "c").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert!(is_noticed(&mut changes).await);
        // The same text again, and another file.
        fs::write(&file, "c").unwrap();
        fs::write(folder.path().join("other"), "d").unwrap();
        assert!(is_quiet(&mut changes).await);
        fs::remove_file(&file).unwrap();
        assert!(is_noticed(&mut changes).await);
        fs::write(&file, "c").unwrap();
        assert!(is_noticed(&mut changes).await);
    }

    /// Kubernetes updates a ConfigMap so.
    #[tokio::test]
    async fn a_link_that_is_swapped_above_the_file_changes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("onlooker.yaml"), text).unwrap();
        };
        version("..1", "a");
        symlink("..1", path("..data")).unwrap();
        symlink("..data/onlooker.yaml", path("onlooker.yaml")).unwrap();
        let mut changes = Changes::watch(&path("onlooker.yaml"), "a".to_owned()).unwrap();
        for (name, text) in [("..2", "b"), ("..3", "c")] {
            version(name, text);
            symlink(name, path("..data_tmp")).unwrap();
            fs::rename(path("..data_tmp"), path("..data")).unwrap();
            assert!(is_noticed(&mut changes).await, "{name}");
        }
        // A link to a folder elsewhere.
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("shared.yaml");
        fs::write(&target, "c").unwrap();
        fs::remove_file(path("onlooker.yaml")).unwrap();
        symlink(&target, path("onlooker.yaml")).unwrap();
        assert!(is_quiet(&mut changes).await, "the text is the same");
        fs::write(&target, "d").unwrap();
        assert!(is_noticed(&mut changes).await);
    }

    #[tokio::test]
    async fn a_change_is_not_forgotten_when_the_wait_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("onlooker.yaml");
        fs::write(&file, "a").unwrap();
        let mut changes = Changes::watch(&file, "a".to_owned()).unwrap();
        fs::write(&file, "b").unwrap();
        let brief = tokio::time::timeout(Duration::from_millis(10), changes.changed()).await;
        assert!(brief.is_err(), "the file may be written further");
        assert!(is_noticed(&mut changes).await);
    }
}
