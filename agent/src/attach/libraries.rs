//! Attaches kernel programs to the TLS libraries of selected processes.
//!
//! This runs on a thread of its own, because attaching to a function takes about a millisecond. A library may be loaded after
//! the program has started. So a process is looked at again, with growing pauses, and when a connection of it shows TLS while
//! no library is known.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use onlooker_engine::model::counters::Counters;
use tokio::sync::oneshot;

use super::java;
use super::linked;
use super::looks::{Look, Looks};
use super::tls::{self, Place, PlaceId};
use crate::discover::process::{ExecImage, Process};
use crate::kernel::{FunctionLink, FunctionPrograms};

/// How many messages may wait for the thread.
const QUEUE: usize = 8192;

/// The pauses between looks at a process that executed a program. The dynamic linker loads libraries within milliseconds, and
/// an interpreter imports them while it starts.
const PAUSES: [Duration; 8] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The shortest time between two looks at a process because of its connections.
const HINT_PAUSE: Duration = Duration::from_millis(200);

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
    UsesTls {
        tgid: u32,
    },
    Loaded {
        tgid: u32,
    },
    /// All earlier messages are handled when this is dropped.
    Barrier(Barrier),
}

#[derive(Debug)]
#[expect(dead_code, reason = "held to be dropped")]
enum Barrier {
    Thread(Sender<()>),
    Task(oneshot::Sender<()>),
}

/// Passes processes to the thread.
#[derive(Debug, Clone)]
pub struct Libraries {
    sender: Option<SyncSender<Message>>,
    counters: Arc<Counters>,
}

impl Libraries {
    /// Attaches to no library.
    #[must_use]
    pub fn off(counters: Arc<Counters>) -> Self {
        Self { sender: None, counters }
    }

    /// Starts the thread. It ends when this is dropped.
    #[must_use]
    pub fn start(programs: FunctionPrograms, counters: Arc<Counters>) -> Self {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let attacher = Attacher {
            programs,
            counters: Arc::clone(&counters),
            attached: HashMap::new(),
            looked: HashMap::new(),
            unread_jvms: HashSet::new(),
            looks: Looks::default(),
            is_prepared: false,
        };
        let thread = std::thread::Builder::new().name("tls".to_owned()).spawn(move || attacher.run(&receiver));
        if let Err(error) = &thread {
            tracing::warn!(%error, "cannot start the thread that attaches to TLS libraries; TLS is not read");
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

    /// Waits until the processes that were reported so far have been looked at. Returns whether that was in time.
    #[must_use]
    pub fn have_looked(&self, patience: Duration) -> bool {
        let Some(sender) = &self.sender else { return true };
        let (barrier, passed) = mpsc::channel();
        // The thread drops the barrier, or has ended.
        sender.try_send(Message::Barrier(Barrier::Thread(barrier))).is_err()
            || passed.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    /// Completes, with an error, when the processes that were reported so far have been looked at.
    #[must_use]
    pub fn looked_at(&self) -> oneshot::Receiver<()> {
        let (barrier, passed) = oneshot::channel();
        if let Some(sender) = &self.sender {
            // If it does not fit into the queue, the receiver learns that at once.
            let _ = sender.try_send(Message::Barrier(Barrier::Task(barrier)));
        }
        passed
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender
            && let Err(TrySendError::Full(message)) = sender.try_send(message)
            && !matches!(message, Message::Ended { .. })
        {
            self.counters.tls_looks_missed.add(1);
        }
    }
}

/// The state of the thread.
struct Attacher {
    programs: FunctionPrograms,
    counters: Arc<Counters>,
    attached: HashMap<u32, Attached>,
    /// When processes were looked at because of a connection.
    looked: HashMap<u32, Instant>,
    /// JVMs whose TLS is not read.
    unread_jvms: HashSet<u32>,
    looks: Looks,
    /// The kernel programs that most libraries need are loaded.
    is_prepared: bool,
}

/// What is attached to a process.
#[derive(Debug, Default)]
struct Attached {
    /// The program that the process runs, by its image in memory.
    image: Option<ExecImage>,
    /// It has not begun to run the program that this is for.
    is_ahead: bool,
    places: HashMap<PlaceId, Known>,
    links: Vec<FunctionLink>,
}

/// A place that was attached to.
#[derive(Debug)]
struct Known {
    place: Place,
    /// The process had not mapped its file, as far as was seen. Then the path of the place is of no use any more.
    is_ahead: bool,
}

impl Attacher {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = self.looks.receive(messages) {
            if let Some(message) = message {
                self.take(message);
            }
            let now = Instant::now();
            while let Some(look) = self.looks.take_due(now) {
                self.look(look);
            }
        }
        // The agent is ending. Another process detaches: see `crate::detach`.
        mem::forget(self.attached);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Starts { tgid, program } => {
                if let Ok(process) = Process::open(tgid) {
                    self.attach_ahead(&process, &program, None);
                }
                self.attached.entry(tgid).or_default().is_ahead = true;
            }
            Message::Runs { tgid, has_just_begun } => {
                let Ok(process) = Process::open(tgid) else { return self.forget(tgid) };
                let image = process.exec_image();
                match self.attached.get_mut(&tgid) {
                    Some(attached) if attached.is_ahead => {
                        attached.is_ahead = false;
                        attached.image = image;
                    }
                    Some(attached) if image.is_some() && attached.image == image => return,
                    _ => {
                        self.forget(tgid);
                        if has_just_begun && let Ok(Some(program)) = process.executable() {
                            self.attach_ahead(&process, &program, image);
                        }
                    }
                }
                self.look(Look::first(tgid));
            }
            Message::Forked { parent, child } => {
                let attached = self.attached.get(&parent);
                let places = attached.iter().flat_map(|attached| attached.places.values());
                let places: Vec<_> = places.filter_map(|known| of_child(&known.place, parent, child)).collect();
                if !places.is_empty() {
                    let image = Process::open(child).ok().and_then(|process| process.exec_image());
                    self.attach(child, image, places, false);
                } else if self.looks.contains(parent) {
                    self.looks.add(Look::first(child));
                }
            }
            Message::UsesTls { tgid } => {
                let now = Instant::now();
                if self.looked.get(&tgid).is_none_or(|&before| now.duration_since(before) >= HINT_PAUSE) {
                    self.looked.insert(tgid, now);
                    self.look_once(tgid);
                    if self.attached.get(&tgid).is_none_or(|attached| attached.links.is_empty()) && is_jvm(tgid) {
                        self.unread_jvms.insert(tgid);
                    }
                }
                self.counters.connections_tls_java.add(u64::from(self.unread_jvms.contains(&tgid)));
            }
            Message::Loaded { tgid } => {
                self.unread_jvms.remove(&tgid);
                self.look_once(tgid);
            }
            Message::Ended { tgid } => self.forget(tgid),
            Message::Barrier(passed) => {
                drop(passed);
                // The start does not wait any more. A program may use TLS milliseconds after it begins.
                if !mem::replace(&mut self.is_prepared, true) {
                    self.programs.prepare(&[tls::BEGINS, tls::RETURNED]);
                }
            }
        }
    }

    fn forget(&mut self, tgid: u32) {
        self.looks.remove(tgid);
        self.looked.remove(&tgid);
        self.unread_jvms.remove(&tgid);
        if let Some(attached) = self.attached.remove(&tgid) {
            self.programs.detach(attached.links);
        }
    }

    fn look(&mut self, Look { tgid, before, .. }: Look) {
        self.look_once(tgid);
        // It may load another library.
        let pause = usize::try_from(before).ok().and_then(|before| PAUSES.get(before));
        if let Some(&pause) = pause
            && Process::open(tgid).is_ok()
        {
            self.looks.again(tgid, before, pause);
        }
    }

    fn look_once(&mut self, tgid: u32) {
        let Ok(process) = Process::open(tgid) else { return };
        let found = tls::find(&process);
        for library in found {
            if self.attach(tgid, process.exec_image(), library.functions, false) {
                tracing::info!(pid = tgid, library = library.library.name, file = library.file, "TLS is read");
            }
        }
    }

    /// Attaches to the libraries that a program is linked with, before the process has mapped them.
    fn attach_ahead(&mut self, process: &Process, program: &Path, image: Option<ExecImage>) {
        let binaries = linked::binaries(process, program);
        for library in tls::find_linked(&binaries) {
            self.attach(process.pid(), image.clone(), library.functions, true);
        }
    }

    /// Attaches to functions of a process, unless they are attached already. Returns whether it attached to any, or they are attached
    /// already and it was not known that the process has mapped them.
    fn attach(&mut self, tgid: u32, image: Option<ExecImage>, places: Vec<Place>, is_ahead: bool) -> bool {
        if self.programs.is_behind() {
            self.counters.tls_looks_missed.add(1);
            return false;
        }
        let attached = self.attached.entry(tgid).or_default();
        attached.image = image;
        let mut were_ahead = false;
        let mut new = Vec::new();
        for place in places {
            match attached.places.get_mut(&place.id()) {
                Some(known) if known.is_ahead && !is_ahead => {
                    were_ahead = true;
                    *known = Known { place, is_ahead };
                }
                Some(_) => {}
                None => {
                    attached.places.insert(place.id(), Known { place: place.clone(), is_ahead });
                    new.push(place);
                }
            }
        }
        let locations: Vec<_> = new.iter().map(Place::location).collect();
        let before = Instant::now();
        // None: the agent is ending.
        let Some(attachment) = self.programs.attach(tgid, &locations) else { return false };
        if !new.is_empty() {
            let (functions, links, took) = (new.len(), attachment.links.len(), before.elapsed());
            tracing::debug!(pid = tgid, functions, links, ?took, "attached");
        }
        let is_attached = were_ahead || !attachment.links.is_empty();
        attached.links.extend(attachment.links);
        // The process may have ended.
        if !attachment.failed.is_empty() && !Process::open(tgid).is_ok_and(|process| process.is_alive()) {
            return false;
        }
        self.counters.functions_not_observed.add(attachment.failed.len() as u64);
        for (at, (index, error)) in attachment.failed.iter().enumerate() {
            let function = new[*index].function;
            // One line for a process is enough: the others usually fail for the same reason.
            if at > 0 {
                tracing::debug!(pid = tgid, function, %error, "cannot observe a function");
            } else {
                tracing::warn!(pid = tgid, function, %error, "cannot observe functions; TLS may not be read");
            }
        }
        is_attached
    }
}

fn is_jvm(tgid: u32) -> bool {
    Process::open(tgid).is_ok_and(|process| java::is_jvm(&process))
}

/// The place in a process that was forked, which has the same mappings.
fn of_child(place: &Place, parent: u32, child: u32) -> Option<Place> {
    let inside = place.path.strip_prefix(Path::new("/proc").join(parent.to_string())).ok()?;
    let path: PathBuf = Path::new("/proc").join(child.to_string()).join(inside);
    Some(Place { path, ..place.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_version::FileVersion;

    #[test]
    fn a_forked_process_has_the_same_file_at_the_same_place() {
        let place = Place {
            function: "SSL_read",
            program: "tls_begins",
            cookie: 1,
            path: PathBuf::from("/proc/10/map_files/1000-2000"),
            version: FileVersion::of(&tempfile::tempfile().unwrap()).unwrap(),
            offset: 16,
        };
        let child = of_child(&place, 10, 11).unwrap();
        assert_eq!(child.path, Path::new("/proc/11/map_files/1000-2000"));
        assert_eq!(of_child(&place, 12, 13), None);
    }
}
