//! The machine as the pipeline sees it.

use std::sync::Arc;

use onlooker_common::capture::HEADS;
use onlooker_common::limits;
use onlooker_common::process::{Execution, ProcessChange, lifecycle};
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::service::PendingService;
use onlooker_engine::pipeline::{Notice, Surroundings};
use onlooker_protocols::Capture;

use crate::attach::Libraries;
use crate::enrich::Directory;
use crate::kernel::Control;
use crate::watch::{LifecycleChange, WatchSender};

/// Answers the pipeline and passes its wishes on. Nothing here waits.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) directory: Directory,
    pub(super) control: Control,
    pub(super) watch: Option<WatchSender>,
    pub(super) libraries: Libraries,
    pub(super) counters: Arc<Counters>,
    /// Some requests are not to be reported.
    pub(super) is_restricted: bool,
}

impl Machine {
    pub(super) fn request_decision(&self, execution: &Execution) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.request_decision(execution))
    }

    /// Passes on to the kernel side which requests are complete.
    pub(super) fn report_completions(&mut self) {
        self.counters.completions_not_reported.add(self.control.flush());
    }

    fn process(&mut self, process: &ProcessChange) {
        match process.change {
            // An ended process may have had the pid of one that is selected because it moved.
            lifecycle::MOVED => self.directory.executed(process.tgid, process.comm),
            lifecycle::EXEC => {
                self.directory.executed(process.tgid, process.comm);
                self.control.forget_process(process.tgid);
            }
            // The thread that follows processes has decided about it.
            lifecycle::EXEC_UNDECIDED => {
                self.directory.executed(process.tgid, process.comm);
                self.control.forget_process(process.tgid);
                return;
            }
            lifecycle::FORK => self.directory.forked(process.tgid, process.other),
            lifecycle::EXIT => {
                self.directory.ended(process.tgid, process.time);
                self.control.forget_process(process.tgid);
            }
            _ => {}
        }
        if let Some(watch) = &self.watch {
            watch.process_changed(LifecycleChange { change: process.change, tgid: process.tgid, other: process.other });
        }
    }
}

impl Surroundings for Machine {
    fn service(&mut self, tgid: u32) -> PendingService {
        self.directory
            .service_of(tgid, |pending| self.watch.as_ref().is_some_and(|watch| watch.request_service(pending)))
    }

    fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    fn take(&mut self, notice: Notice<'_>) {
        let changed = match notice {
            Notice::Completed { cookie, until } => {
                self.control.completed(cookie, until);
                return;
            }
            Notice::CaptureMore { cookie } => self.control.lift_limit(cookie),
            Notice::CaptureLess { cookie, direction, capture } => {
                let bytes = match capture {
                    Capture::Heads | Capture::Frames => HEADS,
                    Capture::Most => limits::LARGEST_CAPTURE,
                };
                self.control.limit(cookie, direction, bytes)
            }
            Notice::FollowFrames { cookie } => self.control.follow_frames(cookie),
            Notice::FrameBegins { cookie, sent, position } => self.control.confirm_frames(cookie, sent, position),
            Notice::CaptureMoreOf { tgid, direction } => self.control.raise_process(tgid, direction),
            Notice::Encrypted { tgid } => return self.libraries.uses_tls(tgid),
            Notice::Forgotten { cookie } => return self.control.forget(cookie),
            Notice::ProcessChanged(process) => return self.process(process),
        };
        self.counters.captures_not_raised.add(u64::from(changed.is_err()));
    }
}
