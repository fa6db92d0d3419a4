//! One direction of a connection, and whether it is known where its messages begin.

use super::frame::Frames;
use crate::moment::Moment;

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) frames: Frames,
    pub(super) sync: Sync,
    run: Option<u32>,
    /// Just past the last byte that has passed.
    pub(super) end: Moment,
    /// The last that passed was a hole whose record was lost: what follows may begin amid a message.
    pub(super) after_lost_record: bool,
    /// The response that a hole cut off began here, and items of it were seen.
    pub(super) cut_items: Option<Moment>,
}

/// Whether it is known where messages begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Locked,
    /// A message seems to begin here.
    Tentative,
    Lost,
}

impl Lane {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            frames: Frames::default(),
            sync: if from_start { Sync::Locked } else { Sync::Lost },
            run: None,
            end: Moment::default(),
            after_lost_record: false,
            cut_items: None,
        }
    }

    /// Whether what passes in this run is the first of it.
    pub(super) fn enters(&mut self, run: u32) -> bool {
        self.run.replace(run) != Some(run)
    }

    pub(super) fn restart(&mut self, sync: Sync) {
        self.sync = sync;
        self.frames.restart();
    }
}
