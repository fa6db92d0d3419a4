//! Why exporting cannot begin.

use std::io;
use std::path::PathBuf;

/// A setting with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The variable or option.
    setting: String,
    problem: String,
}

impl ConfigError {
    pub(super) fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }
}

/// A sink that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use the OTLP endpoint: {0}")]
    Endpoint(String),
    #[error("cannot set up TLS for OTLP: {0}")]
    Tls(String),
    #[error("cannot open {} to append spans: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("cannot start the thread of an exporter: {0}")]
    Thread(#[from] io::Error),
}
