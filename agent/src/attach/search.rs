//! Searches processes for TLS libraries in all their files, on a thread of its own.
//!
//! Functions without symbols are found by the code, which takes 2 ms for each MB. Meanwhile other processes that start are attached to.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};

use rustix::process::{getpriority_process, setpriority_process};

use super::tls::{self, InProcess};
use crate::discover::process::{ExecImage, Process};

/// How much nicer the thread is than the others of the agent. With this it gets a third of a processor that it shares with one of them.
const NICER: i32 = 5;

/// What is searched for, and what is passed on when all earlier searches have ended.
#[derive(Debug)]
enum Request<M> {
    Process(u32),
    Pass(M),
}

/// The libraries of a process.
#[derive(Debug)]
pub(super) struct Searched {
    pub(super) tgid: u32,
    /// The program that the process ran before the search.
    pub(super) image: Option<ExecImage>,
    pub(super) libraries: Vec<InProcess>,
}

/// Passes processes to the thread.
#[derive(Debug)]
pub(super) struct Searches<M> {
    sender: Sender<Request<M>>,
    /// Processes that are not searched yet, and whether they have changed since they were to be searched.
    waiting: HashMap<u32, bool>,
}

impl<M: From<Searched> + Send + 'static> Searches<M> {
    /// Starts the thread. It ends when this is dropped, or when `send` returns false.
    pub(super) fn start(send: impl Fn(M) -> bool + Send + 'static) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new().name("tls-search".to_owned()).spawn(move || serve(&receiver, send))?;
        Ok(Self { sender, waiting: HashMap::new() })
    }

    /// Searches a process. What is found is sent as a message. If the process waits for that already, it is searched once more.
    pub(super) fn search(&mut self, tgid: u32) {
        let has_changed = self.waiting.contains_key(&tgid);
        self.waiting.insert(tgid, has_changed);
        if !has_changed {
            // If this fails, the agent is ending.
            let _ = self.sender.send(Request::Process(tgid));
        }
    }

    /// Sends a message when all earlier searches have ended.
    pub(super) fn pass(&self, message: M) {
        let _ = self.sender.send(Request::Pass(message));
    }

    /// The message with what was found has come.
    pub(super) fn ended(&mut self, tgid: u32) {
        if self.waiting.remove(&tgid) == Some(true) {
            self.search(tgid);
        }
    }

    pub(super) fn is_waiting(&self, tgid: u32) -> bool {
        self.waiting.contains_key(&tgid)
    }
}

fn serve<M: From<Searched>>(requests: &Receiver<Request<M>>, send: impl Fn(M) -> bool) {
    // Both calls mean this thread. If it is refused, the thread has the priority of the others.
    let _ = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + NICER));
    while let Ok(request) = requests.recv() {
        let message = match request {
            Request::Process(tgid) => {
                let process = Process::open(tgid).ok();
                let image = process.as_ref().and_then(Process::exec_image);
                let libraries = process.map(|process| tls::find(&process)).unwrap_or_default();
                M::from(Searched { tgid, image, libraries })
            }
            Request::Pass(message) => message,
        };
        if !send(message) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Message {
        Found(u32),
        Passed,
    }

    impl From<Searched> for Message {
        fn from(searched: Searched) -> Self {
            Self::Found(searched.tgid)
        }
    }

    #[test]
    fn a_message_is_passed_on_when_earlier_searches_have_ended() {
        let (sender, receiver) = mpsc::channel();
        let mut searches = Searches::start(move |message| sender.send(message).is_ok()).unwrap();
        let own = std::process::id();
        searches.search(own);
        searches.pass(Message::Passed);
        assert!(searches.is_waiting(own));
        let next = || receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!([next(), next()], [Message::Found(own), Message::Passed]);
        searches.ended(own);
        assert!(!searches.is_waiting(own));
    }

    #[test]
    fn a_process_that_changed_while_it_waited_is_searched_once_more() {
        let (sender, receiver) = mpsc::channel();
        let mut searches = Searches::<Message>::start(move |message| sender.send(message).is_ok()).unwrap();
        let own = std::process::id();
        for _ in 0..3 {
            searches.search(own);
        }
        for is_last in [false, true] {
            assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(Message::Found(own)));
            searches.ended(own);
            assert_eq!(searches.is_waiting(own), !is_last);
        }
    }
}
