//! What the pipeline needs from outside, and reports there.

use onlooker_common::process::ProcessChange;
use onlooker_protocols::{Capture, Direction};

use crate::model::service::PendingService;

/// The host that is traced, or what stands for it in a replay or a test. Nothing here may block.
pub trait Surroundings {
    /// The service of a process, now or soon.
    fn service(&mut self, tgid: u32) -> PendingService;

    /// Whether any service has requests that are not to be reported: see
    /// [`Reporting`](crate::model::reporting::Reporting).
    fn is_restricted(&self) -> bool {
        false
    }

    /// Takes a fact that concerns the kernel programs or the list of processes.
    fn take(&mut self, notice: Notice<'_>);
}

/// A fact that the pipeline learned.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// Every request that was received on the connection and begins before `until` is complete.
    Completed { cookie: u64, until: u64 },
    /// The connection's runs should be captured whole.
    CaptureMore { cookie: u64 },
    /// No more than this should be captured of the connection's runs in the direction, or in both.
    CaptureLess { cookie: u64, direction: Option<Direction>, capture: Capture },
    /// The connection has HTTP/2 frames, which the kernel programs should follow.
    FollowFrames { cookie: u64 },
    /// A frame of the connection begins at a position that the kernel programs proposed.
    FrameBegins { cookie: u64, sent: bool, position: u64 },
    /// Messages of the process that travel in this direction are longer than what is captured of them.
    CaptureMoreOf { tgid: u32, direction: Direction },
    /// A connection of the process carries TLS, and its plaintext is not recorded so far.
    Encrypted { tgid: u32 },
    /// The connection is over.
    Forgotten { cookie: u64 },
    /// A process changed.
    ProcessChanged(&'a ProcessChange),
}
