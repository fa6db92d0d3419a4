//! The thread that attaches to TLS libraries.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use onlooker_engine::model::counters::Counters;

use super::Message;
use crate::attach::binary::mapped_by;
use crate::attach::looks::{Look, Looks};
use crate::attach::mappings::{code_version, mappings};
use crate::attach::search::{Searched, Searches};
use crate::attach::tls::{self, InProcess, Place, PlaceId};
use crate::attach::{java, linked};
use crate::discover::process::{self, ExecImage, Process};
use crate::kernel::{FunctionLink, FunctionPrograms};

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

/// The state of the thread.
pub(super) struct Attacher {
    programs: FunctionPrograms,
    counters: Arc<Counters>,
    searches: Searches<Message>,
    attached: HashMap<u32, Attached>,
    /// The code of processes when they were looked at last, see [`code_version`].
    seen: HashMap<u32, u64>,
    /// When processes were looked at because of a connection.
    looked: HashMap<u32, Instant>,
    /// Processes whose TLS is not read, as far as the reason is known.
    unread: HashMap<u32, Unread>,
    /// Connections with TLS of processes in which no library is known yet.
    unexplained: HashMap<u32, u64>,
    looks: Looks,
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

/// Why the TLS of a process is not read.
#[derive(Debug, Clone, Copy)]
enum Unread {
    /// It is a JVM.
    Jvm,
    /// The process has a library that is recognised only.
    Library,
}

/// A place that was attached to.
#[derive(Debug)]
struct Known {
    place: Place,
    /// The process had not mapped its file, as far as was seen. Then the path of the place is of no use any more.
    is_ahead: bool,
}

impl Attacher {
    pub(super) fn new(programs: FunctionPrograms, searches: Searches<Message>, counters: Arc<Counters>) -> Self {
        Self {
            programs,
            counters,
            searches,
            attached: HashMap::new(),
            seen: HashMap::new(),
            looked: HashMap::new(),
            unread: HashMap::new(),
            unexplained: HashMap::new(),
            looks: Looks::default(),
        }
    }

    /// Handles messages until their senders are dropped.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
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
                } else if self.looks.contains(parent) || self.searches.is_waiting(parent) {
                    self.looks.add(Look::first(child));
                }
            }
            Message::UsesTls { tgid } => {
                let now = Instant::now();
                if self.looked.get(&tgid).is_none_or(|&before| now.duration_since(before) >= HINT_PAUSE) {
                    self.looked.insert(tgid, now);
                    self.look_once(tgid);
                    if !self.is_attached(tgid) && is_jvm(tgid) {
                        // Netty may have a library without symbols.
                        self.search(tgid);
                        if !self.is_attached(tgid) {
                            self.unread.insert(tgid, Unread::Jvm);
                        }
                    }
                }
                if !self.is_attached(tgid) {
                    *self.unexplained.entry(tgid).or_default() += 1;
                    self.explain(tgid);
                }
            }
            Message::Loaded { tgid } => {
                self.unread.remove(&tgid);
                // The library was mapped before it was ready.
                self.seen.remove(&tgid);
                self.look_once(tgid);
            }
            Message::Ended { tgid } => self.forget(tgid),
            Message::Sweep => process::ended(self.known()).into_iter().for_each(|tgid| self.forget(tgid)),
            Message::Searched(Searched { tgid, image, libraries }) => {
                self.searches.ended(tgid);
                // It may run another program, or have ended.
                if Process::open(tgid).is_ok_and(|process| process.exec_image() == image) {
                    self.attach_all(tgid, image, libraries);
                }
            }
            Message::SearchBarrier(passed) => self.searches.pass(Message::SearchesEnded(passed)),
            Message::Barrier(_) | Message::SearchesEnded(_) => {}
        }
    }

    /// Every process that something is kept of. Some repeatedly.
    fn known(&self) -> impl Iterator<Item = u32> {
        let kept = self.seen.keys().chain(self.looked.keys());
        let unread = self.unread.keys().chain(self.unexplained.keys());
        self.attached.keys().chain(kept).chain(unread).copied()
    }

    fn forget(&mut self, tgid: u32) {
        self.looks.remove(tgid);
        self.looked.remove(&tgid);
        self.seen.remove(&tgid);
        self.unread.remove(&tgid);
        self.unexplained.remove(&tgid);
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

    /// Looks at files with likely names, and lets the others be searched, if the process has mapped any since it was looked at last.
    fn look_once(&mut self, tgid: u32) {
        let Ok(process) = Process::open(tgid) else { return };
        let Ok(mappings) = mappings(&process) else { return };
        let version = code_version(&mappings);
        if self.seen.get(&tgid) == Some(&version) {
            return;
        }
        let found = tls::find_likely(&process, &mapped_by(&process, &mappings));
        if self.attach_all(tgid, process.exec_image(), found) {
            self.seen.insert(tgid, version);
            self.searches.search(tgid);
        }
    }

    /// Searches a process at once.
    fn search(&mut self, tgid: u32) {
        let Ok(process) = Process::open(tgid) else { return };
        self.attach_all(tgid, process.exec_image(), tls::find(&process));
    }

    /// Counts connections with TLS that are not read, if it is known why.
    fn explain(&mut self, tgid: u32) {
        let counter = match self.unread.get(&tgid) {
            Some(Unread::Jvm) => &self.counters.connections_tls_java,
            Some(Unread::Library) if !self.is_attached(tgid) => &self.counters.connections_tls_unsupported,
            _ => return,
        };
        counter.add(self.unexplained.remove(&tgid).unwrap_or(0));
    }

    fn is_attached(&self, tgid: u32) -> bool {
        self.attached.get(&tgid).is_some_and(|attached| !attached.links.is_empty())
    }

    /// Attaches to libraries of a process. Returns false if that must be tried again later.
    fn attach_all(&mut self, tgid: u32, image: Option<ExecImage>, libraries: Vec<InProcess>) -> bool {
        if self.programs.is_behind() {
            self.counters.tls_looks_missed.add(1);
            self.seen.remove(&tgid);
            return false;
        }
        for library in libraries {
            if !library.library.is_read() {
                if let Entry::Vacant(unread) = self.unread.entry(tgid) {
                    tracing::info!(pid = tgid, library = library.library.name, file = library.file, "TLS is not read");
                    unread.insert(Unread::Library);
                }
                self.explain(tgid);
            } else if self.attach(tgid, image.clone(), library.functions, false) {
                tracing::info!(pid = tgid, library = library.library.name, file = library.file, "TLS is read");
            }
        }
        true
    }

    /// Attaches to the libraries that a program is linked with, before the process has mapped them.
    fn attach_ahead(&mut self, process: &Process, program: &Path, image: Option<ExecImage>) {
        let binaries = linked::binaries(process, program);
        for library in tls::find_linked(&binaries).into_iter().filter(|found| found.library.is_read()) {
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
    use std::sync::Mutex;

    use super::*;
    use crate::file_version::FileVersion;

    #[test]
    fn a_sweep_forgets_processes_that_have_ended() {
        let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
        ended.wait().unwrap();
        let (ended, own) = (ended.id(), std::process::id());
        let programs = FunctionPrograms::new(Arc::new(Mutex::new(None)));
        let searches = Searches::start(|_| false).unwrap();
        let mut attacher = Attacher::new(programs, searches, Arc::default());
        for tgid in [ended, own] {
            attacher.attached.insert(tgid, Attached::default());
            attacher.seen.insert(tgid, 1);
            attacher.looked.insert(tgid, Instant::now());
            attacher.unread.insert(tgid, Unread::Jvm);
            attacher.unexplained.insert(tgid, 1);
        }
        attacher.take(Message::Sweep);
        assert_eq!(attacher.known().collect::<Vec<_>>(), [own; 5]);
    }

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
