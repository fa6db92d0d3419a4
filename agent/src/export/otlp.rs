//! Delivers requests to a collector: a few at a time, again with growing pauses when it cannot take them, and not for
//! ever.
//!
//! A request is given up when the collector refuses it for good or the export timeout has passed; its spans are then
//! counted as failed and the next request is tried, so that a collector that comes back is noticed without being told.

mod grpc;
mod http;
mod retry;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::StartError;
use super::batch::{Batch, Batcher};
use super::config::{Otlp, Protocol};
use crate::metrics::Metrics;
use retry::Backoff;

/// Requests on their way at a time: one alone would pass 2,000 spans per round trip, many would press on a collector
/// that is slow already.
const IN_FLIGHT: usize = 4;

/// Says who calls, to collectors and in their logs.
const USER_AGENT: &str = concat!("onlooker/", env!("CARGO_PKG_VERSION"), " (OTLP exporter; Rust)");

/// What the collector said of a request it accepted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accepted {
    rejected_spans: u64,
    message: String,
}

/// Why a request was not accepted.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    retry: Retry,
    why: String,
}

/// Whether trying the same request again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    Later,
    /// Not before this has passed: the collector's own wish.
    After(Duration),
}

#[derive(Debug)]
enum Transport {
    Grpc(grpc::Client),
    Http(http::Client),
}

/// A collector, and how it is.
#[derive(Debug)]
pub(super) struct Collector {
    transport: Transport,
    endpoint: String,
    /// Values to blank out of what the collector says: some echo the credentials that they refuse.
    secrets: Vec<String>,
    attempt_timeout: Duration,
    export_timeout: Duration,
    health: AtomicU8,
    metrics: Arc<Metrics>,
}

/// Logged when it changes, not at every request.
const HEALTHY: u8 = 0;
const RETRYING: u8 = 1;
const LOSING: u8 = 2;

impl Collector {
    /// Must be made in the runtime that will run it; connects when there is something to send.
    pub(super) fn new(config: &Otlp, export_timeout: Duration, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let transport = match config.protocol {
            Protocol::Grpc => Transport::Grpc(grpc::Client::new(config)?),
            Protocol::HttpProtobuf | Protocol::HttpJson => Transport::Http(http::Client::new(config)?),
        };
        Ok(Self {
            transport,
            endpoint: config.endpoint.clone(),
            secrets: secrets(&config.headers.0),
            attempt_timeout: config.timeout,
            export_timeout,
            health: AtomicU8::new(HEALTHY),
            metrics,
        })
    }

    /// Delivers what `batcher` gives until it is closed and empty.
    pub(super) async fn run(self, batcher: Arc<Batcher>) {
        let collector = Arc::new(self);
        let mut in_flight = JoinSet::new();
        loop {
            while in_flight.len() >= IN_FLIGHT {
                in_flight.join_next().await;
            }
            while in_flight.try_join_next().is_some() {}
            let Some((request, batch)) = batcher.next().await else { break };
            let collector = Arc::clone(&collector);
            in_flight.spawn(async move { collector.deliver(request, batch).await });
        }
        while in_flight.join_next().await.is_some() {}
    }

    async fn deliver(&self, request: Bytes, batch: Batch) {
        let give_up_at = Instant::now() + self.export_timeout;
        let request = match &self.transport {
            Transport::Grpc(_) => request,
            Transport::Http(client) => client.prepare(request),
        };
        let mut backoff = Backoff::default();
        loop {
            let patience = self.attempt_timeout.min(give_up_at.saturating_duration_since(Instant::now()));
            let refused = match timeout(patience, self.attempt(request.clone())).await {
                Ok(Ok(accepted)) => return self.accepted(batch, &accepted),
                Ok(Err(refused)) => refused,
                Err(_) => Refused { retry: Retry::Later, why: format!("no answer within {patience:?}") },
            };
            let pause = match refused.retry {
                Retry::Never => None,
                Retry::Later => Some(backoff.pause()),
                Retry::After(at_least) => Some(backoff.pause().max(at_least)),
            };
            let why = redacted(&refused.why, &self.secrets);
            match pause.filter(|pause| Instant::now() + *pause < give_up_at) {
                Some(pause) => {
                    self.metrics.export_retries.add(1);
                    self.falls_to(RETRYING, &format!("{why}; trying again"));
                    debug!("delivery to {} failed: {why}; next attempt in {pause:?}", self.endpoint);
                    sleep(pause).await;
                }
                None => {
                    self.falls_to(LOSING, &format!("{why}; spans are being lost"));
                    debug!("gave up {} spans for {}: {why}", batch.spans(), self.endpoint);
                    return;
                }
            }
        }
    }

    async fn attempt(&self, request: Bytes) -> Result<Accepted, Refused> {
        match &self.transport {
            Transport::Grpc(client) => client.send(request).await,
            Transport::Http(client) => client.send(request).await,
        }
    }

    fn accepted(&self, batch: Batch, accepted: &Accepted) {
        if self.health.swap(HEALTHY, Relaxed) != HEALTHY {
            info!("delivering spans to {} again", self.endpoint);
        }
        if accepted.rejected_spans > 0 || !accepted.message.is_empty() {
            let message = redacted(&accepted.message, &self.secrets);
            warn!("{} rejected {} of {} spans: {message}", self.endpoint, accepted.rejected_spans, batch.spans());
        }
        batch.delivered(accepted.rejected_spans);
    }

    fn falls_to(&self, health: u8, why: &str) {
        if self.health.fetch_max(health, Relaxed) < health {
            warn!("cannot deliver spans to {}: {why}", self.endpoint);
        }
    }
}

/// What a collector says, fit for a log: one line, not long, without our credentials.
fn redacted(message: &str, secrets: &[String]) -> String {
    const LONGEST: usize = 300;
    let message = secrets.iter().fold(message.to_owned(), |message, secret| message.replace(secret, "[redacted]"));
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// The headers' values, and the parts of those like `Bearer TOKEN`. Very short ones would blank out ordinary words.
fn secrets(headers: &HeaderMap) -> Vec<String> {
    const SHORTEST: usize = 4;
    let values = headers.values().filter_map(|value| value.to_str().ok());
    let mut secrets: Vec<String> = values
        .flat_map(|value| std::iter::once(value).chain(value.split_whitespace().skip(1)))
        .filter(|secret| secret.len() >= SHORTEST)
        .map(str::to_owned)
        .collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

impl StartError {
    /// TLS that cannot be set up though its files can be read: the system's CAs are missing, or a key is not its
    /// certificate's.
    fn tls(error: impl std::error::Error) -> Self {
        Self::Tls(format!(
            "{} (the system's CAs are in the package ca-certificates; others are named by OTEL_EXPORTER_OTLP_CERTIFICATE)",
            with_causes(&error)
        ))
    }
}

/// An error with all its causes, in one line: the outermost alone says "error sending request" of everything.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// A PEM file of the TLS settings. One that has no `label` in it is the wrong file: nothing later would say so.
fn read_pem(path: &Path, label: &str) -> Result<Vec<u8>, StartError> {
    let pem =
        std::fs::read(path).map_err(|error| StartError::Tls(format!("cannot read {}: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&pem);
    if text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(label)) {
        return Ok(pem);
    }
    Err(StartError::Tls(format!("{} has no {label} in PEM form", path.display())))
}

const CERTIFICATE: &str = "CERTIFICATE";
/// Also in the labels of the older forms, `EC PRIVATE KEY` and `RSA PRIVATE KEY`.
const PRIVATE_KEY: &str = "PRIVATE KEY";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use reqwest::header::HeaderValue;
    use rstest::rstest;

    use super::*;
    use crate::export::{Choices, Config};

    #[test]
    fn what_a_collector_says_is_shown_without_our_credentials() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer t0psecret"));
        headers.insert("x-team", HeaderValue::from_static("a"));
        let secrets = secrets(&headers);
        assert_eq!(
            redacted("bad token t0psecret\n(got \"Bearer t0psecret\")", &secrets),
            "bad token [redacted] (got \"[redacted]\")"
        );
        assert_eq!(redacted(&"x".repeat(1000), &secrets).len(), 300);
    }

    #[rstest]
    #[tokio::test]
    async fn a_certificate_that_is_none_is_named_at_the_start(
        #[values("grpc", "http/protobuf")] protocol: &str,
        #[values("CERTIFICATE", "CLIENT_CERTIFICATE")] setting: &str,
    ) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no certificate").unwrap();
        let path = file.path().to_str().unwrap();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "https://localhost:1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), protocol),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY".to_owned(), path),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE".to_owned(), path),
            (format!("OTEL_EXPORTER_OTLP_{setting}"), path),
        ];
        let variable = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, value)| OsString::from(value));
        let config = Config::read(Choices::default(), &variable).unwrap().otlp.unwrap();
        let error = Collector::new(&config, Duration::ZERO, Arc::default()).unwrap_err().to_string();
        assert_eq!(error, format!("cannot set up TLS for OTLP: {path} has no CERTIFICATE in PEM form"));
    }
}
