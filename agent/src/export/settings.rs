//! How spans are exported: the settings of all sinks, as plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderMap;

use super::error::ConfigError;

/// The export options of the command line.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// Like `OTEL_TRACES_EXPORTER`: `otlp`, `console` or `none`, several separated by commas.
    pub exporters: Option<String>,
    /// Like `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// A file to append OTLP JSON lines to, in addition to the other sinks.
    pub file: Option<SpanFile>,
}

/// Which sinks export spans, and when.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub otlp: Option<Otlp>,
    pub console: bool,
    pub file: Option<SpanFile>,
    pub schedule: Schedule,
    /// Variables with invalid values, which were ignored.
    pub ignored: Vec<ConfigError>,
}

/// A file that OTLP JSON lines are appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanFile {
    pub path: PathBuf,
    /// A file that would become larger is renamed to `PATH.1`, and a new one begun.
    pub max_bytes: Option<u64>,
}

impl From<&str> for SpanFile {
    fn from(path: &str) -> Self {
        Self { path: path.into(), max_bytes: None }
    }
}

/// How a collector is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    pub protocol: Protocol,
    /// The whole URL. For gRPC only scheme, host and port are used.
    pub endpoint: String,
    pub headers: Headers,
    /// For one attempt to deliver a request.
    pub timeout: Duration,
    pub gzip: bool,
    pub tls: Tls,
}

/// `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

/// PEM files for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The CA to trust. Without it, the system's CAs are trusted.
    pub ca: Option<PathBuf>,
    /// The certificate chain that the agent presents, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Headers of every request. Their values are credentials and are never shown.
#[derive(Clone, Default, PartialEq)]
pub struct Headers(pub(super) HeaderMap);

#[cfg(test)]
impl Headers {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// When spans are sent: `OTEL_BSP_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// How long the first span of a request waits for others: `OTEL_BSP_SCHEDULE_DELAY`.
    pub delay: Duration,
    /// How long the delivery of a request may take, including retries: `OTEL_BSP_EXPORT_TIMEOUT`.
    pub export_timeout: Duration,
    /// How many spans a sink may hold, including those being sent: `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub max_queue_size: usize,
    /// How many spans a request may have: `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub max_batch_size: usize,
}

impl Default for Schedule {
    /// The specification's delay of 5 s is for a process that traces itself. People want to see an agent's spans at once.
    /// The specification's queue of 2,048 spans would be full in 20 ms at 100,000 requests a second.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(200),
            export_timeout: Duration::from_secs(30),
            max_queue_size: 65_536,
            max_batch_size: 2_048,
        }
    }
}
