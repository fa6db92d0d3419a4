//! Finds where processes have their units of work, and makes the kernel programs read them.
//!
//! This runs on a thread of its own, because it reads executables of up to 100 MB.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use onlooker_common::unit;
use onlooker_engine::model::counters::Counters;
use tokio::sync::oneshot;

use super::looks::{self, Look, Looks};
use super::probes::Probes;
use super::unit_of_work::Unread;
use crate::discover::process::Process;
use crate::kernel::{FunctionPrograms, UnitSources};
use crate::runtimes::Recogniser;

/// How many messages may wait for the thread.
const QUEUE: usize = 8192;
/// The pause before a runtime that has not started up is looked at again. It doubles each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// A runtime may serve requests as soon as it has started up.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked at: for 40 seconds in all.
const LOOKS: u32 = 200;

/// Units that name wrong owners if a function of the runtime is not observed.
const NEEDS_FUNCTIONS: [u32; 1] = [unit::ASYNC_ID];

enum Message {
    Runs {
        tgid: u32,
    },
    Ended {
        tgid: u32,
    },
    /// Ends may have been missed.
    Sweep,
    Forked {
        parent: u32,
        child: u32,
    },
    /// To be answered when the messages before it are dealt with.
    Reached(oneshot::Sender<()>),
}

/// Passes processes to the thread.
#[derive(Debug)]
pub struct Units {
    sender: Option<SyncSender<Message>>,
    counters: Arc<Counters>,
}

impl Units {
    /// Starts the thread. It ends when this is dropped.
    #[must_use]
    pub fn start(
        sources: UnitSources,
        programs: FunctionPrograms,
        recogniser: Arc<Recogniser>,
        counters: Arc<Counters>,
    ) -> Self {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let probes = Probes::new(programs);
        let finder = Finder { sources, probes, recogniser, counters: Arc::clone(&counters), looks: Looks::default() };
        let thread = std::thread::Builder::new().name("units".to_owned()).spawn(move || finder.run(&receiver));
        if let Err(error) = &thread {
            tracing::warn!(%error, "cannot start the thread that finds units of work; calls of event loops have fewer parents");
        }
        Self { sender: thread.is_ok().then_some(sender), counters }
    }

    /// A selected process runs a program.
    pub fn runs(&self, tgid: u32) {
        self.send(Message::Runs { tgid });
    }

    /// Completes when every process that was passed before was looked at.
    #[must_use]
    pub fn looked_at(&self) -> oneshot::Receiver<()> {
        let (reached, receiver) = oneshot::channel();
        if let Some(sender) = &self.sender {
            // If it does not fit into the queue, the receiver learns that at once.
            let _ = sender.try_send(Message::Reached(reached));
        }
        receiver
    }

    /// A selected process forked. The kernel programs read the child's unit like the parent's, if they know how by then.
    pub fn forked(&self, parent: u32, child: u32) {
        self.send(Message::Forked { parent, child });
    }

    /// A selected process ended.
    pub fn ended(&self, tgid: u32) {
        // If the message is lost, what is attached stays until the next sweep. It has no effect any more.
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::Ended { tgid });
        }
    }

    /// Detaches from processes whose end was not reported.
    pub fn sweep(&self) {
        // If the message is lost, the next sweep does it.
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::Sweep);
        }
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender
            && sender.try_send(message).is_err()
        {
            self.counters.units_unread.add(1);
        }
    }
}

/// The state of the thread.
struct Finder {
    sources: UnitSources,
    probes: Probes,
    recogniser: Arc<Recogniser>,
    counters: Arc<Counters>,
    looks: Looks,
}

impl Finder {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = self.looks.receive(messages) {
            match message {
                Some(Message::Runs { tgid }) => {
                    self.looks.remove(tgid);
                    self.probes.detach(tgid);
                    self.look(Look::first(tgid));
                }
                Some(Message::Forked { parent, child }) if self.looks.contains(parent) => {
                    self.looks.add(Look::first(child));
                }
                Some(Message::Forked { .. }) => {}
                Some(Message::Ended { tgid }) => {
                    self.looks.remove(tgid);
                    self.probes.detach(tgid);
                }
                Some(Message::Sweep) => self.probes.sweep(),
                Some(Message::Reached(reached)) => {
                    // The agent may be ending.
                    let _ = reached.send(());
                }
                None => {}
            }
            let now = Instant::now();
            while let Some(look) = self.looks.take_due(now) {
                self.look(look);
            }
        }
        self.probes.leave();
    }

    fn look(&mut self, Look { tgid, before, .. }: Look) {
        let Ok(process) = Process::open(tgid) else { return };
        let runtime = self.recogniser.recognise(&process).runtime;
        let Some(work) = runtime.unit_of_work else { return };
        let image = process.exec_image();
        let found = (work.find)(&process);
        // It may have executed another program meanwhile.
        if image.is_none() || process.exec_image() != image {
            return;
        }
        match found {
            Ok(source) => {
                let functions = runtime.functions.map(|functions| functions(&process)).unwrap_or_default();
                let failed = self.probes.attach(tgid, &functions);
                self.counters.functions_not_observed.add(failed);
                if failed > 0 && NEEDS_FUNCTIONS.contains(&source.kind) {
                    self.unread(tgid, runtime.name, &"its functions cannot be observed");
                } else if let Err(error) = self.sources.set(tgid, source) {
                    self.unread(tgid, runtime.name, &error);
                } else if process.exec_image() != image {
                    self.sources.remove(tgid);
                } else {
                    tracing::debug!(pid = tgid, runtime = runtime.name, ?source, "the unit of work is read");
                }
            }
            Err(Unread::NotYet(_)) if before + 1 < LOOKS => {
                self.looks.again(tgid, before, looks::doubling(FIRST_PAUSE, before, LONGEST_PAUSE));
            }
            Err(why @ Unread::Absent(_)) => {
                tracing::debug!(pid = tgid, runtime = runtime.name, %why, "there is no unit of work besides the thread");
            }
            Err(why) => self.unread(tgid, runtime.name, &why),
        }
    }

    fn unread(&self, tgid: u32, runtime: &str, why: &dyn fmt::Display) {
        self.counters.units_unread.add(1);
        tracing::info!(pid = tgid, runtime, %why, "the unit of work is not read; calls may have no parent");
    }
}
