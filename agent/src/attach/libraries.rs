//! Attaches kernel programs to the TLS libraries of selected processes.
//!
//! This runs on a thread of its own (`attacher`), because attaching to a function takes about a millisecond. It looks at files with
//! likely names, and another thread at all of them (`search`). A library may be loaded after the program has started. So a process
//! is looked at again, with growing pauses, and when a connection of it shows TLS while no library is known.

mod attacher;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::time::Duration;

use onlooker_engine::model::counters::Counters;
use tokio::sync::oneshot;

use self::attacher::Attacher;
use super::search::{Searched, Searches};
use crate::kernel::FunctionPrograms;

/// How many messages may wait for the thread.
const QUEUE: usize = 8192;

#[derive(Debug)]
enum Message {
    /// It is going to execute this program, and waits.
    Starts {
        tgid: u32,
        program: PathBuf,
    },
    Runs {
        tgid: u32,
        has_just_begun: bool,
    },
    Forked {
        parent: u32,
        child: u32,
    },
    Ended {
        tgid: u32,
    },
    /// Ends may have been missed.
    Sweep,
    UsesTls {
        tgid: u32,
    },
    Loaded {
        tgid: u32,
    },
    /// All files of a process were searched.
    Searched(Searched),
    /// All earlier messages are handled when this is dropped.
    Barrier(#[expect(dead_code, reason = "held to be dropped")] Sender<()>),
    /// So are all searches that they caused.
    SearchBarrier(oneshot::Sender<()>),
    /// The searches have ended.
    SearchesEnded(#[expect(dead_code, reason = "held to be dropped")] oneshot::Sender<()>),
}

impl From<Searched> for Message {
    fn from(searched: Searched) -> Self {
        Self::Searched(searched)
    }
}

/// Passes processes to the thread.
#[derive(Debug, Clone)]
pub struct Libraries {
    /// The thread ends when it is dropped. The thread that searches has a weak reference.
    sender: Option<Arc<SyncSender<Message>>>,
    counters: Arc<Counters>,
}

impl Libraries {
    /// Attaches to no library.
    #[must_use]
    pub fn off(counters: Arc<Counters>) -> Self {
        Self { sender: None, counters }
    }

    /// Starts the threads. They end when this is dropped.
    #[must_use]
    pub fn start(programs: FunctionPrograms, counters: Arc<Counters>) -> Self {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let sender = Arc::new(sender);
        let weak = Arc::downgrade(&sender);
        let searches =
            Searches::start(move |message| weak.upgrade().is_some_and(|sender| sender.send(message).is_ok()));
        let attacher = searches.map(|searches| Attacher::new(programs, searches, Arc::clone(&counters)));
        let start = |attacher: Attacher| {
            std::thread::Builder::new().name("tls".to_owned()).spawn(move || attacher.run(&receiver))
        };
        let thread = attacher.and_then(start);
        if let Err(error) = &thread {
            tracing::warn!(%error, "cannot start the threads that attach to TLS libraries; TLS is not read");
        }
        Self { sender: thread.is_ok().then_some(sender), counters }
    }

    /// A selected process waits to execute a program.
    pub fn starts(&self, tgid: u32, program: &Path) {
        self.send(Message::Starts { tgid, program: program.to_owned() });
    }

    /// A selected process runs a program. `has_just_begun`: it may not have loaded its libraries yet.
    pub fn runs(&self, tgid: u32, has_just_begun: bool) {
        self.send(Message::Runs { tgid, has_just_begun });
    }

    /// A selected process forked.
    pub fn forked(&self, parent: u32, child: u32) {
        self.send(Message::Forked { parent, child });
    }

    /// A connection of a selected process shows TLS, and its plaintext is not recorded.
    pub fn uses_tls(&self, tgid: u32) {
        self.send(Message::UsesTls { tgid });
    }

    /// A selected process has loaded a library just now.
    pub fn loaded(&self, tgid: u32) {
        self.send(Message::Loaded { tgid });
    }

    /// A selected process ended.
    pub fn ended(&self, tgid: u32) {
        self.send(Message::Ended { tgid });
    }

    /// Forgets processes whose end was not reported.
    pub fn sweep(&self) {
        self.send(Message::Sweep);
    }

    /// Waits until the processes that were reported so far have been looked at, which does not include their searches. Returns
    /// whether that was in time.
    #[must_use]
    pub fn have_looked(&self, patience: Duration) -> bool {
        let Some(sender) = &self.sender else { return true };
        let (barrier, passed) = mpsc::channel();
        // The thread drops the barrier, or has ended.
        sender.try_send(Message::Barrier(barrier)).is_err()
            || passed.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    /// Completes, with an error, when the processes that were reported so far have been looked at and searched.
    #[must_use]
    pub fn looked_at(&self) -> oneshot::Receiver<()> {
        let (barrier, passed) = oneshot::channel();
        if let Some(sender) = &self.sender {
            // If it does not fit into the queue, the receiver learns that at once.
            let _ = sender.try_send(Message::SearchBarrier(barrier));
        }
        passed
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender
            && let Err(TrySendError::Full(message)) = sender.try_send(message)
            // What ended is found by a later sweep.
            && !matches!(message, Message::Ended { .. } | Message::Sweep)
        {
            self.counters.tls_looks_missed.add(1);
        }
    }
}
