//! Processes that make calls, and whether the ticks of an event loop matter for them.
//!
//! Ticks are traced only while a selected process makes calls and runs an event loop, or may run one, because this slows
//! down every system call of the host. A process may start its loop long after its first call, so callers are looked at
//! repeatedly, with growing pauses.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use onlooker_common::selection::process_flag;
use rustc_hash::FxHashMap;

use super::Watch;
use crate::discover::process::Process;

/// The pause between the first two looks. A loop that starts after the first call starts soon.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause. A look at a process with 10,000 open files takes 10 ms.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long ticks are still traced when they no longer matter. Short-lived callers follow each other.
const LINGER: Duration = Duration::from_secs(10);

/// What a look at a process found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its flags in the kernel map.
    pub(super) flags: u64,
    /// It has an epoll instance, so it may run a loop that was not recognised.
    pub(super) has_event_poll: bool,
}

/// The callers, by process.
#[derive(Debug, Default)]
pub(super) struct Callers {
    callers: FxHashMap<u32, Caller>,
    /// The earliest of theirs, or before it.
    next_look: Option<Instant>,
    /// Since when ticks matter for no caller.
    idle_since: Option<Instant>,
}

#[derive(Debug)]
struct Caller {
    pause: Duration,
    next_look: Instant,
    ticks_matter: bool,
}

impl Callers {
    /// A process makes calls: it is to be looked at now.
    pub(super) fn add(&mut self, tgid: u32, now: Instant) {
        self.callers.entry(tgid).or_insert_with(|| {
            self.next_look = Some(now);
            Caller { pause: FIRST_PAUSE, next_look: now, ticks_matter: false }
        });
    }

    /// A process has ended or is another program, which may make no calls.
    pub(super) fn remove(&mut self, tgid: u32) {
        self.callers.remove(&tgid);
    }

    /// When the next look is due, if there is any caller.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Looks at callers that are due. `look` returns None for a process that is no longer selected.
    pub(super) fn look(&mut self, now: Instant, mut look: impl FnMut(u32) -> Option<Seen>) {
        self.callers.retain(|tgid, caller| {
            if caller.next_look > now {
                return true;
            }
            let Some(seen) = look(*tgid) else { return false };
            // A tick proves nothing where units of work move between threads.
            let scheduler = seen.flags & process_flag::SCHEDULER != 0;
            caller.ticks_matter = !scheduler && (seen.flags & process_flag::LOOP != 0 || seen.has_event_poll);
            caller.next_look = now + caller.pause;
            caller.pause = (caller.pause * 2).min(LONGEST_PAUSE);
            !scheduler
        });
        self.next_look = self.callers.values().map(|caller| caller.next_look).min();
    }

    /// Whether the ticks of event loops must be traced. `traced` says whether they are now.
    pub(super) fn ticks_matter(&mut self, now: Instant, traced: bool) -> bool {
        if self.callers.values().any(|caller| caller.ticks_matter) {
            self.idle_since = None;
            return true;
        }
        traced && now.duration_since(*self.idle_since.get_or_insert(now)) < LINGER
    }
}

impl Watch {
    /// Adds a process that made calls before it was followed here.
    pub(super) fn add_if_caller(&mut self, tgid: u32) {
        if self.selection.flags(tgid).is_some_and(|flags| flags & process_flag::CALLS != 0) {
            self.callers.add(tgid, Instant::now());
        }
    }

    /// Looks at processes that make calls. Ticks matter for those that wait for events. The flags of a process may have
    /// changed since it started.
    pub(super) fn look_at_callers(&mut self, now: Instant) {
        let mut callers = std::mem::take(&mut self.callers);
        callers.look(now, |tgid| {
            let process = Process::open(tgid).ok()?;
            let of_program = self.flags_of(&process, self.selection.reads_unit(tgid), true);
            let flags = self.selection.flags(tgid)? | of_program;
            self.selection.add(tgid, flags);
            Some(Seen { flags, has_event_poll: process.has_event_poll() })
        });
        self.callers = callers;
        let matter = self.callers.ticks_matter(now, self.ticks_traced);
        if matter != self.ticks_traced {
            self.ticks_traced = matter;
            tracing::debug!(traced = matter, "ticks of event loops");
            if let Some(kernel) = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                if matter { kernel.attach_boundaries() } else { kernel.detach_boundaries() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const POLLS: Seen = Seen { flags: process_flag::CALLS, has_event_poll: true };
    const THREADS: Seen = Seen { flags: process_flag::CALLS, has_event_poll: false };

    #[rstest]
    #[case::threads(THREADS, false)]
    #[case::may_run_a_loop(POLLS, true)]
    #[case::runs_a_loop(Seen { flags: process_flag::LOOP, ..THREADS }, true)]
    #[case::go(Seen { flags: process_flag::LOOP | process_flag::SCHEDULER, ..POLLS }, false)]
    fn ticks_matter_in_event_loops(#[case] seen: Seen, #[case] matter: bool) {
        let (mut callers, now) = (Callers::default(), Instant::now());
        assert!(!callers.ticks_matter(now, false));
        callers.add(7, now);
        callers.look(now, |_| Some(seen));
        assert_eq!(callers.ticks_matter(now, false), matter);
    }

    #[test]
    fn a_loop_that_starts_after_the_first_call_is_noticed() {
        let (mut callers, start) = (Callers::default(), Instant::now());
        callers.add(7, start);
        callers.look(start, |_| Some(THREADS));
        assert!(!callers.ticks_matter(start, false));
        let soon = callers.next_look().unwrap();
        assert_eq!(soon, start + FIRST_PAUSE);
        callers.look(soon, |_| Some(POLLS));
        assert!(callers.ticks_matter(soon, false));
    }

    #[test]
    fn an_unchanged_process_is_looked_at_with_growing_pauses() {
        let (mut callers, start) = (Callers::default(), Instant::now());
        callers.add(7, start);
        let (mut looks, mut now) = (0, start);
        while now < start + Duration::from_secs(600) {
            callers.look(now, |_| {
                looks += 1;
                Some(THREADS)
            });
            now = callers.next_look().unwrap();
            // Adding it again changes nothing.
            callers.add(7, now);
        }
        assert!((15..25).contains(&looks), "{looks}");
    }

    #[test]
    fn ticks_are_traced_for_a_while_after_the_last_caller() {
        let (mut callers, start) = (Callers::default(), Instant::now());
        for tgid in [7, 8] {
            callers.add(tgid, start);
        }
        callers.look(start, |_| Some(POLLS));
        callers.remove(7);
        assert!(callers.ticks_matter(start + 2 * LINGER, true), "one is left");
        let end = start + 2 * LINGER;
        // It is not selected any more.
        callers.look(end, |_| None);
        assert_eq!(callers.next_look(), None);
        assert!(callers.ticks_matter(end, true));
        callers.add(9, end + LINGER / 2);
        callers.look(end + LINGER / 2, |_| Some(POLLS));
        assert!(callers.ticks_matter(end + LINGER, true), "another came");
        callers.remove(9);
        assert!(callers.ticks_matter(end + LINGER, true));
        assert!(!callers.ticks_matter(end + 2 * LINGER, true));
    }
}
