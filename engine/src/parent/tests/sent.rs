//! Calls that were sent with their ids in a `traceparent` that Onlooker added.

use super::*;

/// A request of the proxy, and its call, which was sent with the ids of this trace.
fn sent(parents: &mut Parents, trace_id: [u64; 2]) -> [NodeId; 2] {
    let request = parents.begin(server(1, PROXY), &begun(0, 100), Some(&origin(0, 0)));
    let owned = owned(50, (1, 0), evidence::THREAD);
    let ids = Ids { trace_id, span_id: 150 };
    let call = parents.begin(client(2, PROXY), &begun(50, 110), Some(&Origin { ids, sends_context: true, ..owned }));
    [request, call]
}

fn trace_id([high, low]: [u64; 2]) -> TraceId {
    TraceId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

#[test]
fn a_call_has_the_ids_that_were_sent() {
    let mut parents = Parents::default();
    let of_request = ids(0).trace_id;
    let [request, call] = sent(&mut parents, of_request);
    let call = settle(&mut parents, call, 110, 120);
    let request = settle(&mut parents, request, 100, 130);
    assert_eq!((call.trace_id, call.span_id), (trace_id(of_request), SpanId::from_bytes(150_u64.to_be_bytes())));
    assert_eq!(call.parent, Some(Parent { span_id: request.span_id, evidence: Evidence::Thread, remote: false }));
    assert_eq!((request.trace_id, call.link), (call.trace_id, None));
}

#[test]
fn a_parent_in_another_trace_than_was_sent_is_linked() {
    let mut parents = Parents::default();
    let [request, call] = sent(&mut parents, [3, 4]);
    let call = settle(&mut parents, call, 110, 120);
    let request = settle(&mut parents, request, 100, 130);
    assert_eq!((call.trace_id, call.parent, call.found_late), (trace_id([3, 4]), None, true));
    assert_eq!(request.trace_id, trace_id(ids(0).trace_id));
    let link = call.link.expect("there is a link");
    assert_eq!((link.trace_id(), link.span_id()), (request.trace_id, request.span_id));
}

#[test]
fn what_is_below_a_call_is_in_the_trace_that_was_sent() {
    let mut parents = Parents::default();
    let [request, call] = sent(&mut parents, [3, 4]);
    let header = TraceContext {
        trace_id: trace_id([3, 4]).to_bytes(),
        span_id: 150_u64.to_be_bytes(),
        flags: 3,
        tracestate: "".into(),
    };
    let answer = parents.begin(
        server(3, APP),
        &Begun { context: Some(Box::new(header)), ..begun(50, 105) },
        Some(&origin(50, 0)),
    );
    let answer = settle(&mut parents, answer, 105, 115);
    let call = settle(&mut parents, call, 110, 120);
    settle(&mut parents, request, 100, 130);
    assert_eq!((answer.trace_id, call.trace_id), (trace_id([3, 4]), trace_id([3, 4])));
    assert_eq!(answer.parent, Some(Parent { span_id: call.span_id, evidence: Evidence::Host, remote: false }));
}
