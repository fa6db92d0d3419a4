//! Why a command cannot be run, and the exit code for it.

use std::io;
use std::path::PathBuf;

use crate::discover::process::Unreadable;

/// The exit codes of shells for a command that does not exist, and for one that cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// The exit code of `env`, `timeout` and similar tools when they fail themselves.
pub const FAILED_ITSELF: u8 = 125;

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("no command to run: write it after `--`, as in `onlooker exec -- ./server --port 8080`")]
    NoCommand,
    #[error("cannot run `{command}`: no such command in PATH")]
    NotInPath { command: String },
    #[error("cannot run the command as `{name}`: {why}")]
    User { name: String, why: String },
    #[error("cannot run {path}: {why}", path = path.display())]
    NotExecutable { path: PathBuf, why: io::Error },
    #[error("cannot start {path}: {why}", path = path.display())]
    Start { path: PathBuf, why: io::Error },
    #[error("cannot trace the command that was started: {0}")]
    Follow(#[from] Unreadable),
    #[error("cannot wait for the end of the command: {0}")]
    Wait(io::Error),
}

impl ExecError {
    /// The exit code that a shell or `env` would return.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotInPath { .. } => NOT_FOUND,
            Self::NotExecutable { why, .. } if why.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::NotExecutable { .. } => NOT_EXECUTABLE,
            Self::NoCommand | Self::User { .. } | Self::Start { .. } | Self::Follow(_) | Self::Wait(_) => FAILED_ITSELF,
        }
    }
}
