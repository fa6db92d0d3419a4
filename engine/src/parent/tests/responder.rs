//! Calls whose owner is found by who wrote the response.

use onlooker_common::unit;
use rstest::rstest;

use super::*;

const SETTLE: u64 = 50_000_000;

fn unit_of(kind: u32, id: u64) -> Unit {
    Unit { tgid: APP, kind, id }
}

fn goroutine(id: u64) -> Unit {
    unit_of(unit::GOROUTINE, id)
}

fn context(id: u64) -> Unit {
    unit_of(unit::PYTHON_CONTEXT, id)
}

/// An application whose requests and calls each have a connection of their own.
#[derive(Default)]
struct App {
    parents: Parents,
    connections: u64,
}

impl App {
    fn begin(&mut self, role: Role, unit: Option<Unit>, nanos: u64) -> NodeId {
        self.connections += 1;
        let place = Place { cookie: self.connections, tgid: APP, role, in_order: true };
        // Numbers that no other connection has.
        let position = self.connections * 1_000;
        self.parents.begin(place, &begun(position, nanos), Some(&Origin { unit, ..origin(position, 0) }))
    }

    /// An application whose units have responded to the requests that they made calls for.
    fn trusted(unit: fn(u64) -> Unit) -> Self {
        let mut app = Self::default();
        for n in 1..10 {
            let request = app.reads(n);
            let call = app.calls(unit(n), n);
            app.answers(request, unit(n), n);
            app.settled(call);
            app.settled(request);
        }
        app
    }

    /// The event loop reads a request.
    fn reads(&mut self, nanos: u64) -> NodeId {
        self.begin(Role::Server, None, nanos)
    }

    fn calls(&mut self, unit: Unit, nanos: u64) -> NodeId {
        self.begin(Role::Client, Some(unit), nanos)
    }

    fn responds(&mut self, request: NodeId, unit: Unit, nanos: u64) {
        let (place, position) = place(&self.parents, request);
        self.parents.responds(place, position, unit, nanos);
    }

    fn ends(&mut self, node: NodeId, nanos: u64) {
        finish(&mut self.parents, node, nanos);
    }

    /// Responds, and ends the request with that.
    fn answers(&mut self, request: NodeId, unit: Unit, nanos: u64) {
        self.responds(request, unit, nanos);
        self.ends(request, nanos);
    }

    fn waits(&self, node: NodeId, by: u64) -> bool {
        self.parents.is_undecided(node, by)
    }

    fn settled(&mut self, node: NodeId) -> Settled {
        self.parents.settle(node, 0, 0, true).expect("it is there")
    }

    /// Whether a call at `nanos` is given to the request that its context responds to.
    fn trusts_addresses(&mut self, nanos: u64) -> bool {
        let request = self.reads(nanos);
        let call = self.calls(context(1), nanos + 10);
        self.answers(request, context(1), nanos + 20);
        self.is_child(call, request)
    }

    fn is_child(&mut self, call: NodeId, request: NodeId) -> bool {
        let request = self.parents.tree.get(request).map(|request| request.span_id);
        let parent = self.settled(call).parent;
        parent.is_some_and(|parent| Some(parent.span_id) == request && parent.evidence == Evidence::Responder)
    }
}

#[rstest]
#[case::goroutines(goroutine)]
#[case::contexts(context)]
fn a_call_belongs_to_the_request_that_its_unit_responds_to(#[case] unit: fn(u64) -> Unit) {
    let mut app = App::trusted(unit);
    let requests = [app.reads(100), app.reads(101)];
    let calls = [app.calls(unit(1), 110), app.calls(unit(2), 111)];
    for call in calls {
        app.ends(call, 120);
        assert!(app.waits(call, 120 + SETTLE), "nothing has responded");
    }
    app.answers(requests[1], unit(2), 200);
    assert!(!app.waits(calls[1], 200 + SETTLE), "the other request does not matter");
    assert!(app.is_child(calls[1], requests[1]));
    assert!(app.waits(calls[0], 200 + SETTLE));
    app.answers(requests[0], unit(1), 300);
    assert!(app.waits(calls[0], 300), "the unit may respond to another request at once");
    assert!(!app.waits(calls[0], 300 + SETTLE));
    assert!(app.is_child(calls[0], requests[0]));
    for request in requests {
        app.settled(request);
    }
    assert!(app.parents.is_empty() && app.parents.ladder.responders.is_idle(), "nothing is kept");
}

#[test]
fn a_call_for_several_requests_at_once_has_no_owner() {
    let mut app = App::default();
    let requests = [app.reads(100), app.reads(101)];
    let call = app.calls(goroutine(7), 110);
    for request in requests {
        app.answers(request, goroutine(7), 200);
    }
    assert!(!app.waits(call, 200));
    assert_eq!(app.settled(call).parent, None);
    for request in requests {
        app.settled(request);
    }
    assert!(app.parents.is_empty());
}

#[test]
fn a_unit_that_responds_to_nothing_is_awaited_until_all_open_requests_are_over() {
    let mut app = App::default();
    let answered = app.reads(100);
    let aborted = app.reads(101);
    let call = app.calls(goroutine(7), 110);
    let later = app.reads(111);
    app.answers(answered, goroutine(1), 200);
    assert!(app.waits(call, 300));
    give_up(&mut app.parents, aborted, 250);
    assert!(!app.waits(call, 300), "a request that began later cannot own it");
    assert_eq!(app.settled(call).parent, None);
    app.answers(later, goroutine(7), 400);
}

#[test]
fn requests_that_were_open_before_the_first_unit_was_seen_are_awaited() {
    let mut app = App::default();
    let request = app.reads(100);
    let other = app.reads(101);
    let call = app.calls(goroutine(1), 110);
    app.answers(other, goroutine(2), 120);
    assert!(app.waits(call, 200));
    app.answers(request, goroutine(1), 200);
    assert!(app.is_child(call, request));
}

#[rstest]
#[case::goroutine(goroutine, true)]
// Another context may have the address by then.
#[case::context(context, false)]
fn a_call_made_while_the_response_streams_belongs_to_its_request(
    #[case] unit: fn(u64) -> Unit,
    #[case] is_proof: bool,
) {
    let mut app = App::trusted(unit);
    let streaming = app.reads(100);
    app.responds(streaming, unit(1), 105);
    let call = app.calls(unit(1), 110);
    assert!(!app.waits(call, 120), "no other request is open");
    let other = app.reads(109);
    assert!(app.waits(call, 120));
    // It is not awaited any longer.
    assert_eq!(app.is_child(call, streaming), is_proof);
    app.answers(other, unit(2), 130);
    let call = app.calls(unit(1), 140);
    app.ends(streaming, 150);
    assert!(app.is_child(call, streaming));
}

#[rstest]
#[case::as_written([0, 40])]
#[case::recorded_the_other_way_round([40, 0])]
fn pipelined_requests_are_worked_on_in_their_order(#[case] responses: [u64; 2]) {
    let mut parents = Parents::default();
    let requests =
        [0, 40].map(|position| parents.begin(server(1, APP), &begun(position, 100), Some(&origin(position, 0))));
    let made = |at| Origin { unit: Some(goroutine(7)), ..origin(at, 0) };
    let call = parents.begin(client(2, APP), &begun(900, 110), Some(&made(900)));
    for position in responses {
        parents.responds(server(1, APP), position, goroutine(7), 120);
    }
    let call = parents.settle(call, 0, 0, true).expect("it is there");
    let first = parents.tree.get(requests[0]).map(|first| first.span_id);
    assert_eq!(call.parent.map(|parent| parent.span_id), first);
}

#[test]
fn a_response_may_be_recorded_before_the_call() {
    let mut app = App::default();
    let request = app.reads(100);
    app.answers(request, goroutine(1), 200);
    let call = app.calls(goroutine(1), 110);
    assert!(app.is_child(call, request));
    let late = app.calls(goroutine(1), 201);
    assert_eq!(app.settled(late).parent, None, "the request was over");
}

#[rstest]
#[case::goroutines_are_numbered(goroutine, true)]
#[case::contexts_are_addresses(context, false)]
fn where_units_do_not_respond_an_address_proves_nothing(#[case] unit: fn(u64) -> Unit, #[case] is_proof: bool) {
    let mut app = App::trusted(unit);
    let exchange = |app: &mut App, at: u64, responder: u64| {
        let request = app.reads(at);
        let call = app.calls(unit(1), at + 10);
        app.ends(call, at + 15);
        app.answers(request, unit(responder), at + 20);
        let is_child = app.is_child(call, request);
        app.settled(request);
        is_child
    };
    let at = |n: u64| n * 1_000;
    assert!(exchange(&mut app, at(1), 1));
    for n in 2..5 {
        assert!(!exchange(&mut app, at(n), 9), "a context of its own responds");
    }
    assert_eq!(exchange(&mut app, at(5), 1), is_proof);
    // They respond from now on.
    for n in 6..200 {
        exchange(&mut app, at(n), 1);
    }
    assert!(exchange(&mut app, at(200), 1));
}

#[test]
fn requests_that_are_aborted_do_not_make_addresses_doubtful() {
    let mut app = App::trusted(context);
    for n in 1..100 {
        let request = app.reads(n * 1_000);
        let call = app.calls(context(1), n * 1_000 + 10);
        give_up(&mut app.parents, request, n * 1_000 + 20);
        assert_eq!(app.settled(call).parent, None);
        app.settled(request);
    }
    assert!(app.trusts_addresses(500_000));
}

#[test]
fn what_a_call_led_to_waits_with_it_so_that_the_trace_is_one() {
    let mut app = App::default();
    let request = app.reads(100);
    let call = app.calls(goroutine(1), 110);
    let (_, position) = place(&app.parents, call);
    let received = app.parents.begin(server(50, PROXY), &begun(position, 112), Some(&origin(position, 0)));
    app.ends(received, 120);
    app.ends(call, 121);
    assert!(app.waits(received, 130 + SETTLE), "its trace is that of the call's owner");
    app.answers(request, goroutine(1), 200);
    assert!(!app.waits(received, 200 + SETTLE));
    let traces = [received, call, request].map(|node| app.settled(node).trace_id);
    assert_eq!(traces, [traces[0]; 3]);
    assert!(app.parents.is_empty());
}

#[test]
fn a_call_of_a_thread_does_not_wait() {
    let mut app = App::default();
    let request = app.reads(100);
    app.calls(goroutine(1), 105);
    let call = app.begin(Role::Client, None, 110);
    assert!(!app.waits(call, 120));
    app.answers(request, goroutine(1), 130);
    assert_ne!(app.settled(call).parent.map(|parent| parent.evidence), Some(Evidence::Responder));
}

#[test]
fn calls_for_requests_from_before_the_agent_do_not_make_addresses_doubtful() {
    const LATER: u64 = 1_000_000_000;
    let mut app = App::default();
    let before = app.reads(LATER);
    let unseen = Origin { from_start: false, ..origin(77, 0) };
    let unseen_id = app.parents.begin(server(77, APP), &begun(77, LATER), Some(&unseen));
    let call = app.calls(context(99), LATER + 1);
    app.answers(before, context(98), LATER + 2);
    give_up(&mut app.parents, unseen_id, LATER + 2);
    assert_eq!(app.settled(call).parent, None);
    let found = (0..20).filter(|n| {
        let at = 2 * LATER + n * 1_000;
        let request = app.reads(at);
        let call = app.calls(context(1), at);
        app.answers(request, context(1), at);
        app.is_child(call, request)
    });
    assert_eq!(found.count(), 12);
}

#[test]
fn addresses_prove_nothing_before_some_calls_were_judged() {
    let mut app = App::default();
    let found = (1..20).filter(|n| {
        let request = app.reads(n * 1_000);
        let call = app.calls(context(1), n * 1_000 + 10);
        app.answers(request, context(1), n * 1_000 + 20);
        let is_child = app.is_child(call, request);
        app.settled(request);
        is_child
    });
    assert_eq!(found.count(), 11, "the first eight count only");
}

#[test]
fn a_process_that_executed_another_program_begins_anew() {
    let mut app = App::trusted(context);
    app.parents.process_ended(APP, 120);
    let request = app.reads(200);
    let call = app.calls(context(1), 210);
    app.answers(request, context(1), 220);
    assert!(!app.is_child(call, request));
}

#[test]
fn addresses_are_trusted_beyond_the_calls_that_are_counted_at_a_time() {
    let mut app = App::trusted(context);
    // Counts are halved at 512.
    for n in 1..1_200 {
        let request = app.reads(n * 1_000);
        let call = app.calls(context(1), n * 1_000 + 10);
        app.answers(request, context(1), n * 1_000 + 20);
        assert!(app.is_child(call, request), "call {n}");
        app.settled(request);
    }
}

#[test]
fn old_responses_do_not_outweigh_new_ones() {
    let mut app = App::trusted(context);
    for n in 1..2_000 {
        let request = app.reads(n * 1_000);
        let call = app.calls(context(1), n * 1_000 + 10);
        app.answers(request, context(1), n * 1_000 + 20);
        app.settled(call);
        app.settled(request);
    }
    // No more than 8 of 512 may respond to nothing.
    for n in 2_000..2_010 {
        let request = app.reads(n * 1_000);
        let call = app.calls(context(2), n * 1_000 + 10);
        app.answers(request, context(1), n * 1_000 + 20);
        app.settled(call);
        app.settled(request);
    }
    assert!(!app.trusts_addresses(3_000_000));
}

/// A request that is left out asks for the owner of the call above it, before that call is settled.
#[test]
fn an_owner_is_taken_back_if_its_unit_responds_to_another_request() {
    let mut app = App::trusted(context);
    let requests = [app.reads(100), app.reads(101)];
    let call = app.calls(context(1), 110);
    let (_, position) = place(&app.parents, call);
    let received = app.parents.begin(server(50, PROXY), &begun(position, 112), Some(&origin(position, 0)));
    app.ends(received, 120);
    app.ends(call, 121);
    app.answers(requests[0], context(1), 200);
    app.parents.tree.get_mut(received).expect("it is there").is_ignored = true;
    assert_eq!(app.parents.leave_out(received), Some(LeftOut::Itself));
    assert_eq!(app.parents.tree.parent(call), Some((requests[0], Evidence::Responder)));
    app.answers(requests[1], context(1), 201);
    assert_eq!(app.settled(call).parent, None);
}

/// Calls of contexts that respond to nothing, while two requests are open that are aborted. The first of them is open from 0 to
/// 30, the second as `second` says. Returns whether addresses are still trusted.
fn are_trusted_after_aborts(call: u64, second: [u64; 2]) -> bool {
    const LATER: u64 = 10_000_000_000;
    let mut app = App::trusted(context);
    for n in 1..20 {
        let at = n * LATER;
        let first = app.reads(at);
        let call_of = |app: &mut App| app.calls(context(5), at + call);
        let (called, other) = if call < second[0] {
            let called = call_of(&mut app);
            (called, app.reads(at + second[0]))
        } else {
            let other = app.reads(at + second[0]);
            (call_of(&mut app), other)
        };
        give_up(&mut app.parents, first, at + 30);
        give_up(&mut app.parents, other, at + second[1]);
        assert_eq!(app.settled(called).parent, None);
        for request in [first, other] {
            app.settled(request);
        }
    }
    app.trusts_addresses(50 * LATER)
}

#[test]
fn a_call_during_a_request_that_was_aborted_does_not_make_addresses_doubtful() {
    assert!(are_trusted_after_aborts(10, [10, 20]));
    assert!(are_trusted_after_aborts(5, [10, 20]), "the first request was open");
    assert!(are_trusted_after_aborts(25, [30, 40]));
    assert!(are_trusted_after_aborts(35, [30, 40]), "the second request was open");
}

#[test]
fn a_call_with_a_likely_owner_waits_for_a_certain_one() {
    let mut app = App::default();
    app.parents.runs_loop(APP);
    let request = app.reads(100);
    let (place, position) = place(&app.parents, request);
    let by = (place.cookie, position);
    let of_tick = Origin { unit: Some(goroutine(1)), ..owned(900, by, evidence::TICK) };
    let call = app.parents.begin(client(50, APP), &begun(900, 110), Some(&of_tick));
    app.ends(call, 120);
    assert!(app.waits(call, 120 + SETTLE));
    app.answers(request, goroutine(1), 200);
    assert!(!app.waits(call, 200 + SETTLE));
}

#[test]
fn processes_are_forgotten_some_time_after_their_end() {
    const REMEMBERED: u64 = 20_000_000_000;
    let mut app = App::trusted(context);
    app.parents.advance(u64::MAX - 1);
    assert_eq!(app.parents.ladder.responders.known_processes(), 1, "it has not ended");
    app.parents.process_ended(APP, 100);
    app.parents.advance(100 + REMEMBERED);
    assert_eq!(app.parents.ladder.responders.known_processes(), 1);
    // Others begin meanwhile, and stay.
    for tgid in [PROXY, PROXY + 1] {
        let unit = Unit { tgid, ..goroutine(3) };
        let of_unit = Origin { unit: Some(unit), ..origin(900, 0) };
        app.parents.begin(client(u64::from(tgid), tgid), &begun(900, 200), Some(&of_unit));
    }
    assert_eq!(app.parents.ladder.responders.known_processes(), 3);
    app.parents.advance(101 + REMEMBERED);
    assert_eq!(app.parents.ladder.responders.known_processes(), 2);
}

#[test]
fn processes_without_units_are_not_remembered() {
    let mut app = App::default();
    let request = app.reads(100);
    app.begin(Role::Client, None, 110);
    app.ends(request, 120);
    assert_eq!(app.parents.ladder.responders.known_processes(), 0);
}

#[test]
fn a_request_that_was_over_before_the_first_unit_was_seen_is_not_awaited() {
    let mut app = App::default();
    let over = app.reads(100);
    app.ends(over, 105);
    let streaming = app.reads(101);
    let call = app.calls(goroutine(7), 110);
    assert!(app.waits(call, 120));
    app.answers(streaming, goroutine(8), 130);
    assert!(!app.waits(call, 140));
}

#[test]
fn a_request_does_not_wait_for_the_responses_to_others() {
    let mut app = App::default();
    let request = app.reads(100);
    app.calls(goroutine(7), 105);
    let _open = app.reads(110);
    app.answers(request, goroutine(7), 120);
    assert!(!app.waits(request, 130));
}

#[test]
fn calls_while_no_request_is_open_do_not_make_addresses_doubtful() {
    let mut app = App::trusted(context);
    for n in 1..20 {
        let call = app.calls(context(5), n * 1_000);
        assert_eq!(app.settled(call).parent, None);
    }
    assert!(app.trusts_addresses(50_000));
}

#[test]
fn calls_beside_those_of_other_units_are_counted() {
    let mut app = App::trusted(context);
    for n in 1..5 {
        let at = n * 1_000;
        let request = app.reads(at);
        let other = app.calls(goroutine(3), at + 5);
        app.ends(other, at + 6);
        let call = app.calls(context(1), at + 10);
        app.answers(request, context(9), at + 20);
        for node in [other, call, request] {
            app.settled(node);
        }
    }
    assert!(!app.trusts_addresses(50_000), "contexts of their own respond");
}

#[test]
fn a_call_that_was_not_awaited_does_not_make_addresses_doubtful() {
    let mut app = App::trusted(context);
    for n in 1..20 {
        let at = n * 1_000;
        let request = app.reads(at);
        let call = app.calls(context(5), at + 10);
        app.settled(call);
        app.answers(request, context(5), at + 20);
        app.settled(request);
    }
    assert!(app.trusts_addresses(50_000));
}

#[test]
fn calls_for_requests_that_were_never_seen_do_not_make_addresses_doubtful() {
    const LATER: u64 = 1_000_000_000;
    let mut app = App::default();
    let unseen = Origin { from_start: false, ..origin(77, 0) };
    let older = app.parents.begin(server(77, APP), &begun(77, LATER), Some(&unseen));
    let call = app.calls(context(99), LATER + 1);
    app.answers(older, context(98), LATER + 2);
    assert_eq!(app.settled(call).parent, None);
    let found = (0..20).filter(|n| {
        let at = 2 * LATER + n * 1_000;
        let request = app.reads(at);
        let call = app.calls(context(1), at);
        app.answers(request, context(1), at);
        app.is_child(call, request)
    });
    assert_eq!(found.count(), 12);
}

#[rstest]
#[case::in_an_event_loop(true)]
#[case::elsewhere(false)]
fn a_call_of_the_requests_thread_waits_only_in_an_event_loop(#[case] is_loop: bool) {
    let mut app = App::default();
    if is_loop {
        app.parents.runs_loop(APP);
    }
    let request = app.reads(100);
    let (place, position) = place(&app.parents, request);
    let of_thread = Origin { unit: Some(goroutine(1)), ..owned(900, (place.cookie, position), evidence::THREAD) };
    let call = app.parents.begin(client(50, APP), &begun(900, 110), Some(&of_thread));
    assert_eq!(app.waits(call, 120 + SETTLE), is_loop);
}

#[test]
fn a_call_waits_for_the_oldest_request_that_was_open() {
    let mut app = App::default();
    app.calls(goroutine(3), 90);
    let oldest = app.reads(100);
    let newest = app.reads(102);
    let call = app.calls(goroutine(1), 101);
    assert!(app.waits(call, 110));
    app.answers(oldest, goroutine(2), 120);
    assert!(!app.waits(call, 130), "the other began later");
    app.answers(newest, goroutine(2), 140);
}

#[test]
fn of_requests_that_began_at_the_same_time_each_is_awaited() {
    let mut app = App::default();
    app.calls(goroutine(3), 90);
    let requests = [100, 100, 100].map(|nanos| app.reads(nanos));
    let call = app.calls(goroutine(1), 110);
    for request in [requests[1], requests[2]] {
        app.answers(request, goroutine(2), 120);
        assert!(app.waits(call, 130));
    }
    app.answers(requests[0], goroutine(2), 140);
    assert!(!app.waits(call, 150));
}

#[test]
fn a_response_of_several_units_is_forgotten_with_its_request() {
    let mut app = App::default();
    let request = app.reads(100);
    app.responds(request, goroutine(1), 110);
    app.answers(request, goroutine(2), 120);
    app.settled(request);
    assert!(app.parents.is_empty() && app.parents.ladder.responders.is_idle());
}

#[test]
fn a_request_whose_end_is_recorded_late_is_no_second_candidate() {
    let mut app = App::default();
    let over = app.reads(100);
    let open = app.reads(101);
    app.responds(over, goroutine(1), 104);
    let call = app.calls(goroutine(1), 110);
    app.ends(over, 105);
    app.answers(open, goroutine(1), 120);
    assert!(app.is_child(call, open));
}

#[test]
fn what_belongs_to_a_call_does_not_wait_once_the_call_is_settled() {
    let mut app = App::trusted(context);
    app.reads(100);
    let [call, other] = [app.calls(context(1), 110), app.calls(context(2), 111)];
    let (_, position) = place(&app.parents, call);
    let read = app.parents.begin(server(1_000, APP + 1), &begun(position, 120), Some(&origin(position, 0)));
    assert!(app.waits(read, 120 + SETTLE), "the call's owner is not known");
    app.settled(call);
    assert!(!app.waits(read, 120 + SETTLE), "the call has no owner for good");
    assert!(app.waits(other, 120 + SETTLE));
}

#[test]
fn a_unit_that_writes_several_pieces_of_a_response_responds_to_one_request() {
    let mut app = App::trusted(goroutine);
    // Others may be answered before it.
    let place = Place { cookie: 1_000, tgid: APP, role: Role::Server, in_order: false };
    let request = app.parents.begin(place, &begun(5, 100), Some(&origin(5, 0)));
    let call = app.calls(goroutine(1), 110);
    app.responds(request, goroutine(2), 120);
    for nanos in [130, 140] {
        app.responds(request, goroutine(1), nanos);
    }
    app.ends(request, 150);
    assert!(app.is_child(call, request));
}

#[test]
fn calls_while_no_request_is_open_say_nothing_about_a_processs_contexts() {
    let mut app = App::trusted(context);
    let late = 10 * UNSEEN_REQUESTS;
    // It is over, and its span is not made yet.
    let request = app.reads(late);
    app.answers(request, context(1), late + 10);
    for n in 0..100 {
        let call = app.calls(context(2), late + 20 + n);
        app.settled(call);
    }
    app.settled(request);
    assert!(app.trusts_addresses(late + 1_000));
}
