//! OTLP/gRPC: a unary call of `TraceService/Export` with an encoded message.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::HeaderMap;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Extensions, Request, Status};
use tonic_types::StatusExt;

use super::answer::{Accepted, Refused, Retry, USER_AGENT, with_causes};
use super::retry::LONGEST_WISH;
use super::tls::{CERTIFICATE, PRIVATE_KEY, read_pem, setup_error};
use crate::export::error::StartError;
use crate::export::settings::Otlp;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A connection is replaced if it answers no ping for this long while a request waits. A collector whose host is gone sends
/// no reset.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Client {
    grpc: tonic::client::Grpc<Channel>,
    headers: HeaderMap,
}

impl Client {
    pub(super) fn new(config: &Otlp) -> Result<Self, StartError> {
        let mut endpoint = Endpoint::from_shared(config.endpoint.clone())
            .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
            .map_err(|error| StartError::Endpoint(with_causes(&error)))?
            .connect_timeout(config.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        if config.endpoint.starts_with("https://") {
            let mut tls = ClientTlsConfig::new();
            tls = match &config.tls.ca {
                Some(path) => tls.ca_certificate(Certificate::from_pem(read_pem(path, CERTIFICATE)?)),
                None => tls.with_native_roots(),
            };
            if let Some((certificate, key)) = &config.tls.client {
                tls =
                    tls.identity(Identity::from_pem(read_pem(certificate, CERTIFICATE)?, read_pem(key, PRIVATE_KEY)?));
            }
            endpoint = endpoint.tls_config(tls).map_err(setup_error)?;
        }
        let mut grpc = tonic::client::Grpc::new(endpoint.connect_lazy());
        if config.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self { grpc, headers: config.headers.0.clone() })
    }

    pub(super) async fn send(&self, message: Bytes) -> Result<Accepted, Refused> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Refused { retry: Retry::Later, why: with_causes(&error) })?;
        let metadata = MetadataMap::from_headers(self.headers.clone());
        let request = Request::from_parts(metadata, Extensions::default(), message);
        match grpc.unary(request, PathAndQuery::from_static(EXPORT), Encoded).await {
            Ok(response) => Ok(accepted(response.into_inner())),
            Err(status) => Err(refused(&status)),
        }
    }
}

/// Applies the specification's list of retryable codes. A status with a cause comes from the agent's own transport: the
/// connection failed, whatever the code.
fn refused(status: &Status) -> Refused {
    let wish = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let wish = wish.map(|wish| wish.min(LONGEST_WISH));
    let retry = match status.code() {
        _ if std::error::Error::source(status).is_some() => Retry::Later,
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => wish.map_or(Retry::Later, Retry::After),
        Code::ResourceExhausted => wish.map_or(Retry::Never, Retry::After),
        _ => Retry::Never,
    };
    let why = match std::error::Error::source(status) {
        Some(cause) => with_causes(cause),
        None => format!("gRPC {:?}: {}", status.code(), status.message()),
    };
    Refused { retry, why }
}

/// The collector's answer in a response (OTLP partial success).
pub(super) fn accepted(response: ExportTraceServiceResponse) -> Accepted {
    let partial = response.partial_success.unwrap_or_default();
    Accepted { rejected_spans: u64::try_from(partial.rejected_spans).unwrap_or(0), message: partial.error_message }
}

/// Sends an encoded message, and decodes the response.
#[derive(Debug, Clone, Copy, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, answer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let answer = answer.copy_to_bytes(answer.remaining());
        // The request was accepted, even if the rest of the response cannot be decoded.
        Ok(Some(Self::Item::decode(answer).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tonic_types::ErrorDetails;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[rstest]
    #[case(Code::Unavailable, None, Retry::Later)]
    #[case(Code::Unavailable, Some(SECOND), Retry::After(SECOND))]
    #[case(Code::Unavailable, Some(Duration::MAX), Retry::After(LONGEST_WISH))]
    #[case(Code::DeadlineExceeded, None, Retry::Later)]
    #[case(Code::ResourceExhausted, None, Retry::Never)]
    #[case(Code::ResourceExhausted, Some(SECOND), Retry::After(SECOND))]
    #[case(Code::Unauthenticated, None, Retry::Never)]
    #[case(Code::Unauthenticated, Some(SECOND), Retry::Never)]
    #[case(Code::InvalidArgument, None, Retry::Never)]
    fn codes_are_retried_by_the_specification(
        #[case] code: Code,
        #[case] wish: Option<Duration>,
        #[case] retry: Retry,
    ) {
        let status = match wish {
            None => Status::new(code, "no"),
            wish => Status::with_error_details(code, "no", ErrorDetails::with_retry_info(wish)),
        };
        assert_eq!(refused(&status).retry, retry);
    }
}
