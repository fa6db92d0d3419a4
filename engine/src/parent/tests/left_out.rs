//! Requests that the user wants no spans of.

use std::sync::Arc;

use onlooker_protocols::http1;
use opentelemetry_sdk::Resource;

use super::*;
use crate::model::reporting::Reporting;
use crate::model::service::Service;
use crate::route::PathPattern;

/// A service with this reporting. The answer comes from the test.
fn pending() -> PendingService {
    PendingService::new(PROXY, "proxy".into(), Arc::new(started::NoService))
}

fn answer(pending: &PendingService, reporting: Reporting) {
    let service = Service::new("proxy", Resource::builder_empty().build());
    pending.set(Arc::new(Service { reporting: Arc::new(reporting), ..service }));
}

fn unjudged(service: &PendingService) -> Unjudged {
    Unjudged { service: service.clone(), protocol: Some(&http1::SPEC), path: "/healthz".into() }
}

fn ignoring() -> Reporting {
    Reporting { ignored: vec![PathPattern::parse("/healthz").unwrap()], ..Reporting::default() }
}

fn omitting() -> Reporting {
    Reporting { protocols: Some(Box::new([])), ..Reporting::default() }
}

/// The service may become known after the request began.
#[rstest]
#[case::known(true)]
#[case::known_later(false)]
fn what_is_done_for_an_ignored_request_is_left_out_with_it(#[case] known: bool) {
    let mut parents = Parents::default();
    let [request, call, last] = chain(&mut parents, None, None);
    let service = pending();
    if known {
        answer(&service, ignoring());
    }
    parents.may_be_left_out(request, unjudged(&service));
    answer(&service, ignoring());
    for (id, end, left_out) in [
        (last, 130, LeftOut::WithRequestAbove),
        (call, 125, LeftOut::WithRequestAbove),
        (request, 140, LeftOut::Itself),
    ] {
        finish(&mut parents, id, end);
        assert_eq!(parents.leave_out(id), Some(left_out));
    }
    assert!(parents.is_empty(), "nothing is kept");
}

#[test]
fn a_call_of_an_omitted_request_belongs_to_the_request_above() {
    let mut parents = Parents::default();
    let [request, call, last] = chain(&mut parents, None, None);
    let service = pending();
    parents.may_be_left_out(call, unjudged(&service));
    answer(&service, omitting());
    finish(&mut parents, last, 130);
    assert_eq!(parents.leave_out(last), None);
    let last = parents.settle(last, 105, 130, true).unwrap();
    finish(&mut parents, call, 125);
    assert_eq!(parents.leave_out(call), Some(LeftOut::Itself));
    let request = settle(&mut parents, request, 100, 140);
    assert_eq!(last.parent.map(|parent| parent.span_id), Some(request.span_id));
    assert_eq!(last.trace_id, request.trace_id);
    assert!(parents.is_empty(), "nothing is kept");
}

/// The service was not known in time, so a call was exported.
#[test]
fn a_request_that_is_a_parent_already_is_reported() {
    let mut parents = Parents::default();
    let [request, call, _] = chain(&mut parents, None, None);
    let service = pending();
    parents.may_be_left_out(request, unjudged(&service));
    finish(&mut parents, call, 125);
    assert_eq!(parents.leave_out(call), None);
    let call = parents.settle(call, 110, 125, true).unwrap();
    answer(&service, ignoring());
    finish(&mut parents, request, 140);
    assert_eq!(parents.leave_out(request), None);
    let request = parents.settle(request, 100, 140, true).unwrap();
    assert_eq!(call.parent.map(|parent| parent.span_id), Some(request.span_id));
}

#[test]
fn a_request_is_left_out_at_its_end_if_its_service_is_known_only_then() {
    let mut parents = Parents::default();
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    let service = pending();
    parents.may_be_left_out(request, unjudged(&service));
    finish(&mut parents, request, 140);
    answer(&service, ignoring());
    assert_eq!(parents.leave_out(request), Some(LeftOut::Itself));
    assert_eq!(parents.leave_out(request), None, "it is gone");
    assert!(parents.is_empty());
}
