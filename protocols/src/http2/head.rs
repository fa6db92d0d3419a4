//! What a header block says: the head of a request or of a response, or trailers.

use std::num::NonZeroU64;

use compact_str::CompactString;

use super::field::Field;
use super::hpack::{Decoder, Malformed};
use crate::Facts;
use crate::facts::{Http, HttpVersion};
use crate::grpc::{self, Call, Flavor, Trailers};
use crate::kit::passed_on::PassedOn;
use crate::kit::target::{self, Target};
use crate::propagation::{self, Header, TraceContext};

/// A decoded header block. Fields that are unknown or absent are empty.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Method, path, query, scheme, host and user agent.
    pub(super) http: Http,
    /// It has a pseudo-header field of a request (RFC 9113 8.3.1).
    pub(super) is_request: bool,
    /// Of a response (RFC 9113 8.3.2).
    pub(super) status: Option<u16>,
    pub(super) trailers: Trailers,
    /// A field is unknown.
    pub(super) has_unknown: bool,
    /// The path as it was sent, of a call.
    raw_path: Vec<u8>,
    host: CompactString,
    passed_on: PassedOn,
    content_type: Vec<u8>,
    is_connect: bool,
    timeout: Option<std::time::Duration>,
    propagation: Vec<(Header, Vec<u8>)>,
    request_id: Option<CompactString>,
    correlation_id: Option<CompactString>,
}

/// Longer content types are none of a call.
const MAX_CONTENT_TYPE: usize = 64;

impl Head {
    /// Decodes a whole block.
    pub(super) fn decode(decoder: &mut Decoder<Field>, block: &[u8]) -> Result<Self, Malformed> {
        let mut head = Self::default();
        head.http.version = HttpVersion::Http2;
        head.http.request_body = Some(0);
        decoder.decode(block, |field| match field {
            Some((&field, value)) => head.take(field, value),
            None => head.has_unknown = true,
        })?;
        Ok(head)
    }

    fn take(&mut self, field: Field, value: &[u8]) {
        match field {
            Field::Method => {
                (self.http.method, self.is_request) = (target::method(value), true);
                self.passed_on.method = PassedOn::hash(value);
            }
            Field::Scheme => (self.http.scheme, self.is_request) = (target::name(value), true),
            Field::Authority => {
                (self.http.host, self.is_request) = (target::host(value), true);
                self.passed_on.host = PassedOn::hash(value);
            }
            Field::Path => {
                let parsed = Target::parse(b"", value);
                (self.http.path, self.http.query) = (parsed.redacted_path(), parsed.redacted_query());
                self.raw_path.extend_from_slice(value);
                self.passed_on.target = PassedOn::hash(value);
                self.is_request = true;
            }
            Field::Protocol => self.is_request = true,
            Field::Status => self.status = status(value),
            Field::Host => self.host = target::host(value),
            Field::UserAgent => self.http.user_agent = target::name(value),
            Field::ContentType if value.len() <= MAX_CONTENT_TYPE => self.content_type = value.to_vec(),
            Field::ContentType | Field::Other => {}
            Field::Propagation(header) => self.propagation.push((header, value.to_vec())),
            Field::RequestId => self.request_id = self.request_id.take().or_else(|| target::correlation(value)),
            Field::CorrelationId => {
                self.correlation_id = self.correlation_id.take().or_else(|| target::correlation(value));
            }
            Field::GrpcStatus => self.trailers.set(value),
            Field::GrpcTimeout => self.timeout = grpc::of_grpc(value),
            Field::ConnectTimeout => self.timeout = grpc::of_connect(value),
            Field::ConnectVersion => self.is_connect = true,
        }
    }

    /// How the head's body holds a call, if it does.
    pub(super) fn flavor(&self) -> Option<Flavor> {
        let is_connect = self.is_connect || grpc::is_connect_get(self.http.method.as_bytes(), &self.raw_path);
        if self.content_type.is_empty() && !is_connect {
            return None;
        }
        Flavor::of(&self.content_type, is_connect)
    }

    /// The trace context of a request, if it is well-formed.
    pub(super) fn context(&self) -> Option<TraceContext> {
        let fields: Vec<_> = self.propagation.iter().map(|(header, value)| (*header, &**value)).collect();
        propagation::read(&fields)
    }

    /// What a proxy passes on. `None` if a field is unknown, because that may be one of these.
    pub(super) fn passed_on(&self) -> Option<NonZeroU64> {
        if self.has_unknown { None } else { self.passed_on.number() }
    }

    /// The id that services pass on.
    pub(super) fn correlation(&mut self) -> Option<CompactString> {
        self.request_id.take().or(self.correlation_id.take())
    }

    /// The facts of a request, and its call if it is one.
    pub(super) fn into_facts(mut self) -> (Facts, Option<Box<Call>>) {
        if self.http.host.is_empty() {
            self.http.host = std::mem::take(&mut self.host);
        }
        match self.flavor() {
            Some(flavor) => {
                let call = Call::new(flavor, self.timeout);
                let facts = call.facts(&self.raw_path, self.http.host);
                (Facts::Rpc(Box::new(facts)), Some(Box::new(call)))
            }
            None => (Facts::Http(self.http), None),
        }
    }
}

/// RFC 9110 15: three digits.
fn status(value: &[u8]) -> Option<u16> {
    match *value {
        [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Some(digit(hundreds) * 100 + digit(tens) * 10 + digit(ones))
        }
        _ => None,
    }
}
