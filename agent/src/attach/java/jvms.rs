//! Loads the library into the JVMs among the selected processes.
//!
//! This runs on a thread of its own, because a JVM may take seconds to answer.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use onlooker_common::unit;
use onlooker_engine::model::counters::Counters;
use rustc_hash::FxHashMap;

use super::{NotLoaded, load};
use crate::attach::Libraries;
use crate::attach::looks::{self, Look, Looks};
use crate::discover::process::{self, ExecImage, Process};
use crate::runtimes::Recogniser;

/// How many messages may wait for the thread.
const QUEUE: usize = 8192;
/// The pause before a JVM that has not started up is looked at again. It doubles each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked at: for 40 seconds in all.
const LOOKS: u32 = 200;
/// A process that is no JVM after so many looks, in a second, is not looked at again.
const BECOMES_JVM_WITHIN: u32 = 10;
/// After so many looks, in 2 seconds, a JVM has started up.
const STARTED_AFTER: u32 = 15;

enum Message {
    Runs {
        tgid: u32,
    },
    Ended {
        tgid: u32,
    },
    /// Ends may have been missed.
    Sweep,
}

/// Passes processes to the thread.
#[derive(Debug)]
pub struct Jvms {
    sender: Option<SyncSender<Message>>,
    counters: Arc<Counters>,
}

impl Jvms {
    /// Starts the thread. It ends when this is dropped.
    #[must_use]
    pub fn start(libraries: Libraries, recogniser: Arc<Recogniser>, counters: Arc<Counters>) -> Self {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let loader = Loader {
            libraries,
            recogniser,
            counters: Arc::clone(&counters),
            looks: Looks::default(),
            done: FxHashMap::default(),
        };
        let thread = std::thread::Builder::new().name("jvms".to_owned()).spawn(move || loader.run(&receiver));
        if let Err(error) = &thread {
            tracing::warn!(%error, "cannot start the thread that loads into JVMs; their TLS is not read");
        }
        Self { sender: thread.is_ok().then_some(sender), counters }
    }

    /// A selected process runs a program.
    pub fn runs(&self, tgid: u32) {
        if let Some(sender) = &self.sender
            && sender.try_send(Message::Runs { tgid }).is_err()
        {
            self.counters.jvms_not_loaded.add(1);
        }
    }

    /// A selected process ended.
    pub fn ended(&self, tgid: u32) {
        // If the message is lost, the next sweep finds out.
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::Ended { tgid });
        }
    }

    /// Forgets processes whose end was not reported.
    pub fn sweep(&self) {
        // If the message is lost, the next sweep does it.
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::Sweep);
        }
    }
}

/// The state of the thread.
struct Loader {
    libraries: Libraries,
    recogniser: Arc<Recogniser>,
    counters: Arc<Counters>,
    looks: Looks,
    /// JVMs that are not looked at again, by their image in memory.
    done: FxHashMap<u32, ExecImage>,
}

impl Loader {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = self.looks.receive(messages) {
            match message {
                Some(Message::Runs { tgid }) if self.is_done(tgid) => {}
                Some(Message::Runs { tgid }) => {
                    self.looks.remove(tgid);
                    self.look(Look::first(tgid));
                }
                Some(Message::Ended { tgid }) => {
                    self.looks.remove(tgid);
                    self.done.remove(&tgid);
                }
                Some(Message::Sweep) => {
                    for tgid in process::ended(self.done.keys().copied()) {
                        self.done.remove(&tgid);
                    }
                }
                None => {}
            }
            let now = Instant::now();
            while let Some(look) = self.looks.take_due(now) {
                self.look(look);
            }
        }
    }

    /// Whether the process is dealt with, and has executed no other program since.
    fn is_done(&self, tgid: u32) -> bool {
        let image = || Process::open(tgid).ok()?.exec_image();
        self.done.get(&tgid).is_some_and(|done| image().as_ref() == Some(done))
    }

    fn look_again(&mut self, tgid: u32, before: u32) {
        self.looks.again(tgid, before, looks::doubling(FIRST_PAUSE, before, LONGEST_PAUSE));
    }

    fn look(&mut self, Look { tgid, before, .. }: Look) {
        let Ok(process) = Process::open(tgid) else { return };
        let runtime = self.recogniser.recognise(&process).runtime;
        if runtime.unit_of_work.is_none_or(|work| work.kind != unit::VIRTUAL_THREAD) {
            // It may be about to execute a JVM, or to load one.
            if before < BECOMES_JVM_WITHIN {
                self.look_again(tgid, before);
            }
            return;
        }
        let image = process.exec_image();
        let loaded = load(&process, before >= STARTED_AFTER);
        if let Some(image) = image
            && !matches!(loaded, Err(NotLoaded::NotYet(_)))
        {
            self.done.insert(tgid, image);
        }
        match loaded {
            Ok(()) => {
                tracing::info!(pid = tgid, "the JVM has loaded the library");
                self.libraries.loaded(tgid);
            }
            Err(NotLoaded::NotYet(why)) if before + 1 < LOOKS => {
                tracing::debug!(pid = tgid, why, "not loaded yet");
                self.look_again(tgid, before);
            }
            // A JVM that has ended needs nothing.
            Err(_) if !process.is_alive() => {}
            Err(why) => {
                self.counters.jvms_not_loaded.add(1);
                tracing::warn!(pid = tgid, %why, "TLS of the JVM is not read");
            }
        }
    }
}
