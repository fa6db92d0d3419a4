//! A runtime's unit of work, and why it is not read.

use std::fmt;

use onlooker_common::unit::UnitSource;

use crate::discover::process::Process;

/// A runtime's unit of work: a column of the table of runtimes.
#[derive(Debug, Clone, Copy)]
pub struct UnitOfWork {
    /// One of the constants of [`onlooker_common::unit`].
    pub kind: u32,
    /// Finds out how the unit of a process is read. What it finds must be checked against the process: wrong offsets look
    /// plausible.
    pub find: fn(&Process) -> Result<UnitSource, Unread>,
}

/// Why the unit of work of a process is not read. The text is shown to users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// The runtime has not started up.
    NotYet(String),
    /// It will not be known later either.
    Unknown(String),
    /// The process has no other units than its threads.
    Absent(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotYet(why) | Self::Unknown(why) | Self::Absent(why)) = self;
        f.write_str(why)
    }
}
