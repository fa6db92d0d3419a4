//! Operations of one connection in, reports out.

use onlooker_common::connection::UNIX_PATH_BYTES;
use onlooker_common::kind;
use onlooker_common::segment::TAIL_BYTES;
use onlooker_protocols::facts::Namespace;
use onlooker_protocols::{Direction, End, Exchange, Facts, LossReason, Lost, postgres, tls};

use super::*;
use crate::aged::{MAX_AWAITED, PATIENCE};
use crate::model::errno::ECONNRESET;
use crate::model::span::Role;
use crate::observer::{Place, Report};
use crate::origin::Origin;

const SERVER: u32 = 4711;
/// Where the positions of both ways begin. Sequence numbers begin anywhere.
const REQUESTS: u64 = 1_000;
const RESPONSES: u64 = 50_000;

/// A report, without what no test looks at.
#[derive(Debug)]
enum Reported {
    Begun(Option<Origin>),
    Exchange(Box<Exchange>),
    Lost(Lost),
    CaptureMore(Direction),
    CaptureLess(Option<Direction>),
    Continued(u64, u64),
    Other,
    Forgotten(u64),
}

impl Observer for Vec<Reported> {
    fn observe(&mut self, place: Place, report: Report<'_>) {
        self.push(match report {
            Report::Begun { origin, .. } => Reported::Begun(origin.copied()),
            Report::Continued { start, ids } => Reported::Continued(start.position, ids.span_id),
            Report::Ended { exchange, .. } => Reported::Exchange(exchange),
            Report::Lost(lost) => Reported::Lost(lost),
            Report::CaptureMore(Some(direction)) => Reported::CaptureMore(direction),
            Report::CaptureLess(direction, _) => Reported::CaptureLess(direction),
            Report::CaptureMore(None) | Report::Discarded { .. } | Report::Responded { .. } | Report::Encrypted => {
                Reported::Other
            }
            Report::OwnerCorrected { .. } | Report::FollowFrames | Report::FrameBegins { .. } => Reported::Other,
            Report::Forgotten => Reported::Forgotten(place.cookie),
        });
    }
}

/// The server's end of a connection, operation by operation.
struct ServerEnd {
    connections: Connections,
    counters: Arc<Counters>,
    reported: Vec<Reported>,
    received: u64,
    sent: u64,
    run: u32,
    egress: bool,
    now: u64,
    /// Whether the kernel side saw its beginning.
    from_start: bool,
}

/// One operation, before it is delivered.
struct Operation(Segment, Vec<u8>);

impl ServerEnd {
    fn new() -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            connections: Connections::new(Limits::default(), counters.clone()),
            counters,
            reported: Vec::new(),
            received: REQUESTS,
            sent: RESPONSES,
            run: 0,
            egress: false,
            now: 1_000_000,
            from_start: true,
        }
    }

    fn operation(&mut self, egress: bool, bytes: &[u8], keep: usize) -> Operation {
        let begins = egress != self.egress || self.received == REQUESTS;
        self.run += u32::from(egress != self.egress);
        self.egress = egress;
        self.now += 1_000_000;
        let keep = keep.min(bytes.len());
        let tail_length = if keep < bytes.len() { bytes.len().min(TAIL_BYTES) } else { 0 };
        let mut tail = [0; TAIL_BYTES];
        tail[TAIL_BYTES - tail_length..].copy_from_slice(&bytes[bytes.len() - tail_length..]);
        let (position, opposite) = if egress { (self.sent, self.received) } else { (self.received, self.sent) };
        *(if egress { &mut self.sent } else { &mut self.received }) += bytes.len() as u64;
        let segment = Segment {
            kind: kind::SEGMENT,
            captured: keep as u32,
            time: self.now,
            cookie: 1,
            position,
            opposite,
            length: bytes.len() as u32,
            run: self.run,
            flags: (u32::from(egress) * flag::EGRESS) | (u32::from(begins) * flag::BEGINS) | flag::FROM_START,
            role: role::SERVER,
            tail_length: tail_length as u8,
            tgid: SERVER,
            tail,
            ..Segment::default()
        };
        Operation(segment, bytes[..keep].to_vec())
    }

    fn reads(&mut self, bytes: impl AsRef<[u8]>) -> Operation {
        self.operation(false, bytes.as_ref(), usize::MAX)
    }

    fn writes(&mut self, bytes: impl AsRef<[u8]>) -> Operation {
        self.operation(true, bytes.as_ref(), usize::MAX)
    }

    fn deliver(&mut self, Operation(segment, captured): &Operation) {
        self.connections.segment(segment, captured, &mut self.reported);
    }

    /// The kernel reports a change of the connection. All received bytes but `unread` were read.
    fn changes(&mut self, change: u32, error: i32, unread: u64) {
        let record = ConnectionChange {
            kind: kind::CONNECTION,
            change,
            time: self.now,
            cookie: 1,
            tgid: SERVER,
            error,
            family: 2,
            role: role::SERVER,
            from_start: u8::from(self.from_start),
            local_port: 80,
            remote_port: 50_000,
            local_address: [0; 16],
            remote_address: [0; 16],
            path: [0; UNIX_PATH_BYTES],
            path_length: 0,
            next: [self.received, self.sent],
            arrived: self.received + unread,
        };
        self.connections.change(&record, &mut self.reported);
    }

    /// Lets more time pass than anything waits.
    fn wait(&mut self) {
        self.now += 1_000_000_000;
        self.connections.advance(self.now, &mut self.reported);
    }

    fn exchanges(&self) -> Vec<&Exchange> {
        self.reported
            .iter()
            .filter_map(|reported| match reported {
                Reported::Exchange(exchange) => Some(&**exchange),
                _ => None,
            })
            .collect()
    }

    fn lost(&self) -> Vec<LossReason> {
        self.reported
            .iter()
            .filter_map(|reported| match reported {
                Reported::Lost(lost) => Some(lost.reason),
                _ => None,
            })
            .collect()
    }

    fn is_over(&self) -> bool {
        self.reported.iter().any(|reported| matches!(reported, Reported::Forgotten(1)))
    }

    fn statuses(&self) -> Vec<Option<u16>> {
        self.exchanges()
            .iter()
            .map(|exchange| match &exchange.facts {
                Facts::Http(http) => http.status,
                _ => None,
            })
            .collect()
    }
}

const GET: &[u8] = b"GET /users/7 HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[test]
fn a_connection_that_began_unseen_is_counted() {
    for (from_start, counted) in [(true, 0), (false, 1)] {
        let mut end = ServerEnd { from_start, ..ServerEnd::new() };
        end.changes(change::SEEN, 0, 0);
        assert_eq!(end.counters.connections_begun_unseen.get(), counted);
    }
}

#[test]
fn a_request_and_its_response_are_an_exchange() {
    let mut server = ServerEnd::new();
    let (request, response) = (server.reads(GET), server.writes(OK));
    server.deliver(&request);
    server.deliver(&response);
    let [exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    assert_eq!(exchange.end, End::Complete);
    assert_eq!((exchange.request_start.nanos, exchange.request_start.position), (request.0.time, REQUESTS));
    assert_eq!(exchange.response_end.map(|end| end.nanos), Some(response.0.time));
    let Some(Reported::Begun(Some(origin))) = server.reported.first() else {
        panic!("the request's beginning, with its origin: {:?}", server.reported)
    };
    assert_eq!((origin.position, origin.opposite, origin.tgid), (REQUESTS, RESPONSES, SERVER));
}

#[test]
fn a_response_that_overtook_its_request_waits_for_it() {
    let mut server = ServerEnd::new();
    // After a first exchange, the records of a second request come in the wrong order.
    for operation in [server.reads(GET), server.writes(OK)] {
        server.deliver(&operation);
    }
    let (request, response) = (server.reads(GET), server.writes(OK));
    server.deliver(&response);
    assert_eq!(server.exchanges().len(), 1);
    server.deliver(&request);
    assert_eq!(server.statuses(), [Some(200), Some(200)]);
    assert_eq!(server.counters.bytes_missing.get(), 0);
}

#[test]
fn a_response_that_was_read_before_the_send_of_its_request_returned_follows_the_request() {
    let mut server = ServerEnd::new();
    // A first exchange.
    let known = [server.writes(GET), server.reads(OK)];
    let (mut request, response) = (server.writes(GET), server.reads(OK));
    // Each operation saw the other.
    request.0.opposite = server.received;
    (request.0.time, request.0.run) = (response.0.time + 1_000, response.0.run);
    for mut operation in known.into_iter().chain([response, request]) {
        operation.0.role = role::CLIENT;
        server.deliver(&operation);
    }
    assert_eq!(server.statuses(), [Some(200), Some(200)]);
    assert_eq!(server.counters.responses_without_request.get(), 0);
}

#[test]
fn segments_of_one_way_are_put_in_order() {
    let mut server = ServerEnd::new();
    let (head, tail) = GET.split_at(10);
    let parts = [server.reads(&head[..4]), server.reads(&head[4..]), server.reads(tail)];
    let response = server.writes(OK);
    for index in [0, 2, 1] {
        server.deliver(&parts[index]);
    }
    server.deliver(&response);
    assert_eq!(server.statuses(), [Some(200)]);
}

#[test]
fn a_lost_response_is_counted_and_the_next_belongs_to_its_own_request() {
    let mut server = ServerEnd::new();
    let operations = [
        server.reads(GET),
        server.writes(OK),
        server.reads(GET),
        server.writes(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (index, operation) in operations.iter().enumerate() {
        if index != 1 {
            server.deliver(operation);
        }
    }
    server.wait();
    assert_eq!(server.statuses(), [Some(404)]);
    assert_eq!(server.lost(), [LossReason::ResponseMissing]);
    assert_eq!(server.counters.bytes_missing.get(), OK.len() as u64);
}

#[test]
fn a_segment_that_comes_after_it_was_declared_missing_is_counted() {
    let mut server = ServerEnd::new();
    let operations = [server.reads(GET), server.writes(OK), server.reads(GET)];
    server.deliver(&operations[0]);
    server.deliver(&operations[2]);
    server.wait();
    let missing_before = server.counters.segments_too_late.get();
    let late = &operations[1];
    server.deliver(late);
    // No later segment of its way was delivered, so it is taken. The second time it is too late.
    server.deliver(late);
    assert_eq!(server.counters.segments_too_late.get() - missing_before, 1);
}

#[test]
fn a_body_that_was_not_captured_is_skipped_and_its_end_is_exact() {
    let mut server = ServerEnd::new();
    let request = server.reads(GET);
    let mut body = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
    body.resize(body.len() + 100_000, b'x');
    let (first, second) = body.split_at(60_000);
    let responses = [server.operation(true, first, 1024), server.operation(true, second, 256)];
    let next = [server.reads(GET), server.writes(OK)];
    for operation in [&request, &responses[0], &responses[1], &next[0], &next[1]] {
        server.deliver(operation);
    }
    assert_eq!(server.statuses(), [Some(200), Some(200)]);
    assert_eq!(server.exchanges()[0].response_end.map(|end| end.nanos), Some(responses[1].0.time));
}

#[test]
fn content_shows_the_role_if_the_kernel_does_not() {
    let mut server = ServerEnd::new();
    let mut request = server.reads(GET);
    request.0.role = role::UNKNOWN;
    server.deliver(&request);
    assert_eq!(server.connections.get(1).and_then(Connection::role), Some(Role::Server));
}

#[test]
fn a_connection_without_a_parser_is_left_and_counted() {
    let mut server = ServerEnd::new();
    let hello = server.reads([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]);
    server.deliver(&hello);
    assert_eq!(server.counters.protocol(&tls::SPEC).map(|tls| tls.connections.get()), Some(1));
    let more = server.reads([0x17, 3, 3, 0, 10, 0]);
    server.deliver(&more);
    assert_eq!(server.counters.protocol(&tls::SPEC).map(|tls| tls.connections.get()), Some(1));
    assert!(server.reported.iter().all(|reported| matches!(reported, Reported::Other)), "{:?}", server.reported);
}

#[test]
fn a_request_whose_process_ends_is_told_with_that() {
    let mut server = ServerEnd::new();
    let request = server.reads(GET);
    server.deliver(&request);
    server.connections.process_ended(SERVER, server.now, &mut server.reported);
    server.changes(change::FINISHED, 0, 0);
    server.changes(change::CLOSED, 0, 0);
    server.wait();
    let [exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    assert!(matches!(exchange.end, End::Closed(Close::ProcessExit, _)));
    assert!(server.connections.is_empty());
}

#[test]
fn a_connection_that_its_process_closed_before_it_ended_is_not_ended_by_the_exit() {
    let mut server = ServerEnd::new();
    let request = server.reads(GET);
    server.deliver(&request);
    server.changes(change::FINISHED_BOTH, 0, 0);
    server.connections.process_ended(SERVER, server.now, &mut server.reported);
    server.changes(change::CLOSED, 0, 0);
    server.wait();
    let [exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    assert!(matches!(exchange.end, End::Closed(Close::Normal, _)), "{exchange:?}");
}

#[test]
fn a_request_beyond_the_age_limit_has_its_real_end() {
    let mut server = ServerEnd::new();
    let request = server.reads(GET);
    server.deliver(&request);
    for _ in 0..3 {
        server.now += Limits::default().request_age;
        server.wait();
    }
    assert!(server.exchanges().is_empty(), "{:?}", server.reported);
    let response = server.writes(OK);
    server.deliver(&response);
    assert_eq!(server.statuses(), [Some(200)]);
    assert_eq!(server.exchanges()[0].response_end.map(|end| end.nanos), Some(server.now));
    assert_eq!((server.counters.requests_aged.get(), server.counters.requests_given_up.get()), (1, 0));
}

#[test]
fn a_request_is_given_up_after_a_multiple_of_the_age_limit_and_its_connection_goes_on() {
    let mut server = ServerEnd::new();
    let request = server.reads(GET);
    server.deliver(&request);
    server.now += PATIENCE * Limits::default().request_age;
    server.wait();
    let [exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    assert!(matches!(exchange.end, End::Closed(Close::Aged, _)));
    for operation in [server.writes(OK), server.reads(GET), server.writes(OK)] {
        server.deliver(&operation);
    }
    assert_eq!(server.statuses(), [None, Some(200)]);
    assert_eq!((server.counters.requests_aged.get(), server.counters.requests_given_up.get()), (1, 1));
}

#[test]
fn open_requests_end_when_their_process_is_deselected_and_its_connections_are_followed_anew() {
    let mut server = ServerEnd::new();
    for operation in [server.reads(GET), server.writes(OK), server.reads(GET)] {
        server.deliver(&operation);
    }
    server.connections.process_deselected(SERVER + 1, server.now, &mut server.reported);
    assert_eq!((server.statuses(), server.counters.requests_deselected.get()), (vec![Some(200)], 0));
    server.connections.process_deselected(SERVER, server.now, &mut server.reported);
    let [_, exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    assert!(matches!(exchange.end, End::Closed(Close::Deselected, at) if at.nanos == server.now), "{exchange:?}");
    assert_eq!((server.connections.len(), server.counters.requests_deselected.get()), (0, 1));
    // It is selected again before the response.
    for operation in [server.writes(OK), server.reads(GET), server.writes(OK)] {
        server.deliver(&operation);
    }
    assert_eq!(server.statuses(), [Some(200), None, Some(200)]);
    assert_eq!(server.counters.responses_without_request.get(), 1);
}

#[test]
fn of_too_many_aged_requests_the_oldest_are_given_up() {
    const TOO_MANY: u64 = 3;
    let mut server = ServerEnd::new();
    let all = MAX_AWAITED as u64 + TOO_MANY;
    for cookie in 1..=all {
        let Operation(read, bytes) = server.reads(GET);
        let first = Segment { cookie, position: REQUESTS, flags: read.flags | flag::BEGINS, ..read };
        server.deliver(&Operation(first, bytes));
    }
    server.now += Limits::default().request_age;
    server.wait();
    assert_eq!(server.exchanges().len() as u64, TOO_MANY);
    let begun = server.exchanges().iter().map(|exchange| exchange.request_start.nanos).max();
    assert_eq!(begun, Some(1_000_000 * (TOO_MANY + 1)), "the oldest");
    let counters = &server.counters;
    assert_eq!((counters.requests_aged.get(), counters.requests_given_up.get()), (all, TOO_MANY));
}

#[test]
fn more_connections_than_are_followed_are_counted() {
    let counters = Arc::new(Counters::default());
    let limits = Limits { connections: 1, ..Limits::default() };
    let mut connections = Connections::new(limits, counters.clone());
    let mut server = ServerEnd::new();
    let Operation(segment, captured) = server.reads(GET);
    connections.segment(&segment, &captured, &mut Vec::<Reported>::new());
    connections.segment(&Segment { cookie: 2, ..segment }, &captured, &mut Vec::<Reported>::new());
    assert_eq!((connections.len(), counters.connections_over_limit.get()), (1, 1));
    assert_eq!(counters.requests_lost_over_limit.get(), 1);
}

#[test]
fn the_connection_idle_for_the_longest_makes_room_for_a_new_one() {
    let counters = Arc::new(Counters::default());
    let limits = Limits { connections: 3, ..Limits::default() };
    let mut connections = Connections::new(limits, counters.clone());
    let mut reported = Vec::new();
    let mut server = ServerEnd::new();
    let (request, response) = (server.reads(GET), server.writes(OK));
    for (cookie, time) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
        for Operation(segment, captured) in [&request, &response] {
            connections.segment(&Segment { cookie, time, ..*segment }, captured, &mut reported);
        }
    }
    let over: Vec<_> = reported.iter().filter(|reported| matches!(reported, Reported::Forgotten(_))).collect();
    assert!(matches!(over[..], [Reported::Forgotten(2)]), "{over:?}");
    assert_eq!(
        (connections.len(), counters.connections_evicted.get(), counters.connections_over_limit.get()),
        (3, 1, 0)
    );
}

#[test]
fn a_connection_joined_in_the_middle_of_a_body_is_followed_from_its_next_request() {
    let mut server = ServerEnd::new();
    let mut operations: Vec<_> = (0..40).map(|_| server.operation(true, &[b'x'; 4000], 256)).collect();
    operations.extend([server.reads(GET), server.writes(OK)]);
    for operation in &mut operations {
        operation.0.flags &= !flag::FROM_START;
        server.deliver(operation);
    }
    assert_eq!(server.statuses(), [Some(200)]);
}

/// The kernel does not know that nothing passed before. So it did not see that the server wrote the first bytes.
#[test]
fn a_server_of_http_2_that_speaks_first_shows_where_both_ways_start() {
    let mut server = ServerEnd { egress: true, ..ServerEnd::new() };
    let settings = server.writes(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let get = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84";
    let operations =
        [settings, server.reads([&preface[..], get].concat()), server.writes(b"\0\0\x01\x01\x05\0\0\0\x01\x88")];
    for mut operation in operations {
        operation.0.flags &= !flag::FROM_START;
        server.deliver(&operation);
    }
    assert_eq!(server.statuses(), [Some(200)]);
    let Some(Reported::Begun(Some(origin))) = server.reported.iter().find(|it| matches!(it, Reported::Begun(_))) else {
        panic!("{:?}", server.reported)
    };
    // The client sent the request before it read anything.
    assert_eq!((origin.position, origin.opposite), (REQUESTS + preface.len() as u64, RESPONSES));
}

/// Without frames, the kernel programs take a run for one message. The goroutine that reads a connection is then taken for the
/// handler of a request, and handlers of other requests, which it started, inherit that request.
#[test]
fn a_run_of_http_2_whose_frames_are_not_followed_has_no_owner_and_no_ids() {
    use onlooker_common::owner::{MessageIds, Owner};

    let begin = |followed: u32| {
        let mut server = ServerEnd::new();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let get = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84";
        let Operation(segment, bytes) = server.reads([&preface[..], get].concat());
        let message = MessageIds { trace_id: [1, 2], span_id: 3 };
        let owner = Owner { cookie: 7, position: 9, ..Owner::default() };
        server.deliver(&Operation(Segment { flags: segment.flags | followed, message, owner, ..segment }, bytes));
        let Some(Reported::Begun(Some(origin))) = server.reported.iter().find(|it| matches!(it, Reported::Begun(_)))
        else {
            panic!("{:?}", server.reported)
        };
        (origin.ids.span_id, origin.owner.cookie, origin.opposite)
    };
    assert_eq!((begin(flag::FRAMES), begin(0)), ((3, 7, RESPONSES), (0, 0, RESPONSES)));
}

#[test]
fn requests_behind_a_switch_of_protocol_are_told_or_counted() {
    let mut server = ServerEnd::new();
    let upgrade = b"GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n";
    let request = server.reads([upgrade, GET].concat());
    let response = server.writes(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n");
    for operation in [&request, &response] {
        server.deliver(operation);
    }
    assert_eq!((server.statuses(), server.lost()), (vec![Some(101)], vec![LossReason::Unparsable]));
    assert_eq!(server.connections.get(1).map(Connection::open_requests), Some(0));
}

#[test]
fn bytes_that_arrived_before_the_end_may_be_read_long_after_it() {
    let mut server = ServerEnd::new();
    server.changes(change::SEEN, 0, 0);
    server.changes(change::CLOSED, ECONNRESET, GET.len() as u64);
    server.wait();
    let request = server.reads(GET);
    server.deliver(&request);
    server.wait();
    let [exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    assert!(matches!(exchange.end, End::Closed(Close::Error(ECONNRESET), _)));
    assert!(server.is_over() && server.connections.is_empty());
}

#[test]
fn bytes_that_will_never_be_read_are_not_waited_for() {
    let mut server = ServerEnd::new();
    let request = server.reads(GET);
    server.deliver(&request);
    server.changes(change::CLOSED, ECONNRESET, 10);
    server.wait();
    assert!(!server.is_over());
    server.changes(change::DESTROYED, 0, 10);
    server.wait();
    assert!(server.is_over() && server.exchanges().len() == 1);
}

#[test]
fn a_connection_goes_on_in_another_process_when_the_one_that_opened_it_ends() {
    let mut server = ServerEnd::new();
    let request = server.reads(GET);
    server.deliver(&request);
    server.connections.process_ended(SERVER, server.now, &mut server.reported);
    server.wait();
    let mut response = server.writes(OK);
    response.0.tgid = SERVER + 1;
    server.deliver(&response);
    let [exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    assert_eq!(exchange.end, End::Complete);
    server.changes(change::CLOSED, 0, 0);
    server.wait();
    assert!(server.is_over());
}

#[test]
fn a_unix_connection_ends_with_the_peers_fin() {
    let mut server = ServerEnd::new();
    let mut fin = server.operation(false, &[], 0);
    fin.0.flags |= flag::FIN;
    let mut operations = [server.reads(GET), server.writes(OK), fin];
    (operations[2].0.position, operations[2].0.opposite) = (server.received, server.sent);
    for operation in &mut operations {
        operation.0.flags |= flag::UNIX;
        server.deliver(operation);
    }
    server.wait();
    assert!(server.is_over() && server.connections.is_empty());
    assert_eq!(server.statuses(), [Some(200)]);
}

#[test]
fn a_unix_connection_that_was_open_before_does_not_count_as_new() {
    let mut server = ServerEnd::new();
    // The kernel says so, but a query is no message with which a connection to PostgreSQL begins.
    let mut query = server.reads(b"Q\0\0\0\x0dSELECT 1\0");
    query.0.flags |= flag::UNIX;
    server.deliver(&query);
    assert_eq!(server.connections.get(1).and_then(Connection::protocol), Some(&postgres::SPEC));
}

#[test]
fn a_request_line_corrects_the_kernels_guess_of_the_role() {
    let mut server = ServerEnd::new();
    let (mut request, mut response) = (server.reads(GET), server.writes(OK));
    for operation in [&mut request, &mut response] {
        operation.0.role = role::CLIENT;
        server.deliver(operation);
    }
    assert_eq!(server.statuses(), [Some(200)]);
    assert_eq!(server.connections.get(1).and_then(Connection::role), Some(Role::Server));
}

#[test]
fn a_head_longer_than_the_capture_asks_for_more() {
    let mut server = ServerEnd::new();
    let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'y'; 2000], b"\r\ncontent-length: 2\r\n\r\nhi"].concat();
    for operation in [server.reads(GET), server.operation(true, &long, 1024)] {
        server.deliver(&operation);
    }
    let cut: Vec<_> = server
        .reported
        .iter()
        .filter(|reported| matches!(reported, Reported::CaptureMore(Direction::ToClient)))
        .collect();
    assert_eq!(cut.len(), 1);
    // If a record was lost, more capture would not have helped.
    let lost = server.reads(GET);
    drop(lost);
    let response = server.writes(OK);
    server.deliver(&response);
    server.wait();
    assert!(!server.reported.iter().any(|reported| matches!(reported, Reported::CaptureMore(Direction::ToServer))));
}

/// The directions in which captures were to be limited, after a response of 100,000 bytes to each run of `requests`.
fn limited_by_long_responses(requests: &[u8], runs: usize) -> Vec<Option<Direction>> {
    let mut server = ServerEnd::new();
    for _ in 0..runs {
        let request = server.reads(requests);
        server.deliver(&request);
        let head = server.writes("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
        server.deliver(&head);
        for _ in 0..10 {
            let body = server.writes([b'x'; 10_000]);
            server.deliver(&body);
        }
    }
    let limited = |reported: &Reported| match reported {
        Reported::CaptureLess(direction) => Some(*direction),
        _ => None,
    };
    server.reported.iter().filter_map(limited).collect()
}

#[test]
fn a_long_message_limits_the_capture_of_its_direction_once() {
    assert_eq!(limited_by_long_responses(GET, 3), [Some(Direction::ToClient)]);
}

#[test]
fn a_pipelined_connection_is_captured_whole_whatever_is_long() {
    assert_eq!(limited_by_long_responses(&GET.repeat(2), 3), []);
}

#[test]
fn short_messages_limit_nothing_however_many_they_are() {
    let mut server = ServerEnd::new();
    for _ in 0..10_000 {
        for operation in [server.reads(GET), server.writes(OK)] {
            server.deliver(&operation);
        }
    }
    assert!(!server.reported.iter().any(|reported| matches!(reported, Reported::CaptureLess(_))));
}

#[test]
fn a_connection_seen_again_in_its_middle_did_not_begin_there() {
    let mut server = ServerEnd::new();
    // Its first runs were forgotten.
    let _ = [server.reads(b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"), server.writes(b"+OK\r\n")];
    for operation in [server.reads(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), server.writes(b"$1\r\nv\r\n")] {
        server.deliver(&operation);
    }
    let [exchange] = server.exchanges()[..] else { panic!("{:?}", server.reported) };
    let Facts::Database(facts) = &exchange.facts else { panic!("{exchange:?}") };
    assert_eq!(facts.namespace, Namespace::default(), "the SELECT was never seen");
}

#[test]
fn a_short_connection_of_an_unknown_protocol_is_counted() {
    let mut server = ServerEnd::new();
    for operation in [server.reads(b"\x17\x00\x00\x00what is it"), server.writes(b"\x01\x02\x03")] {
        server.deliver(&operation);
    }
    assert_eq!(server.counters.connections_unknown.get(), 0);
    server.changes(change::CLOSED, 0, 0);
    server.wait();
    assert!(server.is_over());
    assert_eq!(server.counters.connections_unknown.get(), 1);
}

#[test]
fn a_body_after_100_continue_continues_its_request() {
    const POST: &[u8] = b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    let mut server = ServerEnd::new();
    for operation in [server.reads(POST), server.writes(b"HTTP/1.1 100 Continue\r\n\r\n")] {
        server.deliver(&operation);
    }
    let mut body = server.reads(b"body");
    body.0.message.span_id = 7;
    server.deliver(&body);
    assert!(
        server.reported.iter().any(|reported| matches!(reported, Reported::Continued(REQUESTS, 7))),
        "{:?}",
        server.reported
    );
    let (response, request) = (server.writes(OK), server.reads(GET));
    server.deliver(&response);
    server.deliver(&request);
    assert_eq!(server.reported.iter().filter(|reported| matches!(reported, Reported::Continued(..))).count(), 1);
}

/// The operation of each exchange with a database.
fn operations(server: &ServerEnd) -> Vec<String> {
    let mut operations = Vec::new();
    for exchange in server.exchanges() {
        if let Facts::Database(database) = &exchange.facts {
            operations.push(database.operation.to_string());
        }
    }
    operations
}

/// Plays lines of a client (`>`) and a server (`<`).
fn dialogue(lines: &[&str]) -> ServerEnd {
    let mut server = ServerEnd::new();
    for line in lines {
        let bytes = format!("{}\r\n", &line[1..]);
        let operation = if line.starts_with('>') { server.reads(bytes) } else { server.writes(bytes) };
        server.deliver(&operation);
    }
    server.changes(change::CLOSED, 0, 0);
    server.wait();
    server
}

#[test]
fn inline_commands_of_redis_are_recognised_with_their_replies() {
    let server = dialogue(&[">AUTH secret", "<+OK", ">PUBLISH news hello", "<:1"]);
    assert_eq!(operations(&server), ["AUTH", "PUBLISH"]);
    // Other protocols have such lines. The reply decides.
    let server = dialogue(&[">auth secret", "<+OK", ">get a", "<$1\r\nx"]);
    assert_eq!(operations(&server), ["AUTH", "GET"]);
    let server = dialogue(&[">set a 5", "<+OK"]);
    assert_eq!(operations(&server), ["SET"]);
    let server = dialogue(&[">time", "<*2\r\n$1\r\n1\r\n$1\r\n2"]);
    assert_eq!(operations(&server), ["TIME"]);
}

#[test]
fn lines_that_redis_shares_with_other_protocols_are_not_taken_for_redis() {
    for lines in [
        &["<+OK ready", ">USER bob", "<+OK", ">PASS x", "<+OK", ">STAT", "<+OK 0 0", ">QUIT", "<+OK"][..],
        &[
            "<INFO {\"server_id\":\"a\"}",
            ">CONNECT {}\r\nPING",
            "<+OK\r\nPONG",
            ">PUB a 1\r\nx",
            "<+OK",
            ">PING",
            "<PONG",
        ],
        &["<220 mail ESMTP", ">EHLO a", "<250 mail", ">AUTH PLAIN AGI=", "<235 ok", ">QUIT", "<221 bye"],
        &[">watch tube", "<WATCHING 2", ">reserve", "<RESERVED 1 1\r\nx", ">delete 1", "<DELETED"],
    ] {
        let server = dialogue(lines);
        assert_eq!(operations(&server), [""; 0], "{lines:?}");
        assert_eq!(server.counters.connections_unknown.get(), 1, "{lines:?}");
        assert_eq!(server.counters.responses_without_request.get(), 0, "{lines:?}");
    }
}

const PROXY_LINE: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n";
const PROXY_BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xcb\x00\x71\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb\x01\0\x02h2";
const PROXY_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const STARTUP: &[u8] = b"\0\0\0\x16\0\x03\0\0user\0postgres\0\0";

/// The exchanges of a server that reads these pieces, and then answers.
fn exchanges_behind(pieces: &[&[u8]], answer: &[u8]) -> usize {
    let mut server = ServerEnd::new();
    for piece in pieces {
        let operation = server.reads(piece);
        server.deliver(&operation);
    }
    let operation = server.writes(answer);
    server.deliver(&operation);
    server.changes(change::CLOSED, 0, 0);
    server.wait();
    assert_eq!(server.counters.responses_without_request.get(), 0);
    assert_eq!(server.counters.connections_unknown.get(), 0);
    server.exchanges().len()
}

#[test]
fn requests_of_every_protocol_behind_a_proxy_header_are_followed() {
    let refusal = b"E\0\0\0\x16SFATAL\0C28P01\0Mx\0\0";
    let asked: [(&[u8], &[u8]); 5] = [
        (GET, OK),
        (STARTUP, refusal),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"PING\r\n", b"+PONG\r\n"),
        (b"get a\r\n", b"END\r\n"),
    ];
    for header in [PROXY_LINE, PROXY_BINARY, PROXY_LOCAL] {
        for (request, answer) in asked {
            let whole = [header, request].concat();
            assert_eq!(exchanges_behind(&[&whole], answer), 1, "{header:?} {request:?}");
            assert_eq!(exchanges_behind(&[header, request], answer), 1, "{header:?} {request:?}");
            for cut in 1..whole.len() {
                let (first, second) = whole.split_at(cut);
                // A parser of the beginning of a request is no matter of the header.
                if cut <= header.len() {
                    assert_eq!(exchanges_behind(&[first, second], answer), 1, "{cut} of {header:?} {request:?}");
                }
            }
            let single: Vec<&[u8]> = header.chunks(1).chain([request]).collect();
            assert_eq!(exchanges_behind(&single, answer), 1, "{header:?} {request:?}");
        }
    }
}

#[test]
fn a_header_of_which_the_rest_is_not_captured_is_stepped_over() {
    let long = [&PROXY_BINARY[..14], &[2, 0], &PROXY_BINARY[16..28], &[0; 500]].concat();
    let mut server = ServerEnd::new();
    let operation = server.operation(false, &long, 100);
    server.deliver(&operation);
    for operation in [server.reads(GET), server.writes(OK)] {
        server.deliver(&operation);
    }
    assert_eq!(server.statuses(), [Some(200)]);
}

#[test]
fn what_begins_like_a_proxy_header_and_is_none_is_followed() {
    let request: &[u8] = b"PROXY /a HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(exchanges_behind(&[&request[..3], &request[3..]], OK), 1);
    let request: &[u8] = b"\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(exchanges_behind(&[&request[..1], &request[1..]], OK), 1);
}
