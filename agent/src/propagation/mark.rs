//! Requests with a known trace id.

use std::time::Duration;

use anyhow::{Context as _, Result};
use onlooker_protocols::propagation::{Format, SAMPLED, TraceContext};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};

/// The longest answer that is searched.
const ANSWER_BYTES: usize = 1 << 20;

/// The context of one request.
#[derive(Debug)]
pub(super) struct Mark(TraceContext);

impl Mark {
    pub(super) fn new() -> Self {
        let ids = RandomIdGenerator::default();
        let (trace_id, span_id) = (ids.new_trace_id().to_bytes(), ids.new_span_id().to_bytes());
        Self(TraceContext { trace_id, span_id, flags: SAMPLED, tracestate: String::new().into() })
    }

    /// The digits of the trace id that all formats carry: `ottrace` has the last 16 only.
    pub(super) fn digits(&self) -> String {
        hex::encode(&self.0.trace_id[8..])
    }

    /// Whether a text has the trace id.
    pub(super) fn is_in(&self, answer: &str) -> bool {
        answer.contains(&self.digits())
    }
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Sender(Client);

impl Sender {
    pub(super) fn new(timeout: Duration) -> Result<Self> {
        // Each request is the first on its connection, as a new client's would be.
        let client = Client::builder().timeout(timeout).pool_max_idle_per_host(0).no_proxy();
        // Without TLS no provider and no CA are needed. This fails only if a provider is already set.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client =
            client.tls_certs_only([]).redirect(redirect::Policy::none()).build().context("cannot prepare requests")?;
        Ok(Self(client))
    }

    /// Sends a request, with a mark if there is one. Returns head and body of the answer as text.
    pub(super) async fn send(&self, url: &Url, mark: Option<(&Format, &Mark)>) -> Result<String> {
        let mut headers = HeaderMap::new();
        let lines = mark.map(|(format, mark)| format.lines(&mark.0)).unwrap_or_default();
        for (name, value) in lines.lines().filter_map(|line| line.split_once(':')) {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value.trim())?);
        }
        let failed = || format!("no answer from {url}");
        let mut response = self.0.get(url.clone()).headers(headers).send().await.with_context(failed)?;
        let mut answer = format!("{:?}\n", response.headers()).into_bytes();
        while answer.len() < ANSWER_BYTES
            && let Some(part) = response.chunk().await.with_context(failed)?
        {
            answer.extend_from_slice(&part);
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
