//! Calls that may be background work, and calls after the response to the request that their unit of work read.

use onlooker_common::unit;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// How long a call is remembered that was made while no request was open.
const REMEMBERED: u64 = 300 * SECOND;
/// The same for a process that has not served.
const START: u64 = 10 * SECOND;

fn unit_of(kind: u32, id: u64) -> Option<Unit> {
    Some(Unit { tgid: APP, kind, id })
}

fn thread(id: u64) -> Option<Unit> {
    unit_of(unit::THREAD, id)
}

/// An application that serves on connection 1. No message has the numbers of another, and the kernel names no owner.
#[derive(Default)]
struct App {
    parents: Parents,
    position: u64,
}

impl App {
    fn begin(&mut self, place: Place, unit: Option<Unit>, nanos: u64) -> NodeId {
        self.position += 1_000;
        let origin = Origin { worker: unit, ..origin(self.position, 1) };
        self.parents.begin(place, &begun(self.position, nanos), Some(&origin))
    }

    fn reads(&mut self, unit: Option<Unit>, nanos: u64) -> NodeId {
        self.begin(server(1, APP), unit, nanos)
    }

    fn calls(&mut self, cookie: u64, unit: Option<Unit>, nanos: u64) -> NodeId {
        self.begin(client(cookie, APP), unit, nanos)
    }

    /// A call that is over at once.
    fn call(&mut self, cookie: u64, unit: Option<Unit>, nanos: u64) -> Settled {
        let call = self.calls(cookie, unit, nanos);
        settle(&mut self.parents, call, nanos, nanos + 1)
    }

    /// A request that is over at once.
    fn serve(&mut self, unit: Option<Unit>, nanos: u64) -> Settled {
        let request = self.reads(unit, nanos);
        settle(&mut self.parents, request, nanos, nanos + 1)
    }

    /// A call at `nanos` on the connection while one request is open. Returns the evidence for its parent.
    fn call_during_request(&mut self, cookie: u64, unit: Option<Unit>, nanos: u64) -> Option<Evidence> {
        let request = self.reads(None, nanos - 1);
        let call = self.call(cookie, unit, nanos);
        settle(&mut self.parents, request, nanos - 1, nanos + 10);
        call.parent.map(|parent| parent.evidence)
    }
}

const GUESSED: Option<Evidence> = Some(Evidence::OnlyCandidate);

#[test]
fn a_process_that_calls_between_requests_has_background_work_for_a_while() {
    let mut app = App::default();
    assert_eq!(app.call_during_request(2, None, SECOND), GUESSED);
    assert_eq!(app.call(3, None, 2 * SECOND).parent, None);
    let until = 2 * SECOND + REMEMBERED;
    assert_eq!(app.call_during_request(2, None, 3 * SECOND), None);
    assert_eq!(app.call_during_request(2, None, until - 1), None);
    assert_eq!(app.call_during_request(2, None, until), GUESSED);
}

#[test]
fn a_call_after_the_end_of_a_request_that_is_not_settled_is_between_requests() {
    let mut app = App::default();
    let request = app.reads(None, SECOND);
    finish(&mut app.parents, request, SECOND + 10);
    assert_eq!(app.call(3, None, 2 * SECOND).parent, None);
    app.parents.settle(request, SECOND, SECOND + 10, true).expect("it is there");
    assert_eq!(app.call_during_request(2, None, 3 * SECOND), None);
}

#[test]
fn calls_of_a_starting_process_are_remembered_for_a_shorter_time() {
    let mut app = App::default();
    app.call(2, None, SECOND);
    assert_eq!(app.call_during_request(2, None, SECOND + START - 1), None);
    let mut app = App::default();
    app.call(2, None, SECOND);
    app.parents.connection_ended(2);
    assert_eq!(app.call_during_request(3, None, SECOND + START), GUESSED);
}

#[test]
fn an_earlier_call_between_requests_does_not_shorten_the_time() {
    let mut app = App::default();
    app.serve(None, 1);
    let late = app.calls(2, None, 20 * SECOND);
    app.call(3, None, 10 * SECOND);
    settle(&mut app.parents, late, 20 * SECOND, 20 * SECOND + 1);
    app.call(3, None, 10 * SECOND);
    assert_eq!(app.call_during_request(4, thread(1), 20 * SECOND + REMEMBERED - 1), None);
}

#[test]
fn a_thread_shows_that_it_is_not_the_one_that_works_in_the_background() {
    let mut app = App::default();
    app.serve(None, 1);
    app.calls(2, None, 2);
    app.call(2, thread(7), SECOND);
    app.parents.connection_ended(2);
    assert_eq!(app.call_during_request(3, thread(8), 2 * SECOND), GUESSED);
    assert_eq!(app.call_during_request(3, thread(7), 3 * SECOND), None, "it called between requests");
    assert_eq!(app.call_during_request(3, unit_of(unit::GOROUTINE, 8), 4 * SECOND), None, "any unit may be new");
}

#[test]
fn a_connection_that_was_used_between_requests_may_be_used_in_the_background() {
    let mut app = App::default();
    app.serve(None, 1);
    app.calls(2, None, 2);
    app.call(2, thread(7), SECOND);
    assert_eq!(app.call_during_request(2, thread(8), 2 * SECOND), None);
    app.parents.connection_ended(2);
    assert_eq!(app.call_during_request(2, thread(8), 3 * SECOND), GUESSED, "another connection has its name");
}

#[test]
fn new_connections_may_be_for_background_work_if_that_opens_some() {
    let open_between_requests = |opens: bool, nanos| {
        let mut app = App::default();
        app.serve(None, 1);
        if !opens {
            app.calls(2, None, 2);
        }
        app.call(2, thread(7), SECOND);
        app.call_during_request(3, thread(8), nanos)
    };
    let until = SECOND + REMEMBERED;
    assert_eq!(open_between_requests(false, until - 1), GUESSED);
    assert_eq!(open_between_requests(true, until - 1), None);
    assert_eq!(open_between_requests(true, until), GUESSED);
}

#[test]
fn a_connection_that_background_work_may_have_opened_names_no_parent() {
    let is_named = |opens: bool| {
        let mut app = App::default();
        app.serve(None, 1);
        if !opens {
            app.calls(2, None, 2);
        }
        app.call(2, thread(7), SECOND);
        let request = app.reads(None, 2 * SECOND);
        let opened = Origin { worker: thread(8), ..owned(9, (1, app.position), evidence::CONNECT) };
        let call = app.parents.begin(client(3, APP), &begun(9, 2 * SECOND + 1), Some(&opened));
        // Two candidates: no lower rung holds.
        let other = app.reads(None, 2 * SECOND);
        let call = settle(&mut app.parents, call, 2 * SECOND + 1, 2 * SECOND + 2);
        for request in [request, other] {
            settle(&mut app.parents, request, 2 * SECOND, 2 * SECOND + 10);
        }
        call.parent.is_some()
    };
    assert!(is_named(false));
    assert!(!is_named(true));
}

/// Whether the tick names the parent of a call by this unit on an open connection.
fn is_named_by_tick(opens: bool, unit: Option<Unit>, nanos: u64) -> bool {
    let mut app = App::default();
    app.serve(None, 1);
    app.calls(3, None, 2);
    if !opens {
        app.calls(2, None, 3);
    }
    app.call(2, None, SECOND);
    let request = app.reads(None, nanos - 1);
    let at = app.position;
    let of_tick = Origin { worker: unit, ..owned(9, (1, at), evidence::TICK) };
    let call = app.parents.begin(client(3, APP), &begun(9, nanos), Some(&of_tick));
    let call = settle(&mut app.parents, call, nanos, nanos + 1);
    settle(&mut app.parents, request, nanos - 1, nanos + 10);
    call.parent.is_some()
}

#[test]
fn a_tick_names_no_parent_if_background_work_uses_open_connections() {
    let until = SECOND + REMEMBERED;
    assert!(is_named_by_tick(true, None, until - 1), "the work in the background opened a connection of its own");
    assert!(!is_named_by_tick(false, None, until - 1));
    assert!(!is_named_by_tick(false, unit_of(unit::GOROUTINE, 7), until - 1));
    assert!(is_named_by_tick(false, thread(7), until - 1), "another thread");
    assert!(is_named_by_tick(false, None, until));
}

#[test]
fn a_call_in_the_trace_that_started_the_process_is_no_background_work() {
    let mut app = App::default();
    let first = app.calls(2, None, SECOND);
    assert!(app.parents.may_continue(APP));
    app.parents.made_by(first, started::started_by(wire(5)));
    let first = settle(&mut app.parents, first, SECOND, SECOND + 1);
    assert_eq!(first.parent.map(|parent| parent.evidence), Some(Evidence::Environment));
    assert_eq!(app.call_during_request(3, None, 2 * SECOND), GUESSED);
}

#[test]
fn a_call_whose_requests_are_recorded_later_is_no_background_work() {
    let mut app = App::default();
    let early = app.calls(2, None, SECOND + 10);
    let requests = [app.reads(None, SECOND), app.reads(None, SECOND)];
    assert_eq!(settle(&mut app.parents, early, SECOND + 10, SECOND + 20).parent, None, "there are two candidates");
    for request in requests {
        settle(&mut app.parents, request, SECOND, SECOND + 30);
    }
    assert_eq!(app.call_during_request(3, None, 2 * SECOND), GUESSED);
}

#[test]
fn a_call_after_a_request_whose_client_gave_up_is_no_background_work() {
    let mut app = App::default();
    let early = app.calls(2, None, SECOND + 100);
    let request = app.reads(None, SECOND);
    give_up(&mut app.parents, request, SECOND + 10);
    settle(&mut app.parents, early, SECOND + 100, SECOND + 120);
    app.parents.settle(request, SECOND, SECOND + 10, true).expect("it is there");
    assert_eq!(app.call_during_request(3, None, 3 * SECOND), GUESSED, "the server may have gone on with the request");
}

#[test]
fn a_call_that_begins_as_a_request_ends_is_no_background_work() {
    let mut app = App::default();
    let request = app.reads(None, SECOND);
    let call = app.calls(2, None, SECOND + 20);
    finish(&mut app.parents, request, SECOND + 10);
    settle(&mut app.parents, call, SECOND + 20, SECOND + 30);
    app.parents.settle(request, SECOND, SECOND + 10, true).expect("it is there");
    assert_eq!(app.call_during_request(3, None, 2 * SECOND), GUESSED, "the request was open, as far as was known");
}

#[test]
fn a_call_after_a_response_links_to_the_request_that_its_unit_read() {
    let mut app = App::default();
    let served = app.serve(thread(7), SECOND);
    let call = app.call(2, thread(7), 2 * SECOND);
    assert_eq!(call.parent, None);
    let link = call.link.expect("the request was exported");
    assert_eq!((link.trace_id(), link.span_id()), (served.trace_id, served.span_id));
    assert_eq!(app.call(2, thread(8), 3 * SECOND).link, None, "another thread");

    // The request has ended, and is not settled yet.
    let request = app.reads(thread(7), 4 * SECOND);
    finish(&mut app.parents, request, 4 * SECOND + 10);
    let call = app.call(2, thread(7), 4 * SECOND + 20);
    let request = app.parents.settle(request, 4 * SECOND, 4 * SECOND + 10, true).expect("it is there");
    assert_eq!(call.link.map(|link| link.span_id()), Some(request.span_id));
    assert!(app.parents.is_empty());
}

#[test]
fn a_call_does_not_link_to_a_request_that_is_open_or_lost() {
    let mut app = App::default();
    let both = [app.reads(thread(7), SECOND), app.reads(thread(7), SECOND)];
    assert_eq!(app.call(2, thread(7), SECOND + 10).link, None, "the request is open");
    for request in both {
        settle(&mut app.parents, request, SECOND, SECOND + 20);
    }
    let request = app.reads(thread(7), 2 * SECOND);
    finish(&mut app.parents, request, 2 * SECOND + 10);
    let call = app.calls(2, thread(7), 2 * SECOND + 20);
    let (place, position) = place(&app.parents, request);
    app.parents.abandon(place, position);
    assert_eq!(settle(&mut app.parents, call, 2 * SECOND + 20, 2 * SECOND + 30).link, None, "it has no span");
    assert!(app.parents.is_empty());
}

#[test]
fn a_call_does_not_link_to_what_another_context_at_the_same_address_read() {
    let mut app = App::default();
    let context = unit_of(unit::PYTHON_CONTEXT, 7);
    app.serve(context, SECOND);
    assert_eq!(app.call(2, context, 2 * SECOND).link, None);
}

#[test]
fn a_process_that_has_ended_is_remembered_until_its_calls_are_settled() {
    let mut app = App::default();
    app.serve(thread(7), SECOND);
    app.call(2, thread(7), 2 * SECOND);
    app.parents.process_ended(APP, 3 * SECOND);
    app.parents.process_ended(APP, 3 * SECOND + 1);
    app.parents.connection_ended(2);
    app.parents.advance(4 * SECOND - 1);
    assert!(!app.parents.background.is_empty());
    app.parents.advance(4 * SECOND);
    assert!(app.parents.background.is_empty());
}

#[test]
fn units_are_forgotten_in_generations_and_counted() {
    const GENERATION: u64 = 8_192;
    let mut app = App::default();
    let serve = |app: &mut App, from: u64| {
        for id in from..from + GENERATION {
            app.serve(thread(id), SECOND);
        }
    };
    serve(&mut app, 0);
    serve(&mut app, GENERATION);
    assert_eq!(app.parents.take_evicted_units(), 0);
    serve(&mut app, 2 * GENERATION);
    assert_eq!(app.parents.take_evicted_units(), GENERATION);
    assert_eq!(app.parents.take_evicted_units(), 0);
    let mut is_known = |id| app.call(2, thread(id), 2 * SECOND).link.is_some();
    assert!(is_known(GENERATION), "the older generation is known");
    assert!(is_known(2 * GENERATION));
    assert!(!is_known(GENERATION - 1));
    app.parents.process_ended(APP, 3 * SECOND);
    app.parents.connection_ended(2);
    app.parents.advance(5 * SECOND);
    assert!(app.parents.background.is_empty());
}

#[test]
fn the_trace_that_a_process_was_started_with_does_not_grow_without_limit() {
    let mut parents = Parents::default();
    assert_eq!((0..20_000).filter(|_| parents.may_continue(APP)).count(), 10_000);
    let mut app = App::default();
    assert!(app.parents.may_continue(APP));
    app.serve(None, SECOND);
    assert!(!app.parents.may_continue(APP), "it serves requests");
}

#[test]
fn units_of_all_processes_are_bounded_and_counted() {
    const UNITS: u64 = 65_536;
    let mut parents = Parents::default();
    let mut serve = |n: u64| {
        let unit = Unit { tgid: (n / 8_192) as u32, kind: unit::THREAD, id: n };
        let origin = Origin { worker: Some(unit), ..origin(n * 1_000, 1) };
        let request = parents.begin(server(1, unit.tgid), &begun(n * 1_000, n), Some(&origin));
        settle(&mut parents, request, n, n);
        parents.take_evicted_units()
    };
    assert_eq!((0..UNITS).map(&mut serve).sum::<u64>(), 0);
    assert_eq!((UNITS..UNITS + 10).map(serve).sum::<u64>(), 10);
}

#[test]
fn a_call_with_a_parent_has_no_link_to_what_its_unit_read_before() {
    let mut app = App::default();
    app.serve(thread(7), SECOND);
    let request = app.reads(thread(9), 2 * SECOND);
    let owned = Origin { worker: thread(7), ..owned(9, (1, app.position), evidence::FORK) };
    let call = app.parents.begin(client(2, APP), &begun(9, 2 * SECOND + 1), Some(&owned));
    let call = settle(&mut app.parents, call, 2 * SECOND + 1, 2 * SECOND + 2);
    assert_eq!((call.parent.is_some(), call.link), (true, None));
    settle(&mut app.parents, request, 2 * SECOND, 3 * SECOND);
}
