//! Calls that are made for no request, and calls after a response.

use onlooker_common::unit::THREAD;

use super::*;

/// The `n`th thread of a process.
fn thread(n: u64) -> Option<Unit> {
    Some(Unit { tgid: APP, kind: THREAD, id: n })
}

/// What makes a call: a unit of work, and a connection.
#[derive(Clone, Copy)]
struct By {
    unit: Option<Unit>,
    cookie: u64,
}

/// A request that `unit` reads on its connection, from `start`.
fn request(parents: &mut Parents, cookie: u64, position: u64, unit: Option<Unit>, start: u64) -> NodeId {
    let origin = Origin { worker: unit, ..origin(position, cookie) };
    parents.begin(server(cookie, APP), &begun(position, start), Some(&origin))
}

/// A call at `start`, settled.
fn call(parents: &mut Parents, by: By, start: u64) -> Settled {
    call_as(parents, by, start, Owner::default())
}

fn call_as(parents: &mut Parents, by: By, start: u64, owner: Owner) -> Settled {
    let origin = Origin { worker: by.unit, owner, ..origin(start, 77) };
    let call = parents.begin(client(by.cookie, APP), &begun(start, start), Some(&origin));
    settle(parents, call, start, start + 1)
}

/// How a call's parent was found while exactly one request was open, which began at `start`, after `before`.
fn evidence_at(start: u64, before: impl Fn(&mut Parents), by: By, rung: u32) -> Option<Evidence> {
    let mut parents = Parents::default();
    before(&mut parents);
    let open = request(&mut parents, 1, 1_000, thread(1), start);
    let owner = Owner { cookie: 1, position: 1_000, ids: ids(1_000), evidence: rung, ..Owner::default() };
    let settled = call_as(&mut parents, by, start + 10, owner);
    settle(&mut parents, open, start, start + 100);
    settled.parent.map(|parent| parent.evidence)
}

/// The same long after the start of the process.
fn evidence_after(before: impl Fn(&mut Parents), by: By, rung: u32) -> Option<Evidence> {
    evidence_at(20_000_000_000, before, by, rung)
}

const NONE: Option<Unit> = None;

#[test]
fn a_thread_that_called_while_no_request_was_open_has_no_only_candidate() {
    let beat = |cookie| By { unit: thread(9), cookie };
    let beats = |parents: &mut Parents| _ = call(parents, beat(5), 100);
    assert_eq!(evidence_after(|_| {}, beat(5), evidence::NONE), Some(Evidence::OnlyCandidate));
    assert_eq!(evidence_after(beats, beat(5), evidence::NONE), None);
    assert_eq!(evidence_after(beats, beat(6), evidence::NONE), None, "on another connection");
    let other = By { unit: thread(8), cookie: 6 };
    assert_eq!(evidence_after(beats, other, evidence::NONE), Some(Evidence::OnlyCandidate));
    assert_eq!(evidence_after(beats, beat(5), evidence::THREAD), Some(Evidence::Thread), "the kernel proved it");
}

#[test]
fn a_connection_that_carried_a_call_while_no_request_was_open_has_no_likely_parent() {
    let beat = By { unit: NONE, cookie: 5 };
    let beats = |parents: &mut Parents| _ = call(parents, beat, 100);
    for (rung, without) in [(evidence::NONE, Evidence::OnlyCandidate), (evidence::TICK, Evidence::Tick)] {
        assert_eq!(evidence_after(|_| {}, beat, rung), Some(without));
        assert_eq!(evidence_after(beats, beat, rung), None);
        // Nothing is known of another connection after a while.
        assert_eq!(evidence_after(beats, By { cookie: 6, ..beat }, rung), Some(without));
    }
}

#[test]
fn a_call_was_made_while_no_request_was_open_though_one_came_before_it_ended() {
    let by = By { unit: thread(9), cookie: 5 };
    let mut parents = Parents::default();
    let beat = parents.begin(client(5, APP), &begun(100, 100), Some(&Origin { worker: by.unit, ..origin(100, 77) }));
    let open = request(&mut parents, 1, 1_000, thread(1), 110);
    assert_eq!(settle(&mut parents, beat, 100, 120).parent, None);
    assert_eq!(call(&mut parents, by, 130).parent, None);
    settle(&mut parents, open, 110, 140);
}

#[test]
fn an_event_loop_with_background_work_has_no_only_candidate() {
    let by = |cookie| By { unit: NONE, cookie };
    // Both connections were opened while a request was open.
    let works = |parents: &mut Parents| {
        let request = request(parents, 1, 0, NONE, 10);
        call(parents, by(5), 11);
        call(parents, by(6), 12);
        settle(parents, request, 10, 20);
        call(parents, by(5), 100);
    };
    assert_eq!(evidence_after(works, by(6), evidence::NONE), None);
    assert_eq!(evidence_after(works, by(6), evidence::TICK), None);
    assert_eq!(evidence_after(works, By { unit: thread(2), cookie: 6 }, evidence::NONE), Some(Evidence::OnlyCandidate));
    assert_eq!(evidence_at(400_000_000_000, works, by(6), evidence::NONE), Some(Evidence::OnlyCandidate));
}

#[test]
fn a_unit_of_any_kind_that_called_while_no_request_was_open_has_no_only_candidate() {
    for kind in 1..10 {
        let unit = Some(Unit { tgid: APP, kind, id: 3 });
        let beats = |parents: &mut Parents| _ = call(parents, By { unit, cookie: 5 }, 100);
        assert_eq!(evidence_after(beats, By { unit, cookie: 6 }, evidence::NONE), None, "kind {kind}");
    }
}

#[test]
fn new_connections_of_a_process_that_polls_have_no_likely_parent() {
    let poll = |cookie| By { unit: NONE, cookie };
    let served = |parents: &mut Parents| {
        let request = request(parents, 1, 0, NONE, 10);
        settle(parents, request, 10, 20);
    };
    let polls = |parents: &mut Parents| {
        served(parents);
        call(parents, poll(5), 100);
    };
    for rung in [evidence::NONE, evidence::CONNECT, evidence::TICK] {
        assert!(evidence_after(served, poll(6), rung).is_some());
        assert_eq!(evidence_after(polls, poll(6), rung), None);
        // What a process calls as it starts counts for a while.
        let starts = |parents: &mut Parents| _ = call(parents, poll(5), 100);
        assert_eq!(evidence_at(1_000_000_000, starts, poll(6), rung), None);
        assert!(evidence_after(starts, poll(6), rung).is_some());
    }
}

#[test]
fn a_thread_after_its_own_request_has_no_only_candidate() {
    let by = By { unit: thread(2), cookie: 5 };
    let finished = |parents: &mut Parents| {
        let own = request(parents, 3, 0, thread(2), 10);
        settle(parents, own, 10, 20);
    };
    assert_eq!(evidence_after(finished, by, evidence::NONE), None);
    assert_eq!(evidence_after(finished, By { unit: thread(4), ..by }, evidence::NONE), Some(Evidence::OnlyCandidate));
}

#[test]
fn requests_that_are_not_known_make_no_call_background_work() {
    let mut parents = Parents::default();
    // The process has connections from before the agent's start, so it may work on other requests.
    let origin = Origin { from_start: false, ..origin(0, 1) };
    let first = parents.begin(server(1, APP), &begun(0, 100), Some(&origin));
    settle(&mut parents, first, 100, 110);
    let by = By { unit: thread(9), cookie: 5 };
    call(&mut parents, by, 120);
    let at = 100 + UNSEEN_REQUESTS;
    let open = request(&mut parents, 1, at, thread(1), at);
    let settled = call(&mut parents, by, at + 1);
    settle(&mut parents, open, at, at + 10);
    assert_eq!(settled.parent.map(|parent| parent.evidence), Some(Evidence::OnlyCandidate));
}

#[test]
fn a_call_after_the_response_begins_a_trace_and_links_to_the_request() {
    let by = By { unit: thread(1), cookie: 5 };
    for settled_before in [false, true] {
        let mut parents = Parents::default();
        let first = request(&mut parents, 1, 0, thread(1), 10);
        finish(&mut parents, first, 20);
        let settle_first = |parents: &mut Parents| parents.settle(first, 10, 20, true).expect("the node is there");
        let owner = Owner { cookie: 1, position: 0, ids: ids(0), evidence: evidence::THREAD, ..Owner::default() };
        // The kernel gave the call the request's trace.
        let origin =
            Origin { worker: by.unit, owner, ids: Ids { trace_id: ids(0).trace_id, span_id: 5 }, ..origin(30, 77) };
        let before = settled_before.then(|| settle_first(&mut parents));
        let call = parents.begin(client(by.cookie, APP), &begun(30, 30), Some(&origin));
        let request = before.unwrap_or_else(|| settle_first(&mut parents));
        let call = settle(&mut parents, call, 30, 40);
        assert_eq!((call.parent, call.found_late), (None, false));
        assert_ne!(call.trace_id, request.trace_id);
        let link = call.link.expect("it follows from the request");
        assert_eq!((link.trace_id(), link.span_id()), (request.trace_id, request.span_id));
        assert!(parents.is_empty());
    }
}

#[test]
fn the_end_of_a_request_may_become_known_after_the_call_that_follows_it() {
    let mut parents = Parents::default();
    let first = request(&mut parents, 1, 0, thread(1), 10);
    let owner = Owner { cookie: 1, position: 0, ids: ids(0), evidence: evidence::THREAD, ..Owner::default() };
    let origin = Origin { worker: thread(1), owner, ..origin(30, 77) };
    let call = parents.begin(client(5, APP), &begun(30, 30), Some(&origin));
    let first = settle(&mut parents, first, 10, 20);
    let call = settle(&mut parents, call, 30, 40);
    assert_eq!(call.link.map(|link| (link.trace_id(), link.span_id())), Some((first.trace_id, first.span_id)));
    assert!(call.parent.is_none() && call.trace_id != first.trace_id);
    assert!(parents.is_empty());
}

#[test]
fn an_endless_loop_after_the_response_makes_traces_of_one_call() {
    let mut parents = Parents::default();
    let first = request(&mut parents, 1, 0, thread(1), 10);
    let first = settle(&mut parents, first, 10, 20);
    let by = By { unit: thread(1), cookie: 5 };
    let calls: Vec<_> = (100..400).map(|start| call(&mut parents, by, start)).collect();
    let traces: std::collections::HashSet<_> = calls.iter().map(|call| call.trace_id).collect();
    assert_eq!(traces.len(), calls.len());
    assert!(calls.iter().all(|call| call.link.as_ref().map(|link| link.span_id()) == Some(first.span_id)));
    assert!(parents.is_empty());
}

#[test]
fn a_parent_that_was_exported_stays() {
    // The server's end of a call is settled before the process turns out to be an event loop.
    let mut parents = Parents::default();
    let request = request(&mut parents, 1, 0, thread(1), 100);
    let call = parents.begin(client(2, APP), &begun(9, 110), Some(&owned(9, (1, 0), evidence::THREAD)));
    let answer = parents.begin(server(3, PROXY), &begun(9, 111), Some(&origin(9, 0)));
    let answer = settle(&mut parents, answer, 111, 120);
    parents.runs_loop(APP);
    let call = settle(&mut parents, call, 110, 121);
    let request = settle(&mut parents, request, 100, 130);
    assert_eq!(call.parent.map(|parent| parent.span_id), Some(request.span_id));
    assert_eq!([answer.trace_id, call.trace_id], [request.trace_id; 2]);
}

#[test]
fn the_units_of_a_process_are_bounded_and_forgotten_with_it() {
    let mut parents = Parents::default();
    for n in 0..100_000 {
        call(&mut parents, By { unit: Some(Unit { tgid: APP, kind: 2, id: n }), cookie: n }, 100 + n);
        parents.connection_ended(n);
    }
    let forgotten = parents.take_evicted_units();
    assert!((100_000 - 2 * 8_192..100_000).contains(&forgotten), "{forgotten}");
    assert_eq!(parents.take_evicted_units(), 0);
    assert!(!parents.background.is_empty());
    parents.process_ended(APP, 200_000);
    parents.advance(u64::MAX);
    assert!(parents.background.is_empty());
}
