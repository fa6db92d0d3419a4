use onlooker_common::owner::{MessageIds as Ids, Owner, evidence};
use onlooker_protocols::propagation::TraceContext;
use onlooker_protocols::{Direction, Moment};
use rstest::rstest;

use super::*;

mod background;
mod bounds;
mod left_out;
mod responder;
mod sent;
mod started;

const PROXY: u32 = 10;
const APP: u32 = 20;

fn begun(position: u64, nanos: u64) -> Begun {
    Begun::plain(Direction::ToServer, Moment { nanos, position, run: 0 })
}

/// The ids of the run that begins at `position`. Requests of different connections must not have the same position in a test
/// that compares their spans.
fn ids(position: u64) -> Ids {
    Ids { trace_id: [position + 1, 7], span_id: position + 100 }
}

fn origin(position: u64, opposite: u64) -> Origin {
    Origin {
        position,
        end: position + 40,
        opposite,
        owner: Owner::default(),
        ids: ids(position),
        tgid: 0,
        unit: None,
        worker: None,
        peer: 0,
        offsets: [0, 0],
        counts_alone: false,
        has_private_positions: false,
        from_start: true,
        sends_context: false,
        has_frames: false,
    }
}

/// A call made for the request that was read on the connection `by.0` at `by.1`.
fn owned(position: u64, by: (u64, u64), rung: u32) -> Origin {
    let owner = Owner { cookie: by.0, position: by.1, ids: ids(by.1), evidence: rung, ..Owner::default() };
    Origin { owner, ..origin(position, 0) }
}

fn server(cookie: u64, tgid: u32) -> Place {
    Place { cookie, tgid, role: Role::Server, in_order: true }
}

fn client(cookie: u64, tgid: u32) -> Place {
    Place { cookie, tgid, role: Role::Client, in_order: true }
}

fn wire(span: u8) -> TraceContext {
    TraceContext { trace_id: [9; 16], span_id: [span; 8], flags: 1, tracestate: "a=1".into() }
}

/// A proxy's request, its call, and the application's request at the other end of the call.
fn chain(parents: &mut Parents, sent: Option<TraceContext>, received: Option<TraceContext>) -> [NodeId; 3] {
    let request = parents.begin(
        server(1, PROXY),
        &Begun { context: received.map(Box::new), ..begun(0, 100) },
        Some(&origin(0, 0)),
    );
    let call = parents.begin(
        client(2, PROXY),
        &Begun { context: sent.clone().map(Box::new), ..begun(50, 110) },
        Some(&owned(50, (1, 0), evidence::CONNECT)),
    );
    let answer =
        parents.begin(server(3, APP), &Begun { context: sent.map(Box::new), ..begun(50, 105) }, Some(&origin(50, 0)));
    [request, call, answer]
}

fn place(parents: &Parents, id: NodeId) -> (Place, u64) {
    let node = parents.tree.ledger.get(id).expect("it is there");
    let place = Place { cookie: node.cookie, tgid: node.tgid, role: node.role, in_order: node.in_order };
    (place, node.position)
}

/// The request ends.
fn finish(parents: &mut Parents, id: NodeId, end: u64) {
    let (place, position) = place(parents, id);
    assert_eq!(parents.finish(place, position, end, true), Some(id));
}

/// The client of the request gives up.
fn give_up(parents: &mut Parents, id: NodeId, end: u64) {
    let (place, position) = place(parents, id);
    assert_eq!(parents.finish(place, position, end, false), Some(id));
}

fn settle(parents: &mut Parents, id: NodeId, start: u64, end: u64) -> Settled {
    finish(parents, id, end);
    parents.settle(id, start, end, true).expect("the node is there")
}

#[test]
fn a_trace_through_a_proxy_is_one_whichever_span_ends_first() {
    let mut parents = Parents::default();
    let [request, call, answer] = chain(&mut parents, None, None);
    let answer = settle(&mut parents, answer, 105, 130);
    let call = settle(&mut parents, call, 110, 125);
    let request = settle(&mut parents, request, 100, 140);
    assert_eq!([answer.trace_id, call.trace_id], [request.trace_id; 2]);
    assert_eq!(request.parent, None);
    assert_eq!(call.parent, Some(Parent { span_id: request.span_id, evidence: Evidence::Connect, remote: false }));
    assert_eq!(answer.parent, Some(Parent { span_id: call.span_id, evidence: Evidence::Host, remote: false }));
    // The client's write returned after the server had read.
    assert_eq!(call.start, 105);
    assert!(parents.is_empty(), "nothing is kept");
}

#[test]
fn a_header_that_a_proxy_passes_on_does_not_flatten_the_trace() {
    let mut parents = Parents::default();
    let [request, call, answer] = chain(&mut parents, Some(wire(5)), Some(wire(5)));
    let answer = settle(&mut parents, answer, 105, 130);
    let call = settle(&mut parents, call, 110, 131);
    let request = settle(&mut parents, request, 100, 140);
    assert_eq!(request.parent.map(|p| (p.evidence, p.remote)), Some((Evidence::Wire, true)));
    assert_eq!(request.trace_id, TraceId::from_bytes([9; 16]));
    assert_eq!(answer.parent.map(|p| p.span_id), Some(call.span_id));
    assert_eq!(answer.trace_id, request.trace_id);
    assert_eq!(answer.trace_state, "a=1");
    assert!(!call.left_to_sdk);
}

#[test]
fn a_header_made_by_the_caller_shows_its_sdk() {
    let mut parents = Parents::default();
    let [request, call, answer] = chain(&mut parents, Some(wire(6)), Some(wire(5)));
    let answer = settle(&mut parents, answer, 105, 130);
    let call = settle(&mut parents, call, 110, 131);
    settle(&mut parents, request, 100, 140);
    assert!(call.left_to_sdk);
    assert_eq!(
        answer.parent,
        Some(Parent { span_id: SpanId::from_bytes([6; 8]), evidence: Evidence::Wire, remote: true })
    );
}

#[test]
fn a_call_after_the_response_does_not_belong_to_the_request() {
    let mut parents = Parents::default();
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    finish(&mut parents, request, 150);
    let call = parents.begin(client(2, APP), &begun(9, 160), Some(&owned(9, (1, 0), evidence::THREAD)));
    assert_eq!(settle(&mut parents, call, 160, 170).parent, None);
}

/// A task of tokio may send a request before it is woken for it. The kernel programs know the owner when the response comes.
#[rstest]
#[case::likely(evidence::WAKE, 2)]
#[case::certain(evidence::WOKEN, 1)]
fn an_owner_that_comes_with_the_response_replaces_a_likely_one(#[case] rung: u32, #[case] expected: u64) {
    let mut parents = Parents::default();
    let requests =
        [1, 2].map(|cookie| parents.begin(server(cookie, APP), &begun(0, 100), Some(&origin(cookie * 1000, 0))));
    let call = parents.begin(client(3, APP), &begun(9, 110), Some(&owned(9, (1, 1000), rung)));
    parents.correct_owner(client(3, APP), 9, &owned(9, (2, 2000), evidence::WAKE).owner);
    let call = settle(&mut parents, call, 110, 120);
    let requests = requests.map(|request| settle(&mut parents, request, 100, 130));
    assert_eq!(call.parent.map(|parent| parent.span_id), Some(requests[expected as usize - 1].span_id));
    assert_eq!(call.trace_id, requests[expected as usize - 1].trace_id);
    assert!(parents.is_empty(), "nothing is kept");
}

#[test]
fn threads_prove_nothing_once_an_event_loop_is_seen() {
    let mut parents = Parents::default();
    let [a, b] = [1, 3].map(|cookie| parents.begin(server(cookie, APP), &begun(0, 100), Some(&origin(0, cookie))));
    let call = parents.begin(client(2, APP), &begun(9, 110), Some(&owned(9, (1, 0), evidence::THREAD)));
    parents.runs_loop(APP);
    assert_eq!(settle(&mut parents, call, 110, 120).parent, None);
    settle(&mut parents, a, 100, 200);
    settle(&mut parents, b, 100, 200);
    assert!(parents.is_empty());
}

#[test]
fn a_carrier_of_virtual_threads_proves_nothing_before_they_are_known() {
    let mut parents = Parents::default();
    let [a, b] = [1, 3].map(|cookie| parents.begin(server(cookie, APP), &begun(0, 100), Some(&origin(0, cookie))));
    let [before, after] = [(2, 110), (4, 130)].map(|(cookie, nanos)| {
        let owned = owned(9, (1, 0), evidence::THREAD);
        parents.begin(client(cookie, APP), &begun(9, nanos), Some(&owned))
    });
    // It seemed to run an event loop. A record of another CPU says so again, late.
    parents.runs_loop(APP);
    parents.runs_virtual_threads(APP, 115);
    parents.runs_loop(APP);
    for nanos in [120, 140] {
        parents.runs_virtual_threads(APP, nanos);
    }
    let [before, after] =
        [(before, 110), (after, 130)].map(|(call, nanos)| settle(&mut parents, call, nanos, nanos + 10));
    assert_eq!(before.parent, None);
    assert_eq!(after.parent.map(|parent| parent.evidence), Some(Evidence::Thread));
    for request in [a, b] {
        settle(&mut parents, request, 100, 200);
    }
    parents.process_ended(APP, 210);
    parents.advance(u64::MAX);
    assert!(parents.ladder.loops.is_empty());
}

#[test]
fn a_call_of_a_thread_that_proves_nothing_falls_to_the_lower_rungs() {
    let mut parents = Parents::default();
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    let call = parents.begin(client(2, APP), &begun(9, 110), Some(&owned(9, (1, 0), evidence::THREAD)));
    parents.runs_loop(APP);
    let settled = settle(&mut parents, call, 110, 120);
    assert_eq!(settled.parent.map(|parent| parent.evidence), Some(Evidence::OnlyCandidate));
    settle(&mut parents, request, 100, 200);
}

#[test]
fn the_only_request_in_flight_is_a_likely_parent() {
    let mut parents = Parents::default();
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    let call = parents.begin(client(2, APP), &begun(9, 110), Some(&origin(9, 1)));
    let settled = settle(&mut parents, call, 110, 120);
    assert_eq!(settled.parent.map(|p| p.evidence), Some(Evidence::OnlyCandidate));
    settle(&mut parents, request, 100, 200);
}

#[test]
fn a_process_with_older_connections_may_have_unseen_requests_for_a_while() {
    let parent_of = |from_start, nanos, call_told_first| {
        let mut parents = Parents::default();
        let first = parents.begin(server(9, PROXY), &begun(0, 100), Some(&origin(0, 0)));
        settle(&mut parents, first, 100, 110);
        let origin_of_it = Origin { from_start, ..origin(0, 1) };
        let request = |parents: &mut Parents| parents.begin(server(1, APP), &begun(0, nanos), Some(&origin_of_it));
        let call = |parents: &mut Parents| parents.begin(client(2, APP), &begun(9, nanos + 10), Some(&origin(9, 2)));
        let (request, call) = if call_told_first {
            let call = call(&mut parents);
            (request(&mut parents), call)
        } else {
            let request = request(&mut parents);
            (request, call(&mut parents))
        };
        let settled = settle(&mut parents, call, nanos + 10, nanos + 20);
        settle(&mut parents, request, nanos, nanos + 100);
        settled.parent.map(|parent| parent.evidence)
    };
    for call_told_first in [false, true] {
        assert_eq!(parent_of(true, 1_000, call_told_first), Some(Evidence::OnlyCandidate));
        assert_eq!(parent_of(false, 1_000, call_told_first), None);
        assert_eq!(parent_of(false, 80 + UNSEEN_REQUESTS, call_told_first), None);
        assert_eq!(parent_of(false, 100 + UNSEEN_REQUESTS, call_told_first), Some(Evidence::OnlyCandidate));
    }
}

#[test]
fn a_process_may_work_for_a_while_on_a_request_whose_client_gave_up() {
    let parent_of = |nanos| {
        let mut parents = Parents::default();
        let [request, given_up] =
            [1, 3].map(|cookie| parents.begin(server(cookie, APP), &begun(0, 100), Some(&origin(0, cookie))));
        give_up(&mut parents, given_up, 110);
        let call = parents.begin(client(2, APP), &begun(9, nanos), Some(&origin(9, 2)));
        let settled = settle(&mut parents, call, nanos, nanos + 10);
        settle(&mut parents, request, 100, nanos + 20);
        settled.parent.map(|parent| parent.evidence)
    };
    assert_eq!(parent_of(500_000_000), None);
    assert_eq!(parent_of(2_000_000_000), Some(Evidence::OnlyCandidate));
}

#[test]
fn of_several_in_flight_the_one_with_the_same_request_id_is_the_parent() {
    let mut parents = Parents::default();
    let requests: Vec<_> = ["x", "y"]
        .into_iter()
        .zip(1u64..)
        .map(|(id, cookie)| {
            let begun = Begun { correlation: Some(id.into()), ..begun(10 * cookie, 100) };
            parents.begin(server(cookie, APP), &begun, Some(&origin(10 * cookie, 0)))
        })
        .collect();
    let call = Begun { correlation: Some("y".into()), ..begun(9, 110) };
    let call = parents.begin(client(7, APP), &call, Some(&origin(9, 99)));
    let call = settle(&mut parents, call, 110, 120);
    let [_, y] = requests[..] else { unreachable!() };
    let y = settle(&mut parents, y, 100, 130);
    assert_eq!(call.parent, Some(Parent { span_id: y.span_id, evidence: Evidence::CorrelationId, remote: false }));
}

#[test]
fn pipelined_requests_are_worked_on_in_order() {
    let mut parents = Parents::default();
    let run = origin(0, 0);
    let first = parents.begin(server(1, APP), &begun(0, 100), Some(&run));
    let second = parents.begin(server(1, APP), &begun(40, 100), Some(&run));
    finish(&mut parents, first, 120);
    let call = parents.begin(client(2, APP), &begun(9, 125), Some(&owned(9, (1, 0), evidence::THREAD)));
    let call = settle(&mut parents, call, 125, 128);
    let second = settle(&mut parents, second, 100, 140);
    assert_eq!(call.parent.map(|p| p.span_id), Some(second.span_id));
    settle(&mut parents, first, 100, 120);
    assert!(parents.is_empty());
}

#[test]
fn a_parent_found_after_the_trace_was_exported_is_a_link() {
    let mut parents = Parents::default();
    let answer = parents.begin(server(3, APP), &begun(50, 105), Some(&origin(50, 0)));
    let below = parents.begin(client(4, APP), &begun(9, 106), Some(&owned(9, (3, 50), evidence::THREAD)));
    let below = settle(&mut parents, below, 106, 110);
    let other_ids = Ids { trace_id: [1, 2], span_id: 3 };
    let call = parents.begin(client(2, PROXY), &begun(50, 104), Some(&Origin { ids: other_ids, ..origin(50, 0) }));
    let answer = settle(&mut parents, answer, 105, 130);
    let call = settle(&mut parents, call, 104, 131);
    assert_eq!(below.trace_id, answer.trace_id);
    assert_ne!(call.trace_id, answer.trace_id);
    assert_eq!(answer.parent, None);
    assert_eq!(answer.link.map(|link| link.span_id()), Some(call.span_id));
    assert!(parents.is_empty());
}

#[test]
fn requests_that_were_read_before_the_first_call_was_recorded_are_joined() {
    let mut parents = Parents::default();
    let others: Vec<_> =
        (0..3).map(|n| parents.begin(server(10 + n, APP), &begun(90, 90 + n), Some(&origin(90 + n, 0)))).collect();
    let answer = parents.begin(server(3, APP), &begun(50, 105), Some(&origin(50, 0)));
    let call = parents.begin(client(2, PROXY), &begun(50, 110), Some(&origin(50, 0)));
    let answer = settle(&mut parents, answer, 105, 130);
    let call = settle(&mut parents, call, 110, 131);
    assert_eq!(answer.parent, Some(Parent { span_id: call.span_id, evidence: Evidence::Host, remote: false }));
    for other in others {
        assert_eq!(settle(&mut parents, other, 90, 140).parent, None);
    }
    assert!(parents.is_empty());
}

#[test]
fn ends_of_a_unix_socket_join_if_they_count_alike() {
    let joined = |opposite| {
        let mut parents = Parents::default();
        let unix = Origin { has_private_positions: true, ..origin(0, 0) };
        let call = parents.begin(client(2, PROXY), &begun(0, 100), Some(&Origin { peer: 3, ..unix }));
        let answer = Origin { peer: 2, opposite, ..unix };
        let answer = parents.begin(server(3, APP), &begun(0, 101), Some(&answer));
        let answer = settle(&mut parents, answer, 101, 110);
        let call = settle(&mut parents, call, 100, 111);
        answer.parent.is_some_and(|parent| parent.span_id == call.span_id)
    };
    assert!(joined(0));
    assert!(!joined(50), "a request was under way when the agent came");
}

/// Both ends of a connection with TLS count alone. Their records say where in the connection a request is.
#[test]
fn ends_that_count_alone_join_by_their_tls_records() {
    let alone = |position: u64, record: Option<[u64; 2]>| {
        let offsets = record.map(|[sequence, opposite]| [sequence - position, opposite]).unwrap_or_default();
        Origin { offsets, counts_alone: true, has_private_positions: record.is_none(), ..origin(position, 0) }
    };
    let mut parents = Parents::default();
    // Where each end's requests are: the client counts from 5, the server from 0, and the records are longer.
    let mut joined = |nanos: u64, [ours, theirs]: [u64; 2], records: [Option<[u64; 2]>; 2]| {
        let call = parents.begin(client(2, PROXY), &begun(ours, nanos), Some(&alone(ours, records[0])));
        let answer = parents.begin(server(3, APP), &begun(theirs, nanos + 1), Some(&alone(theirs, records[1])));
        let answer = settle(&mut parents, answer, nanos + 1, nanos + 10);
        let call = settle(&mut parents, call, nanos, nanos + 11);
        answer.parent.is_some_and(|parent| parent.span_id == call.span_id)
    };
    assert!(!joined(100, [5, 0], [None, None]), "no record was seen");
    assert!(!joined(200, [45, 40], [Some([1_000, 70]), None]), "of one end none was seen");
    assert!(joined(300, [85, 80], [Some([1_100, 170]), Some([1_100, 170])]));
    assert!(joined(400, [125, 120], [None, Some([1_200, 270])]), "it is known how far they count apart");
    assert!(joined(500, [165, 160], [None, None]));
    assert!(!joined(600, [205, 200], [Some([1_400, 470]), Some([1_300, 370])]), "the records differ");
    assert!(joined(700, [245, 280], [Some([1_500, 570]), Some([1_500, 570])]), "one end has missed something");
    assert!(joined(800, [285, 320], [None, None]), "they count apart by another number now");
    assert!(!joined(900, [325, 330], [None, None]), "there is no such request");
    for cookie in [2, 3] {
        parents.connection_ended(cookie);
    }
    assert!(parents.is_empty());
}

#[test]
fn ends_of_unix_sockets_join_only_by_the_kernels_cookies() {
    let unix = Origin { has_private_positions: true, ..origin(0, 0) };
    let mut parents = Parents::default();
    // Its peer is not followed, and other sockets have the same numbers.
    let call = parents.begin(client(2, APP), &begun(0, 100), Some(&unix));
    let request = parents.begin(server(3, APP), &begun(0, 101), Some(&unix));
    assert_eq!(settle(&mut parents, request, 101, 110).parent, None);
    settle(&mut parents, call, 100, 111);
    // The end that reached its tracepoint second knows the other.
    let answer = parents.begin(server(5, APP), &begun(0, 201), Some(&unix));
    let call = parents.begin(client(4, PROXY), &begun(0, 200), Some(&Origin { peer: 5, ..unix }));
    let answer = settle(&mut parents, answer, 201, 210);
    let call = settle(&mut parents, call, 200, 211);
    assert_eq!(answer.parent, Some(Parent { span_id: call.span_id, evidence: Evidence::Host, remote: false }));
    assert!(parents.is_empty());
}

#[test]
fn a_request_of_the_thread_that_was_over_when_the_call_began_is_not_its_parent() {
    let mut parents = Parents::default();
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    // The record of the reset that ended the request comes after that of the later call.
    let call = parents.begin(client(2, APP), &begun(9, 150), Some(&owned(9, (1, 0), evidence::THREAD)));
    finish(&mut parents, request, 120);
    settle(&mut parents, request, 100, 120);
    assert_eq!(settle(&mut parents, call, 150, 170).parent, None);
    assert!(parents.is_empty());
}

#[test]
fn an_older_request_of_the_connection_is_not_taken_for_the_owner() {
    let mut parents = Parents::default();
    // Its response was lost, and later reads wait for it.
    let older = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    let call = parents.begin(client(2, APP), &begun(9, 150), Some(&owned(9, (1, 40), evidence::THREAD)));
    let meant = parents.begin(server(1, APP), &begun(40, 140), Some(&origin(40, 0)));
    let call = settle(&mut parents, call, 150, 160);
    let meant = settle(&mut parents, meant, 140, 170);
    assert_eq!(call.parent.map(|parent| parent.span_id), Some(meant.span_id));
    settle(&mut parents, older, 100, 130);
}

#[test]
fn a_header_that_is_passed_on_proves_the_owner() {
    let mut parents = Parents::default();
    let [a, b]: [NodeId; 2] = [1, 3].map(|cookie| {
        let begun = Begun { context: Some(Box::new(wire(cookie as u8))), ..begun(10 * cookie, 100) };
        parents.begin(server(cookie, PROXY), &begun, Some(&origin(10 * cookie, 0)))
    });
    let passed_on = Begun { context: Some(Box::new(wire(3))), ..begun(9, 110) };
    let call = parents.begin(client(7, PROXY), &passed_on, Some(&origin(9, 99)));
    let call = settle(&mut parents, call, 110, 120);
    let b = settle(&mut parents, b, 100, 130);
    assert_eq!(call.parent, Some(Parent { span_id: b.span_id, evidence: Evidence::Wire, remote: false }));
    assert!(!call.left_to_sdk);
    settle(&mut parents, a, 100, 130);
    assert!(parents.is_empty());
}

#[test]
fn a_header_that_two_requests_share_proves_no_owner() {
    let mut parents = Parents::default();
    let requests = [1, 3].map(|cookie| {
        let begun = Begun { context: Some(Box::new(wire(5))), ..begun(0, 100) };
        parents.begin(server(cookie, PROXY), &begun, Some(&origin(0, cookie)))
    });
    let passed_on = Begun { context: Some(Box::new(wire(5))), ..begun(9, 110) };
    let call = parents.begin(client(7, PROXY), &passed_on, Some(&origin(9, 99)));
    let call = settle(&mut parents, call, 110, 120);
    assert_eq!((call.parent, call.left_to_sdk), (None, false));
    for request in requests {
        settle(&mut parents, request, 100, 130);
    }
}

#[test]
fn a_process_that_calls_itself_is_not_its_own_caller() {
    let mut parents = Parents::default();
    let call = parents.begin(client(1, APP), &begun(50, 110), Some(&origin(50, 0)));
    let answer = parents.begin(server(2, APP), &begun(50, 105), Some(&origin(50, 0)));
    let answer = settle(&mut parents, answer, 105, 120);
    let call = settle(&mut parents, call, 110, 121);
    assert_eq!(call.parent, None);
    assert_eq!(answer.parent, Some(Parent { span_id: call.span_id, evidence: Evidence::Host, remote: false }));
    assert!(parents.is_empty());
}

#[test]
fn the_calls_of_a_lost_request_belong_to_the_request_above_it() {
    let mut parents = Parents::default();
    let [request, call, answer] = chain(&mut parents, None, None);
    let below = parents.begin(client(4, APP), &begun(9, 106), Some(&owned(9, (3, 50), evidence::THREAD)));
    assert_eq!(parents.abandon(server(3, APP), 50), Abandoned { was_parent: false });
    let _ = answer;
    let below = settle(&mut parents, below, 106, 110);
    let call = settle(&mut parents, call, 104, 130);
    let request = settle(&mut parents, request, 100, 140);
    assert_eq!(below.parent, Some(Parent { span_id: call.span_id, evidence: Evidence::Thread, remote: false }));
    assert_eq!([below.trace_id, call.trace_id], [request.trace_id; 2]);
    assert!(parents.is_empty());
}

#[test]
fn the_calls_of_a_lost_request_have_no_parent_if_none_is_above_it() {
    let mut parents = Parents::default();
    parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    let call = parents.begin(client(2, APP), &begun(9, 110), Some(&owned(9, (1, 0), evidence::THREAD)));
    assert_eq!(parents.abandon(server(1, APP), 0), Abandoned { was_parent: false });
    assert_eq!(settle(&mut parents, call, 110, 120).parent, None);
    assert!(parents.is_empty());
}

#[test]
fn a_request_that_is_lost_after_its_calls_were_exported_is_counted() {
    let mut parents = Parents::default();
    parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    let call = parents.begin(client(2, APP), &begun(9, 110), Some(&owned(9, (1, 0), evidence::THREAD)));
    settle(&mut parents, call, 110, 120);
    assert_eq!(parents.abandon(server(1, APP), 0), Abandoned { was_parent: true });
    assert!(parents.is_empty());
}

#[test]
fn a_call_whose_client_gave_up_is_joined_when_the_server_reads_it() {
    let mut parents = Parents::default();
    let call = parents.begin(client(1, PROXY), &begun(50, 100), Some(&origin(50, 0)));
    give_up(&mut parents, call, 200);
    let call = parents.settle(call, 100, 200, false).expect("the node is there");
    // It waited in the server's queue for long.
    parents.advance(2_900_000_000);
    let answer = parents.begin(server(2, APP), &begun(50, 3_000_000_000), Some(&origin(50, 0)));
    let answer = settle(&mut parents, answer, 3_000_000_000, 3_000_000_500);
    assert_eq!(answer.parent, Some(Parent { span_id: call.span_id, evidence: Evidence::Host, remote: false }));
    assert_eq!(answer.trace_id, call.trace_id);
    assert_eq!((answer.start, answer.end), (3_000_000_000, 3_000_000_500), "it took as long as it took");
    parents.advance(u64::MAX);
    assert!(parents.is_empty());
}

#[test]
fn a_server_may_go_on_after_its_client_gave_up() {
    let mut parents = Parents::default();
    let call = parents.begin(client(1, PROXY), &begun(50, 100), Some(&origin(50, 0)));
    let answer = parents.begin(server(2, APP), &begun(50, 110), Some(&origin(50, 0)));
    give_up(&mut parents, call, 200);
    let call = parents.settle(call, 100, 200, false).expect("the node is there");
    let answer = settle(&mut parents, answer, 110, 900);
    assert_eq!(answer.parent.map(|parent| parent.span_id), Some(call.span_id));
    assert_eq!((answer.start, answer.end), (110, 900));
}

#[test]
fn a_parent_that_is_found_late_repeatedly_is_released() {
    let mut parents = Parents::default();
    let call = parents.begin(client(5, PROXY), &begun(50, 110), Some(&origin(50, 0)));
    let answer = parents.begin(server(6, APP), &begun(50, 111), Some(&origin(50, 0)));
    let query = |parents: &mut Parents, position: u64| {
        let begun = begun(position, 112 + position);
        let query = parents.begin(client(7, APP), &begun, Some(&owned(position, (6, 50), evidence::THREAD)));
        settle(parents, query, 112 + position, 115 + position);
    };
    query(&mut parents, 9);
    // The call is exported as a root before its owner is known.
    let request = parents.begin(server(1, PROXY), &begun(0, 100), Some(&origin(0, 7)));
    query(&mut parents, 19);
    query(&mut parents, 29);
    settle(&mut parents, answer, 111, 200);
    let call = settle(&mut parents, call, 110, 201);
    let request = settle(&mut parents, request, 100, 210);
    assert_eq!(call.link.map(|link| link.span_id()), Some(request.span_id));
    assert!(parents.is_empty(), "nothing is kept");
}

#[test]
fn requests_that_were_open_when_a_call_began_count_after_they_are_forgotten() {
    let both = |context: Option<TraceContext>| {
        let mut parents = Parents::default();
        let [a, b] = [1, 3].map(|cookie| {
            let begun = Begun { context: context.clone().map(Box::new), ..begun(0, 100) };
            parents.begin(server(cookie, APP), &begun, Some(&origin(0, cookie)))
        });
        let call = Begun { context: context.clone().map(Box::new), ..begun(9, 110) };
        let call = parents.begin(client(7, APP), &call, Some(&origin(9, 99)));
        settle(&mut parents, b, 100, 120);
        let call = settle(&mut parents, call, 110, 300);
        settle(&mut parents, a, 100, 400);
        (call.parent, call.left_to_sdk)
    };
    assert_eq!(both(None), (None, false));
    assert_eq!(both(Some(wire(5))), (None, false));
}

#[test]
fn a_passed_on_header_is_known_after_its_request_is_forgotten() {
    let mut parents = Parents::default();
    let received = Begun { context: Some(Box::new(wire(3))), ..begun(0, 100) };
    let request = parents.begin(server(1, PROXY), &received, Some(&origin(0, 0)));
    let passed_on = Begun { context: Some(Box::new(wire(3))), ..begun(9, 110) };
    let call = parents.begin(client(7, PROXY), &passed_on, Some(&origin(9, 99)));
    settle(&mut parents, request, 100, 120);
    assert!(!settle(&mut parents, call, 110, 300).left_to_sdk);
}

#[test]
fn later_commands_of_an_event_loops_connection_are_not_owned_by_the_first_ones_request() {
    let parent_of = |rung, follows: u64| {
        let mut parents = Parents::default();
        let [a, b] = [1, 3].map(|cookie| {
            parents.begin(server(cookie, APP), &begun(100 * cookie, 100), Some(&origin(100 * cookie, 0)))
        });
        let origin = owned(9, (1, 100), rung);
        parents.begin(client(7, APP), &begun(9, 110), Some(&origin));
        let second = parents.begin(client(7, APP), &begun(follows, 120), Some(&origin));
        let second = settle(&mut parents, second, 120, 130);
        let a = settle(&mut parents, a, 100, 140);
        settle(&mut parents, b, 100, 140);
        second.parent.map(|parent| parent.span_id) == Some(a.span_id)
    };
    // Within the bytes of the first operation, and behind them.
    assert!(parent_of(evidence::TICK, 20) && !parent_of(evidence::TICK, 49));
    assert!(!parent_of(evidence::CONNECT, 49) && parent_of(evidence::THREAD, 49));
    // Another task's request may be sent together with that of the task that was woken.
    assert!(!parent_of(evidence::WOKEN, 20) && !parent_of(evidence::WAKE, 20));
}

#[test]
fn a_call_during_a_request_whose_body_came_later_belongs_to_it() {
    let mut parents = Parents::default();
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    // After 100 (Continue) the body is a run of its own.
    parents.goes_on(server(1, APP), 0, ids(80).span_id);
    let call = parents.begin(client(2, APP), &begun(9, 120), Some(&owned(9, (1, 80), evidence::THREAD)));
    let call = settle(&mut parents, call, 120, 130);
    let request = settle(&mut parents, request, 100, 140);
    assert_eq!(call.parent, Some(Parent { span_id: request.span_id, evidence: Evidence::Thread, remote: false }));
}

#[test]
fn the_threads_of_an_event_loop_that_has_ended_proved_nothing() {
    let mut parents = Parents::default();
    let [a, b] = [1, 3].map(|cookie| parents.begin(server(cookie, APP), &begun(0, 100), Some(&origin(0, cookie))));
    let call = parents.begin(client(2, APP), &begun(9, 110), Some(&owned(9, (1, 0), evidence::THREAD)));
    parents.runs_loop(APP);
    parents.process_ended(APP, 130);
    parents.advance(140);
    assert_eq!(settle(&mut parents, call, 110, 120).parent, None);
    for request in [a, b] {
        settle(&mut parents, request, 100, 125);
    }
    parents.advance(u64::MAX);
    assert!(parents.ladder.loops.is_empty());
}

#[test]
fn of_concurrent_requests_of_a_run_none_is_the_owner_of_a_call() {
    let concurrent = Place { in_order: false, ..server(1, APP) };
    let owned = owned(9, (1, 0), evidence::THREAD);
    // The second has ended, the first and the third are open.
    let mut parents = Parents::default();
    let requests = [0, 10, 20].map(|position| {
        let run = Origin { position: 0, ..origin(0, 0) };
        parents.begin(concurrent, &begun(position, 100), Some(&run))
    });
    finish(&mut parents, requests[1], 110);
    let call = parents.begin(client(2, APP), &begun(9, 150), Some(&owned));
    assert_eq!(settle(&mut parents, call, 150, 170).parent, None);
}

#[test]
fn a_node_is_never_below_itself() {
    let mut parents = Parents::default();
    let [request, call, answer] = chain(&mut parents, None, None);
    for below in [request, call, answer] {
        assert!(!parents.tree.set_parent(request, below, Evidence::Thread));
    }
    assert_eq!(parents.tree.parent(request), None);
}

#[test]
fn an_exchange_has_only_two_ends() {
    let mut parents = Parents::default();
    let [_, call, answer] = chain(&mut parents, None, None);
    // A second request at the same place of the server's connection.
    let again = parents.begin(server(3, APP), &begun(50, 106), Some(&origin(50, 0)));
    assert_eq!(settle(&mut parents, again, 106, 120).parent, None);
    let call = settle(&mut parents, call, 110, 131);
    let answer = settle(&mut parents, answer, 105, 130);
    assert_eq!(answer.parent.map(|parent| parent.span_id), Some(call.span_id));
}

#[test]
fn requests_are_kept_until_they_are_settled() {
    let mut parents = Parents::default();
    let requests = [1, 2].map(|cookie| parents.begin(server(cookie, APP), &begun(0, 100), Some(&origin(0, 0))));
    assert_eq!((parents.len(), parents.is_empty()), (2, false));
    settle(&mut parents, requests[0], 100, 110);
    assert_eq!(parents.len(), 1);
    settle(&mut parents, requests[1], 100, 110);
    assert_eq!((parents.len(), parents.is_empty()), (0, true));
}

#[test]
fn ids_that_the_kernel_did_not_choose_are_unique() {
    let mut parents = Parents::default();
    let [one, other] = [1, 2].map(|cookie| {
        let id = parents.begin(server(cookie, APP), &begun(0, 100), None);
        settle(&mut parents, id, 100, 110)
    });
    assert_ne!(one.span_id, other.span_id);
    assert_ne!(one.trace_id, other.trace_id);
}

#[test]
fn a_request_that_is_over_does_not_hide_that_several_were_open() {
    let mut parents = Parents::default();
    let [first, second, _third] =
        [1, 2, 3].map(|cookie| parents.begin(server(cookie, APP), &begun(0, 100), Some(&origin(0, 0))));
    settle(&mut parents, first, 100, 110);
    let call = parents.begin(client(9, APP), &begun(0, 120), Some(&origin(7, 0)));
    settle(&mut parents, second, 100, 130);
    assert_eq!(settle(&mut parents, call, 120, 140).parent, None, "the second or the third request's");
}

#[test]
fn a_request_that_was_abandoned_is_no_candidate() {
    let mut parents = Parents::default();
    let [_lost, only] = [1, 2]
        .map(|cookie| parents.begin(server(cookie, APP), &begun(100 * cookie, 100), Some(&origin(100 * cookie, 0))));
    parents.abandon(server(1, APP), 100);
    let call = parents.begin(client(9, APP), &begun(0, 120), Some(&origin(7, 0)));
    let call = settle(&mut parents, call, 120, 140);
    let only = settle(&mut parents, only, 100, 150);
    let parent = Parent { span_id: only.span_id, evidence: Evidence::OnlyCandidate, remote: false };
    assert_eq!(call.parent, Some(parent));
}

#[test]
fn a_call_that_was_sent_long_after_a_read_is_not_what_was_read() {
    let joined = |sent| {
        let mut parents = Parents::default();
        let answer = parents.begin(server(3, APP), &begun(50, 100), Some(&origin(50, 0)));
        let call = parents.begin(client(2, PROXY), &begun(50, sent), Some(&origin(50, 0)));
        settle(&mut parents, call, sent, sent + 10);
        settle(&mut parents, answer, 100, sent + 10).parent.is_some()
    };
    assert!(joined(500_000_000), "the client's write returned late");
    assert!(!joined(1_500_000_000));
}

#[test]
fn a_request_that_is_over_does_not_take_the_place_of_one_with_the_same_numbers() {
    let mut parents = Parents::default();
    // From now on requests wait for their other ends.
    let other = parents.begin(client(1, PROXY), &begun(70, 90), Some(&origin(70, 0)));
    settle(&mut parents, other, 90, 95);
    let over = parents.begin(server(2, APP), &begun(50, 100), Some(&origin(50, 0)));
    settle(&mut parents, over, 100, 110);
    let call = parents.begin(client(3, PROXY), &begun(50, 200), Some(&origin(50, 0)));
    let answer = parents.begin(server(4, APP), &begun(50, 205), Some(&origin(50, 0)));
    let answer = settle(&mut parents, answer, 205, 210);
    let call = settle(&mut parents, call, 200, 215);
    assert_eq!(answer.parent.map(|parent| parent.span_id), Some(call.span_id));
}

#[test]
fn a_call_that_nobody_reads_is_forgotten_in_the_end() {
    let mut parents = Parents::default();
    let call = parents.begin(client(1, PROXY), &begun(50, 100), Some(&origin(50, 0)));
    give_up(&mut parents, call, 200);
    parents.settle(call, 100, 200, false).expect("the node is there");
    parents.advance(10_000_000_199);
    assert_eq!(parents.len(), 1);
    parents.advance(10_000_000_200);
    assert_eq!(parents.len(), 0);
}

#[test]
fn a_call_belongs_to_its_request_although_a_newer_one_has_come() {
    let mut parents = Parents::default();
    let first = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 0)));
    parents.begin(server(1, APP), &begun(40, 120), Some(&origin(40, 0)));
    let call = parents.begin(client(2, APP), &begun(9, 130), Some(&owned(9, (1, 0), evidence::THREAD)));
    let call = settle(&mut parents, call, 130, 140);
    let first = settle(&mut parents, first, 100, 150);
    assert_eq!(call.parent.map(|parent| parent.span_id), Some(first.span_id));
}

/// A proxy has two requests in flight, and sends a call that looks like the second.
#[rstest]
#[case::only_one(true, [5, 6], Some(Evidence::Forwarded))]
#[case::two(true, [6, 6], None)]
#[case::another(true, [5, 7], None)]
#[case::no_proxy(false, [5, 6], None)]
fn a_proxy_forwards_the_only_request_that_looks_like_the_call(
    #[case] is_proxy: bool,
    #[case] requests: [u64; 2],
    #[case] evidence: Option<Evidence>,
) {
    let mut parents = Parents::default();
    parents.runs_loop(PROXY);
    if is_proxy {
        parents.is_proxy(PROXY);
    }
    let looks = |like: u64, at| Begun { passed_on: std::num::NonZeroU64::new(like), ..at };
    let requests = requests.into_iter().zip(1_u64..).map(|(like, cookie)| {
        parents.begin(server(cookie, PROXY), &looks(like, begun(10 * cookie, 100)), Some(&origin(10 * cookie, 0)))
    });
    let requests: Vec<_> = requests.collect();
    let call = parents.begin(client(7, PROXY), &looks(6, begun(9, 110)), Some(&origin(9, 99)));
    let call = settle(&mut parents, call, 110, 120);
    assert_eq!(call.parent.as_ref().map(|parent| parent.evidence), evidence);
    let second = settle(&mut parents, requests[1], 100, 130);
    assert!(call.parent.is_none_or(|parent| parent.span_id == second.span_id));
}

#[test]
fn nothing_is_remembered_of_connections_that_are_over() {
    let mut parents = Parents::default();
    let nodes = chain(&mut parents, None, None);
    let unanswered = parents.begin(client(5, PROXY), &begun(700, 120), Some(&origin(700, 0)));
    for node in nodes {
        settle(&mut parents, node, 100, 140);
    }
    settle(&mut parents, unanswered, 120, 140);
    assert!(!parents.joins.is_empty(), "the ends of the connection in between are known");
    for cookie in [1, 2, 5] {
        parents.connection_ended(cookie);
    }
    assert!(parents.joins.is_empty());
}

#[test]
fn a_call_whose_trace_was_exported_keeps_a_parent_that_is_lost_later() {
    let mut parents = Parents::default();
    let [_request, call, answer] = chain(&mut parents, None, None);
    let answer = settle(&mut parents, answer, 105, 130);
    assert_eq!(parents.abandon(server(1, PROXY), 0), Abandoned { was_parent: true });
    let call = settle(&mut parents, call, 110, 131);
    assert!(call.parent.is_some(), "a trace has one root");
    assert_eq!(call.trace_id, answer.trace_id);
    assert!(parents.is_empty());
}

#[test]
fn another_program_does_not_go_on_with_what_was_given_up() {
    let mut parents = Parents::default();
    let request = parents.begin(server(1, APP), &begun(0, 100), Some(&origin(0, 1)));
    give_up(&mut parents, request, 110);
    parents.settle(request, 100, 110, true).expect("it is there");
    parents.process_ended(APP, 120);
    let request = parents.begin(server(3, APP), &begun(0, 200), Some(&origin(0, 3)));
    let call = parents.begin(client(2, APP), &begun(9, 210), Some(&origin(9, 2)));
    let call = settle(&mut parents, call, 210, 220);
    assert_eq!(call.parent.map(|parent| parent.evidence), Some(Evidence::OnlyCandidate));
    settle(&mut parents, request, 200, 230);
}

#[test]
fn only_calls_wait_for_another_end_that_may_still_be_seen() {
    let mut parents = Parents::default();
    let kept = |parents: &mut Parents, id| {
        give_up(parents, id, 200);
        parents.settle(id, 100, 200, false).expect("it is there");
        parents.len()
    };
    let request = parents.begin(server(1, APP), &begun(50, 100), Some(&origin(50, 0)));
    assert_eq!(kept(&mut parents, request), 0);
    let private = Origin { has_private_positions: true, ..origin(60, 0) };
    let call = parents.begin(client(2, APP), &begun(60, 100), Some(&private));
    assert_eq!(kept(&mut parents, call), 0, "nothing identifies its other end");
    let call = parents.begin(client(3, APP), &begun(70, 100), Some(&origin(70, 0)));
    assert_eq!(kept(&mut parents, call), 1);
}

#[rstest]
#[case(evidence::THREAD, Evidence::Thread)]
#[case(evidence::CONNECT, Evidence::Connect)]
#[case(evidence::TICK, Evidence::Tick)]
#[case(evidence::FORK, Evidence::Fork)]
#[case(evidence::GOROUTINE, Evidence::Goroutine)]
#[case(evidence::VIRTUAL_THREAD, Evidence::VirtualThread)]
#[case(evidence::TASK, Evidence::Task)]
#[case(evidence::WOKEN, Evidence::Task)]
#[case(evidence::WAKE, Evidence::Wake)]
#[case(evidence::ASYNC_ID, Evidence::AsyncId)]
fn the_evidence_of_the_kernel_programs_is_a_rung(#[case] kernel: u32, #[case] expected: Evidence) {
    let mut parents = Parents::default();
    // Another request is open, so that no lower rung holds.
    let requests = [1, 2]
        .map(|cookie| parents.begin(server(cookie, APP), &begun(100 * cookie, 100), Some(&origin(100 * cookie, 0))));
    let call = parents.begin(client(3, APP), &begun(9, 110), Some(&owned(9, (1, 100), kernel)));
    let call = settle(&mut parents, call, 110, 120);
    let [request, _] = requests.map(|request| settle(&mut parents, request, 100, 130));
    assert_eq!(call.parent, Some(Parent { span_id: request.span_id, evidence: expected, remote: false }));
}

#[test]
fn requests_of_a_connection_end_in_any_order() {
    let mut parents = Parents::default();
    let requests = [0, 80, 40, 120]
        .map(|position| parents.begin(server(1, APP), &begun(position, 100), Some(&origin(position, 0))));
    for request in [requests[1], requests[0], requests[3], requests[2]] {
        settle(&mut parents, request, 100, 120);
    }
    assert!(parents.is_empty());
}
