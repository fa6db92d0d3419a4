//! OTLP/HTTP: a POST with the request as protobuf or JSON.
//!
//! By the specification, failed connections and 429, 502, 503 and 504 are retried.

use std::io::Write;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Identity, Response, StatusCode, Url};
use serde_json::Value;

use super::answer::{Accepted, Refused, Retry, USER_AGENT, with_causes};
use super::retry::retry_after;
use super::tls::{CERTIFICATE, PRIVATE_KEY, read_pem, setup_error};
use crate::export::error::StartError;
use crate::export::json;
use crate::export::settings::{Otlp, Protocol};

/// An answer has a few bytes. A longer one is not read.
const LONGEST_ANSWER: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Client {
    client: reqwest::Client,
    url: Url,
    json: bool,
    gzip: bool,
}

impl Client {
    pub(super) fn new(config: &Otlp) -> Result<Self, StartError> {
        let json = config.protocol == Protocol::HttpJson;
        let content_type = if json { "application/json" } else { "application/x-protobuf" };
        let mut headers: HeaderMap = config.headers.0.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if config.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let url = Url::parse(&config.endpoint).map_err(|error| StartError::Endpoint(error.to_string()))?;
        // reqwest uses the provider of tonic. This fails only if it is already set.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            // A redirect would send credentials elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.timeout);
        if let Some(path) = &config.tls.ca {
            let certificates = Certificate::from_pem_bundle(&read_pem(path, CERTIFICATE)?)
                .map_err(|error| StartError::Tls(format!("{}: {}", path.display(), with_causes(&error))))?;
            client = client.tls_certs_only(certificates);
        } else if url.scheme() != "https" {
            // Without TLS no CA is needed. This works in a container without the system's CAs.
            client = client.tls_certs_only([]);
        }
        if let Some((certificate, key)) = &config.tls.client {
            let pem = [read_pem(certificate, CERTIFICATE)?, read_pem(key, PRIVATE_KEY)?].join(&b'\n');
            let identity = Identity::from_pem(&pem)
                .map_err(|error| StartError::Tls(format!("{}: {}", certificate.display(), with_causes(&error))))?;
            client = client.identity(identity);
        }
        let client = client.build().map_err(setup_error)?;
        Ok(Self { client, url, json, gzip: config.gzip })
    }

    /// Makes the body from an `ExportTraceServiceRequest`, once for all attempts.
    pub(super) fn prepare(&self, request: Bytes) -> Bytes {
        let body = if self.json { json::from_protobuf(&request).into() } else { request };
        if !self.gzip {
            return body;
        }
        // Spans are repetitive. The fastest level compresses them to about a tenth, and the default level is little better.
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        let compressed = encoder.write_all(&body).and_then(|()| encoder.finish());
        compressed.expect("writing to memory cannot fail").into()
    }

    pub(super) async fn send(&self, body: Bytes) -> Result<Accepted, Refused> {
        let response = self.client.post(self.url.clone()).body(body).send().await.map_err(|error| Refused {
            retry: if error.is_builder() { Retry::Never } else { Retry::Later },
            why: with_causes(&error.without_url()),
        })?;
        let status = response.status();
        if status.is_success() {
            let answer = read(response).await.unwrap_or_default();
            return Ok(self.accepted(&answer));
        }
        let wish = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wish = wish.and_then(|value| retry_after(value, SystemTime::now()));
        let retry = match (status, wish) {
            (
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT,
                wish,
            ) => wish.map_or(Retry::Later, Retry::After),
            _ => Retry::Never,
        };
        let message = read(response).await.map(|answer| self.reason(&answer)).unwrap_or_default();
        let separator = if message.is_empty() { "" } else { ": " };
        Err(Refused { retry, why: format!("HTTP {status}{separator}{message}") })
    }

    /// The answer to an accepted request. One that cannot be decoded rejects nothing.
    fn accepted(&self, answer: &[u8]) -> Accepted {
        if self.json {
            return accepted_json(answer).unwrap_or_default();
        }
        super::grpc::accepted(ExportTraceServiceResponse::decode(answer).unwrap_or_default())
    }

    /// The message of a refusal, whose body should be a `google.rpc.Status`.
    fn reason(&self, answer: &[u8]) -> String {
        if self.json {
            let status: Option<Value> = serde_json::from_slice(answer).ok();
            return status.and_then(|s| s.get("message")?.as_str().map(str::to_owned)).unwrap_or_default();
        }
        tonic_types::Status::decode(answer).map(|status| status.message).unwrap_or_default()
    }
}

/// Decodes an `ExportTraceServiceResponse` in JSON. Protobuf's JSON mapping writes a 64-bit number as a string, and accepts
/// a number too. The types of `opentelemetry-proto` accept only a number.
fn accepted_json(answer: &[u8]) -> Option<Accepted> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let rejected = match partial.get("rejectedSpans") {
        Some(Value::String(number)) => number.parse().ok(),
        Some(number) => number.as_u64(),
        None => None,
    };
    let message = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    Some(Accepted { rejected_spans: rejected.unwrap_or(0), message: message.to_owned() })
}

async fn read(mut response: Response) -> Option<Bytes> {
    let mut answer = BytesMut::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if answer.len() + chunk.len() > LONGEST_ANSWER {
            return None;
        }
        answer.extend_from_slice(&chunk);
    }
    Some(answer.freeze())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_the_collector_writes_it(
        r#"{"partialSuccess":{"rejectedSpans":"7","errorMessage":"too old"}}"#,
        7,
        "too old"
    )]
    #[case::number(r#"{"partialSuccess":{"rejectedSpans":7,"errorMessage":"too old"}}"#, 7, "too old")]
    #[case::message_alone(r#"{"partialSuccess":{"errorMessage":"use gzip"}}"#, 0, "use gzip")]
    #[case::whole(r#"{"partialSuccess":{}}"#, 0, "")]
    #[case::empty("{}", 0, "")]
    #[case::null(r#"{"partialSuccess":null}"#, 0, "")]
    #[case::negative(r#"{"partialSuccess":{"rejectedSpans":"-7"}}"#, 0, "")]
    #[case::too_large(r#"{"partialSuccess":{"rejectedSpans":"99999999999999999999","errorMessage":"x"}}"#, 0, "x")]
    #[case::nonsense("nonsense", 0, "")]
    fn a_partial_success_in_json_is_decoded(#[case] answer: &str, #[case] rejected_spans: u64, #[case] message: &str) {
        let expected = Accepted { rejected_spans, message: message.to_owned() };
        assert_eq!(accepted_json(answer.as_bytes()).unwrap_or_default(), expected);
    }
}
