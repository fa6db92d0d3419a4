//! Calls of processes that were started for a span, or by the thread of a request.

use std::sync::Arc;

use onlooker_protocols::propagation::TraceContext;
use opentelemetry_sdk::Resource;

use super::*;
use crate::model::service::Service;

const CHILD: u32 = 30;

/// A process with this context in its environment.
pub(super) fn started_by(context: TraceContext) -> PendingService {
    let service = Arc::new(Service::new("curl", Resource::builder_empty().build()));
    let process = PendingService::known(Arc::clone(&service));
    assert_eq!(process.started_by(), None);
    let process = PendingService::new(CHILD, "curl".into(), Arc::new(NoService));
    process.set_started(service, Some(Arc::new(context)));
    process
}

#[derive(Debug)]
pub(super) struct NoService;

impl crate::model::service::UnknownService for NoService {
    fn unknown_service(&self, _pid: u32, _comm: &str) -> Service {
        unreachable!("the service is known")
    }
}

/// A request of the application, and a call by a process that its thread started.
fn forked(parents: &mut Parents, received: Option<TraceContext>, environment: Option<TraceContext>) -> [NodeId; 2] {
    let request =
        parents.begin(server(1, APP), &Begun { context: received.map(Box::new), ..begun(0, 100) }, Some(&origin(0, 0)));
    let call = parents.begin(client(2, CHILD), &begun(9, 110), Some(&owned(9, (1, 0), evidence::FORK)));
    if let Some(context) = environment {
        assert!(parents.may_continue(CHILD));
        parents.made_by(call, started_by(context));
    }
    [request, call]
}

#[test]
fn a_call_of_a_child_process_belongs_to_the_request_that_waits_for_it() {
    let mut parents = Parents::default();
    let [request, call] = forked(&mut parents, None, None);
    let call = settle(&mut parents, call, 110, 120);
    let request = settle(&mut parents, request, 100, 130);
    assert_eq!(call.parent, Some(Parent { span_id: request.span_id, evidence: Evidence::Fork, remote: false }));
    assert_eq!(call.trace_id, request.trace_id);
}

#[test]
fn a_child_of_a_request_that_is_over_has_no_parent() {
    let mut parents = Parents::default();
    let [request, call] = forked(&mut parents, None, None);
    settle(&mut parents, request, 100, 105);
    assert_eq!(settle(&mut parents, call, 110, 120).parent, None);
}

#[test]
fn a_child_of_an_event_loop_has_no_parent() {
    let mut parents = Parents::default();
    let [request, call] = forked(&mut parents, None, None);
    parents.runs_loop(APP);
    assert_eq!(settle(&mut parents, call, 110, 120).parent, None);
    settle(&mut parents, request, 100, 130);
}

#[test]
fn the_environment_of_a_process_names_the_parent_of_its_calls() {
    let mut parents = Parents::default();
    let [request, call] = forked(&mut parents, None, Some(wire(5)));
    let call = settle(&mut parents, call, 110, 120);
    settle(&mut parents, request, 100, 130);
    let parent = Parent { span_id: SpanId::from_bytes([5; 8]), evidence: Evidence::Environment, remote: true };
    assert_eq!((call.parent, call.trace_id), (Some(parent), TraceId::from_bytes([9; 16])));
    assert_eq!(call.trace_state, "a=1");
    assert!(parents.is_empty());
}

#[test]
fn a_context_that_a_request_only_handed_on_does_not_flatten_the_trace() {
    let mut parents = Parents::default();
    let [request, call] = forked(&mut parents, Some(wire(5)), Some(wire(5)));
    let call = settle(&mut parents, call, 110, 120);
    let request = settle(&mut parents, request, 100, 130);
    assert_eq!(call.parent, Some(Parent { span_id: request.span_id, evidence: Evidence::Fork, remote: false }));
    assert_eq!(request.parent.map(|parent| parent.remote), Some(true));
    assert_eq!([call.trace_id, request.trace_id], [TraceId::from_bytes([9; 16]); 2]);
}

#[test]
fn the_server_of_a_started_process_is_in_its_trace() {
    let mut parents = Parents::default();
    let call = parents.begin(client(2, CHILD), &begun(50, 100), Some(&origin(50, 0)));
    parents.made_by(call, started_by(wire(5)));
    let answer = parents.begin(server(3, APP), &begun(50, 101), Some(&origin(50, 0)));
    let answer = settle(&mut parents, answer, 101, 110);
    let call = settle(&mut parents, call, 100, 111);
    assert_eq!([answer.trace_id, call.trace_id], [TraceId::from_bytes([9; 16]); 2]);
    assert_eq!(answer.parent.map(|parent| parent.span_id), Some(call.span_id));
}

#[test]
fn a_process_that_serves_does_not_continue_the_trace_that_it_was_started_with() {
    let mut parents = Parents::default();
    assert!(parents.may_continue(APP));
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    settle(&mut parents, request, 100, 110);
    assert!(!parents.may_continue(APP));
}

#[test]
fn a_process_does_not_continue_a_trace_without_end() {
    let mut parents = Parents::default();
    assert_eq!((0..20_000).filter(|_| parents.may_continue(CHILD)).count(), 10_000);
}

#[test]
fn a_context_of_the_environment_is_linked_if_the_call_was_sent_in_another_trace() {
    let mut parents = Parents::default();
    let call = parents.begin(client(2, CHILD), &begun(9, 110), Some(&Origin { sends_context: true, ..origin(9, 0) }));
    assert!(parents.may_continue(CHILD));
    parents.made_by(call, started_by(wire(5)));
    let call = settle(&mut parents, call, 110, 120);
    assert_eq!((call.parent, call.found_late), (None, true));
    let link = call.link.expect("there is a link");
    assert_eq!((link.trace_id(), link.span_id()), (TraceId::from_bytes([9; 16]), SpanId::from_bytes([5; 8])));
    assert_ne!(call.trace_id, link.trace_id());
}
