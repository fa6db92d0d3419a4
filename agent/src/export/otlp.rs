//! Delivers requests to a collector, a few at a time. Failed attempts are repeated with growing pauses.
//!
//! A request is given up when the collector refuses it permanently or the export timeout has passed. Its spans are then
//! counted as failed, and the next request is tried. So a collector that comes back is noticed.

mod answer;
mod configure;
mod grpc;
mod http;
mod retry;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::batch::{Batch, Batcher};
use super::error::StartError;
use super::settings::{Otlp, Protocol};
use super::starter::{BoxedSink, SinkRow, Starter};
use answer::{Accepted, Refused, Retry};
use onlooker_engine::model::counters::Counters;
use retry::Backoff;

/// Requests sent at a time. One would limit throughput to 2,000 spans per round trip. Many would add load to a collector
/// that is already slow.
const IN_FLIGHT: usize = 4;

pub use configure::{checked_url, endpoint_origin, header_problem};

#[derive(Debug)]
enum Transport {
    Grpc(grpc::Client),
    Http(http::Client),
}

pub(super) const OTLP: SinkRow = SinkRow {
    name: "otlp",
    is_listed: true,
    is_implied: |choices, environment| choices.endpoint.is_some() || configure::is_mentioned(environment),
    configure: |choices, environment, config| {
        config.otlp = Some(configure::read(environment, choices.endpoint.as_deref())?);
        Ok(())
    },
    start,
};

fn start(starter: &mut Starter<'_>) -> Result<Option<BoxedSink>, StartError> {
    let Some(otlp) = starter.config.otlp.clone() else { return Ok(None) };
    let (batcher, sink) = starter.batcher();
    let (timeout, counters) = (starter.config.schedule.export_timeout, Arc::clone(&starter.counters));
    starter.threads.spawn("export-otlp", move || Ok(Collector::new(&otlp, timeout, counters)?.run(batcher)))?;
    Ok(Some(sink))
}

/// A collector, and how delivery to it goes.
#[derive(Debug)]
struct Collector {
    transport: Transport,
    /// Scheme, host and port of the endpoint. The rest of the URL may hold credentials.
    origin: String,
    /// Values to remove from the collector's messages. Some collectors repeat the credentials that they refuse.
    secrets: Vec<String>,
    attempt_timeout: Duration,
    export_timeout: Duration,
    health: AtomicU8,
    counters: Arc<Counters>,
}

/// The states of delivery, from the best to the worst. Only changes are logged.
const HEALTHY: u8 = 0;
/// Everything is accepted, with a message.
const REMARKED: u8 = 1;
const REJECTING: u8 = 2;
const RETRYING: u8 = 3;
const LOSING: u8 = 4;

impl Collector {
    /// To be called in the runtime that will run it. Connects when there is something to send.
    fn new(config: &Otlp, export_timeout: Duration, counters: Arc<Counters>) -> Result<Self, StartError> {
        let transport = match config.protocol {
            Protocol::Grpc => Transport::Grpc(grpc::Client::new(config)?),
            Protocol::HttpProtobuf | Protocol::HttpJson => Transport::Http(http::Client::new(config)?),
        };
        let endpoint = Url::parse(&config.endpoint).map_err(|error| StartError::Endpoint(error.to_string()))?;
        Ok(Self {
            transport,
            origin: endpoint.origin().ascii_serialization(),
            secrets: secrets(&config.headers.0, &endpoint),
            attempt_timeout: config.timeout,
            export_timeout,
            health: AtomicU8::new(HEALTHY),
            counters,
        })
    }

    /// Delivers the requests of `batcher` until it is closed and empty.
    async fn run(self, batcher: Arc<Batcher>) {
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
                    self.counters.export_retries.add(1);
                    self.falls_to(RETRYING, &format!("{why}; trying again"));
                    debug!("delivery to {} failed: {why}; next attempt in {pause:?}", self.origin);
                    sleep(pause).await;
                }
                None => {
                    self.falls_to(LOSING, &format!("{why}; spans are being lost"));
                    debug!("gave up {} spans for {}: {why}", batch.spans(), self.origin);
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
        let health = match accepted {
            Accepted { rejected_spans: 1.., .. } => REJECTING,
            Accepted { message, .. } if !message.is_empty() => REMARKED,
            Accepted { .. } => HEALTHY,
        };
        let before = self.health.swap(health, Relaxed);
        if before >= RETRYING {
            info!("delivering spans to {} again", self.origin);
        }
        if health != before && health != HEALTHY {
            warn!("{} {}", self.origin, redacted(&accepted.remark(batch.spans()), &self.secrets));
        }
        batch.delivered(accepted.rejected_spans);
    }

    fn falls_to(&self, health: u8, why: &str) {
        if self.health.fetch_max(health, Relaxed) < health {
            warn!("cannot deliver spans to {}: {why}", self.origin);
        }
    }
}

/// A collector's message for the log: one short line without credentials.
fn redacted(message: &str, secrets: &[String]) -> String {
    const LONGEST: usize = 300;
    let message = secrets.iter().fold(message.to_owned(), |message, secret| message.replace(secret, "[redacted]"));
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// The values of headers and of the endpoint's query, and the parts of values like `Bearer TOKEN`. Very short ones are left
/// out: they would remove ordinary words.
fn secrets(headers: &HeaderMap, endpoint: &Url) -> Vec<String> {
    const SHORTEST: usize = 4;
    let values = headers.values().filter_map(|value| value.to_str().ok());
    let mut secrets: Vec<String> = values
        .flat_map(|value| std::iter::once(value).chain(value.split_whitespace().skip(1)))
        .map(str::to_owned)
        .chain(endpoint.query_pairs().map(|(_, value)| value.into_owned()))
        .filter(|secret| secret.len() >= SHORTEST)
        .collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use reqwest::header::HeaderValue;
    use rstest::rstest;

    use super::*;
    use crate::export::account::Account;
    use crate::export::settings::{Choices, Config, Schedule};
    use onlooker_engine::testing as sample;

    #[test]
    fn messages_of_a_collector_are_logged_without_credentials() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer t0psecret"));
        headers.insert("x-team", HeaderValue::from_static("a"));
        let secrets = secrets(&headers, &Url::parse("https://collector/otlp?api_key=k3y%2Bs&a=b").unwrap());
        assert_eq!(
            redacted("bad token t0psecret\n(got \"Bearer t0psecret\" for k3y+s)", &secrets),
            "bad token [redacted] (got \"[redacted]\" for [redacted])"
        );
        assert_eq!(redacted(&"x".repeat(1000), &secrets).len(), 300);
    }

    #[rstest]
    #[tokio::test]
    async fn an_invalid_certificate_file_is_named_at_the_start(
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
        let config = Config::read(&Choices::default(), &variable).unwrap().otlp.unwrap();
        let error = Collector::new(&config, Duration::ZERO, Arc::default()).unwrap_err().to_string();
        assert_eq!(error, format!("cannot set up TLS for OTLP: {path} has no CERTIFICATE in PEM form"));
    }

    /// The batch of a request with one span.
    async fn batch() -> Batch {
        let mut account = Account::new(Arc::default());
        let batcher = Batcher::new(account.open_queue(1), Schedule::default());
        let ticket = Arc::new(account).ticket();
        batcher.put(&ticket, &sample::span(1, &sample::service("shop")));
        ticket.enter(1);
        batcher.close();
        batcher.next().await.expect("a request").1
    }

    #[tokio::test]
    async fn changes_of_delivery_are_logged_once_and_without_credentials() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let subscriber = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
        let subscriber = subscriber.with_writer(Arc::new(log.reopen().unwrap())).finish();
        let _subscribed = tracing::subscriber::set_default(subscriber);

        let endpoint = "http://collector:4318/t0ken/v1/traces?api_key=s3cret";
        let variable = |name: &str| (name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").then(|| OsString::from(endpoint));
        let config = Config::read(&Choices::default(), &variable).unwrap().otlp.unwrap();
        let collector = Collector::new(&config, Duration::ZERO, Arc::default()).unwrap();
        let accepted = |rejected_spans, message: &str| Accepted { rejected_spans, message: message.to_owned() };
        let whole = accepted(0, "");
        for _ in 0..2 {
            collector.falls_to(RETRYING, "no answer; trying again");
        }
        for accepted in [&accepted(1, "too old: s3cret"), &accepted(1, "too large"), &whole, &accepted(1, ""), &whole] {
            collector.accepted(batch().await, accepted);
        }
        for _ in 0..2 {
            collector.accepted(batch().await, &accepted(0, "use gzip"));
        }
        let logged = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(
            logged.lines().map(str::trim).collect::<Vec<_>>(),
            [
                "WARN cannot deliver spans to http://collector:4318: no answer; trying again",
                "INFO delivering spans to http://collector:4318 again",
                "WARN http://collector:4318 rejected 1 of 1 spans: too old: [redacted]",
                "WARN http://collector:4318 rejected 1 of 1 spans",
                "WARN http://collector:4318 accepted 1 spans with the message: use gzip",
            ]
        );
    }
}
