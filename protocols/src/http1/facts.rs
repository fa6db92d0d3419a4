//! The facts in the head of a request, and the call in it.

use std::num::NonZeroU64;

use compact_str::CompactString;

use super::head::{Fields, RequestHead};
use crate::Facts;
use crate::facts::{Http, HttpVersion};
use crate::grpc::{self, Call, Flavor};
use crate::kit::passed_on::PassedOn;
use crate::kit::target::{self, Target};
use crate::propagation::{self, TraceContext};

/// The facts in the head. There is no response and no body yet.
#[inline(always)]
pub(super) fn http(head: &RequestHead<'_>) -> Http {
    let parsed = Target::parse(head.method, head.target);
    let authority = if parsed.authority.is_empty() { head.fields.host.unwrap_or_default() } else { parsed.authority };
    Http {
        method: target::method(head.method),
        path: parsed.redacted_path(),
        query: parsed.redacted_query(),
        scheme: target::name(parsed.scheme),
        host: target::host(authority),
        user_agent: target::name(head.fields.user_agent.unwrap_or_default()),
        version: if head.minor_version == 0 { HttpVersion::Http10 } else { HttpVersion::Http11 },
        status: None,
        request_body: Some(0),
        response_body: None,
    }
}

/// The call in the head, if there is one: of gRPC-Web or Connect, or of gRPC that a proxy took from HTTP/2. The facts become those of
/// the call.
#[inline]
pub(super) fn take_call(head: &RequestHead<'_>, facts: &mut Facts) -> Option<Box<Call>> {
    let has_query = facts.as_http().is_some_and(|http| !http.query.is_empty());
    let flavor = flavor(head, has_query)?;
    Some(call(flavor, head, facts))
}

#[cold]
fn call(flavor: Flavor, head: &RequestHead<'_>, facts: &mut Facts) -> Box<Call> {
    let Fields { grpc_timeout, connect_timeout, .. } = &head.fields;
    let timeout = grpc_timeout.and_then(grpc::of_grpc).or_else(|| connect_timeout.and_then(grpc::of_connect));
    let call = Call::new(flavor, timeout);
    let target = Target::parse(head.method, head.target);
    let host = facts.as_http().map(|http| http.host.clone()).unwrap_or_default();
    *facts = Facts::Rpc(Box::new(call.facts(target.path, host)));
    Box::new(call)
}

#[inline]
fn flavor(head: &RequestHead<'_>, has_query: bool) -> Option<Flavor> {
    let is_connect = head.fields.is_connect || (has_query && grpc::is_connect_get(head.method, head.target));
    match head.fields.content_type {
        None if !is_connect => None,
        content_type => Flavor::of(content_type.unwrap_or_default(), is_connect),
    }
}

/// The trace context that the request carries, if it is well-formed.
pub(super) fn context(head: &RequestHead<'_>) -> Option<TraceContext> {
    propagation::read(&head.fields.propagation)
}

/// What a proxy passes on.
pub(super) fn passed_on(head: &RequestHead<'_>) -> Option<NonZeroU64> {
    let (method, target) = (PassedOn::hash(head.method), PassedOn::hash(head.target));
    PassedOn { method, target, host: head.fields.host.map_or(0, PassedOn::hash) }.number()
}

/// The id that services pass on, from the most common fields.
pub(super) fn correlation(head: &RequestHead<'_>) -> Option<CompactString> {
    [head.fields.request_id, head.fields.correlation_id].into_iter().flatten().find_map(target::correlation)
}
