//! Operations of one connection in, reports out.

use onlooker_common::connection::UNIX_PATH_BYTES;
use onlooker_common::kind;
use onlooker_common::segment::TAIL_BYTES;
use onlooker_protocols::facts::Namespace;
use onlooker_protocols::{Direction, End, Exchange, Facts, LossReason, Lost, postgres, tls};

use super::*;
use crate::model::errno::ECONNRESET;
use crate::model::span::Role;
use crate::observer::{Place, Report};
use crate::origin::Origin;

const SERVER: u32 = 4711;
/// Where the two directions begin: sequence numbers begin anywhere.
const ASKED: u64 = 1_000;
const TOLD: u64 = 50_000;

/// What was heard of a connection.
#[derive(Debug)]
enum Heard {
    Begun(Option<Origin>),
    Exchange(Box<Exchange>),
    Lost(Lost),
    CaptureMore(Direction),
    Continued(u64, u64),
    Other,
    Forgotten(u64),
}

impl Observer for Vec<Heard> {
    fn observe(&mut self, place: Place, report: Report<'_>) {
        self.push(match report {
            Report::Begun { origin, .. } => Heard::Begun(origin.copied()),
            Report::Continued { start, ids } => Heard::Continued(start.position, ids.span_id),
            Report::Ended { exchange, .. } => Heard::Exchange(exchange),
            Report::Lost(lost) => Heard::Lost(lost),
            Report::CaptureMore(Some(direction)) => Heard::CaptureMore(direction),
            Report::CaptureMore(None) | Report::Discarded { .. } => Heard::Other,
            Report::Forgotten => Heard::Forgotten(place.cookie),
        });
    }
}

/// A server's connection, told operation by operation.
struct Told {
    connections: Connections,
    counters: Arc<Counters>,
    heard: Vec<Heard>,
    asked: u64,
    told: u64,
    run: u32,
    egress: bool,
    now: u64,
}

/// One operation, before it is handed over.
struct Operation(Segment, Vec<u8>);

impl Told {
    fn new() -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            connections: Connections::new(Limits::default(), counters.clone()),
            counters,
            heard: Vec::new(),
            asked: ASKED,
            told: TOLD,
            run: 0,
            egress: false,
            now: 1_000_000,
        }
    }

    fn operation(&mut self, egress: bool, bytes: &[u8], keep: usize) -> Operation {
        let begins = egress != self.egress || self.asked == ASKED;
        self.run += u32::from(egress != self.egress);
        self.egress = egress;
        self.now += 1_000_000;
        let keep = keep.min(bytes.len());
        let tail_length = if keep < bytes.len() { bytes.len().min(TAIL_BYTES) } else { 0 };
        let mut tail = [0; TAIL_BYTES];
        tail[TAIL_BYTES - tail_length..].copy_from_slice(&bytes[bytes.len() - tail_length..]);
        let (position, opposite) = if egress { (self.told, self.asked) } else { (self.asked, self.told) };
        *(if egress { &mut self.told } else { &mut self.asked }) += bytes.len() as u64;
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

    fn hand_over(&mut self, Operation(segment, captured): &Operation) {
        self.connections.segment(segment, captured, &mut self.heard);
    }

    /// The kernel tells of a turn of the connection's state, with everything read that had come but for `unread`.
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
            from_start: 1,
            local_port: 80,
            remote_port: 50_000,
            local_address: [0; 16],
            remote_address: [0; 16],
            path: [0; UNIX_PATH_BYTES],
            path_length: 0,
            next: [self.asked, self.told],
            arrived: self.asked + unread,
        };
        self.connections.change(&record, &mut self.heard);
    }

    /// Lets time pass beyond every wait.
    fn wait(&mut self) {
        self.now += 1_000_000_000;
        self.connections.advance(self.now, &mut self.heard);
    }

    fn exchanges(&self) -> Vec<&Exchange> {
        self.heard
            .iter()
            .filter_map(|heard| match heard {
                Heard::Exchange(exchange) => Some(&**exchange),
                _ => None,
            })
            .collect()
    }

    fn lost(&self) -> Vec<LossReason> {
        self.heard
            .iter()
            .filter_map(|heard| match heard {
                Heard::Lost(lost) => Some(lost.reason),
                _ => None,
            })
            .collect()
    }

    fn is_over(&self) -> bool {
        self.heard.iter().any(|heard| matches!(heard, Heard::Forgotten(1)))
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
fn a_request_and_its_answer_are_an_exchange() {
    let mut told = Told::new();
    let (request, answer) = (told.reads(GET), told.writes(OK));
    told.hand_over(&request);
    told.hand_over(&answer);
    let [exchange] = told.exchanges()[..] else { panic!("{:?}", told.heard) };
    assert_eq!(exchange.end, End::Complete);
    assert_eq!((exchange.request_start.nanos, exchange.request_start.position), (request.0.time, ASKED));
    assert_eq!(exchange.response_end.map(|end| end.nanos), Some(answer.0.time));
    let Some(Heard::Begun(Some(origin))) = told.heard.first() else {
        panic!("the request's beginning and where it came from: {:?}", told.heard)
    };
    assert_eq!((origin.position, origin.opposite, origin.tgid), (ASKED, TOLD, SERVER));
}

#[test]
fn an_answer_that_overtook_its_request_waits_for_it() {
    let mut told = Told::new();
    // The connection is known, then a second request's records come in the wrong order.
    for operation in [told.reads(GET), told.writes(OK)] {
        told.hand_over(&operation);
    }
    let (request, answer) = (told.reads(GET), told.writes(OK));
    told.hand_over(&answer);
    assert_eq!(told.exchanges().len(), 1);
    told.hand_over(&request);
    assert_eq!(told.statuses(), [Some(200), Some(200)]);
    assert_eq!(told.counters.bytes_missing.get(), 0);
}

#[test]
fn an_answer_that_was_read_before_the_request_had_come_back_from_being_sent_follows_it() {
    let mut told = Told::new();
    // The connection is known before.
    let known = [told.writes(GET), told.reads(OK)];
    let (mut request, answer) = (told.writes(GET), told.reads(OK));
    // Each end of the conversation had come as far as the other.
    request.0.opposite = told.asked;
    (request.0.time, request.0.run) = (answer.0.time + 1_000, answer.0.run);
    for mut operation in known.into_iter().chain([answer, request]) {
        operation.0.role = role::CLIENT;
        told.hand_over(&operation);
    }
    assert_eq!(told.statuses(), [Some(200), Some(200)]);
    assert_eq!(told.counters.responses_without_request.get(), 0);
}

#[test]
fn segments_of_one_direction_are_put_in_order() {
    let mut told = Told::new();
    let (head, tail) = GET.split_at(10);
    let parts = [told.reads(&head[..4]), told.reads(&head[4..]), told.reads(tail)];
    let answer = told.writes(OK);
    for index in [0, 2, 1] {
        told.hand_over(&parts[index]);
    }
    told.hand_over(&answer);
    assert_eq!(told.statuses(), [Some(200)]);
}

#[test]
fn a_lost_answer_is_counted_and_the_next_is_its_own_requests() {
    let mut told = Told::new();
    let operations = [
        told.reads(GET),
        told.writes(OK),
        told.reads(GET),
        told.writes(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (index, operation) in operations.iter().enumerate() {
        if index != 1 {
            told.hand_over(operation);
        }
    }
    told.wait();
    assert_eq!(told.statuses(), [Some(404)]);
    assert_eq!(told.lost(), [LossReason::ResponseMissing]);
    assert_eq!(told.counters.bytes_missing.get(), OK.len() as u64);
}

#[test]
fn a_segment_that_comes_after_it_was_declared_missing_is_counted() {
    let mut told = Told::new();
    let operations = [told.reads(GET), told.writes(OK), told.reads(GET)];
    told.hand_over(&operations[0]);
    told.hand_over(&operations[2]);
    told.wait();
    let missing_before = told.counters.segments_too_late.get();
    let late = &operations[1];
    told.hand_over(late);
    // Nothing of the answer's direction was delivered beyond it: it is taken. What is told twice is not.
    told.hand_over(late);
    assert_eq!(told.counters.segments_too_late.get() - missing_before, 1);
}

#[test]
fn a_body_that_was_not_captured_is_stepped_over_and_its_end_is_exact() {
    let mut told = Told::new();
    let request = told.reads(GET);
    let mut body = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
    body.resize(body.len() + 100_000, b'x');
    let (first, second) = body.split_at(60_000);
    let answers = [told.operation(true, first, 1024), told.operation(true, second, 256)];
    let next = [told.reads(GET), told.writes(OK)];
    for operation in [&request, &answers[0], &answers[1], &next[0], &next[1]] {
        told.hand_over(operation);
    }
    assert_eq!(told.statuses(), [Some(200), Some(200)]);
    assert_eq!(told.exchanges()[0].response_end.map(|end| end.nanos), Some(answers[1].0.time));
}

#[test]
fn content_tells_who_serves_where_the_kernel_could_not() {
    let mut told = Told::new();
    let mut request = told.reads(GET);
    request.0.role = role::UNKNOWN;
    told.hand_over(&request);
    assert_eq!(told.connections.get(1).and_then(Connection::role), Some(Role::Server));
}

#[test]
fn what_nobody_can_read_is_left_and_counted() {
    let mut told = Told::new();
    let hello = told.reads([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]);
    told.hand_over(&hello);
    assert_eq!(told.counters.protocol(&tls::SPEC).map(|tls| tls.connections.get()), Some(1));
    let more = told.reads([0x17, 3, 3, 0, 10, 0]);
    told.hand_over(&more);
    assert_eq!(told.counters.protocol(&tls::SPEC).map(|tls| tls.connections.get()), Some(1));
    assert!(told.heard.is_empty());
}

#[test]
fn a_request_whose_process_ends_is_told_with_that() {
    let mut told = Told::new();
    let request = told.reads(GET);
    told.hand_over(&request);
    told.connections.process_ended(SERVER, told.now, &mut told.heard);
    told.changes(change::FINISHED, 0, 0);
    told.changes(change::CLOSED, 0, 0);
    told.wait();
    let [exchange] = told.exchanges()[..] else { panic!("{:?}", told.heard) };
    assert!(matches!(exchange.end, End::Closed(Close::ProcessExit, _)));
    assert!(told.connections.is_empty());
}

#[test]
fn a_request_that_nobody_answers_is_given_up_at_its_age_and_its_connection_goes_on() {
    let mut told = Told::new();
    let request = told.reads(GET);
    told.hand_over(&request);
    told.now += Limits::default().request_age;
    told.wait();
    let [exchange] = told.exchanges()[..] else { panic!("{:?}", told.heard) };
    assert!(matches!(exchange.end, End::Closed(Close::Aged, _)));
    for operation in [told.writes(OK), told.reads(GET), told.writes(OK)] {
        told.hand_over(&operation);
    }
    assert_eq!(told.statuses(), [None, Some(200)]);
}

#[test]
fn more_connections_than_are_followed_are_counted() {
    let counters = Arc::new(Counters::default());
    let limits = Limits { connections: 1, ..Limits::default() };
    let mut connections = Connections::new(limits, counters.clone());
    let mut told = Told::new();
    let Operation(segment, captured) = told.reads(GET);
    connections.segment(&segment, &captured, &mut Vec::<Heard>::new());
    connections.segment(&Segment { cookie: 2, ..segment }, &captured, &mut Vec::<Heard>::new());
    assert_eq!((connections.len(), counters.connections_over_limit.get()), (1, 1));
    assert_eq!(counters.requests_lost_over_limit.get(), 1);
}

#[test]
fn the_connection_idle_for_the_longest_makes_room_for_a_new_one() {
    let counters = Arc::new(Counters::default());
    let limits = Limits { connections: 3, ..Limits::default() };
    let mut connections = Connections::new(limits, counters.clone());
    let mut heard = Vec::new();
    let mut told = Told::new();
    let (request, answer) = (told.reads(GET), told.writes(OK));
    for (cookie, time) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
        for Operation(segment, captured) in [&request, &answer] {
            connections.segment(&Segment { cookie, time, ..*segment }, captured, &mut heard);
        }
    }
    let over: Vec<_> = heard.iter().filter(|heard| matches!(heard, Heard::Forgotten(_))).collect();
    assert!(matches!(over[..], [Heard::Forgotten(2)]), "{over:?}");
    assert_eq!(
        (connections.len(), counters.connections_evicted.get(), counters.connections_over_limit.get()),
        (3, 1, 0)
    );
}

#[test]
fn a_connection_joined_in_the_middle_of_a_body_is_followed_from_its_next_request() {
    let mut told = Told::new();
    let mut operations: Vec<_> = (0..40).map(|_| told.operation(true, &[b'x'; 4000], 256)).collect();
    operations.extend([told.reads(GET), told.writes(OK)]);
    for operation in &mut operations {
        operation.0.flags &= !flag::FROM_START;
        told.hand_over(operation);
    }
    assert_eq!(told.statuses(), [Some(200)]);
}

#[test]
fn requests_behind_a_switch_of_protocol_are_told_or_counted() {
    let mut told = Told::new();
    let upgrade = b"GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n";
    let request = told.reads([upgrade, GET].concat());
    let answer = told.writes(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n");
    for operation in [&request, &answer] {
        told.hand_over(operation);
    }
    assert_eq!((told.statuses(), told.lost()), (vec![Some(101)], vec![LossReason::Unparsable]));
    assert_eq!(told.connections.get(1).map(Connection::open_requests), Some(0));
}

#[test]
fn what_had_come_when_the_connection_was_closed_is_read_long_after() {
    let mut told = Told::new();
    told.changes(change::SEEN, 0, 0);
    told.changes(change::CLOSED, ECONNRESET, GET.len() as u64);
    told.wait();
    let request = told.reads(GET);
    told.hand_over(&request);
    told.wait();
    let [exchange] = told.exchanges()[..] else { panic!("{:?}", told.heard) };
    assert!(matches!(exchange.end, End::Closed(Close::Error(ECONNRESET), _)));
    assert!(told.is_over() && told.connections.is_empty());
}

#[test]
fn what_had_come_and_will_never_be_read_is_not_waited_for() {
    let mut told = Told::new();
    let request = told.reads(GET);
    told.hand_over(&request);
    told.changes(change::CLOSED, ECONNRESET, 10);
    told.wait();
    assert!(!told.is_over());
    told.changes(change::DESTROYED, 0, 10);
    told.wait();
    assert!(told.is_over() && told.exchanges().len() == 1);
}

#[test]
fn a_connection_goes_on_in_another_process_when_the_one_that_opened_it_ends() {
    let mut told = Told::new();
    let request = told.reads(GET);
    told.hand_over(&request);
    told.connections.process_ended(SERVER, told.now, &mut told.heard);
    told.wait();
    let mut answer = told.writes(OK);
    answer.0.tgid = SERVER + 1;
    told.hand_over(&answer);
    let [exchange] = told.exchanges()[..] else { panic!("{:?}", told.heard) };
    assert_eq!(exchange.end, End::Complete);
    told.changes(change::CLOSED, 0, 0);
    told.wait();
    assert!(told.is_over());
}

#[test]
fn a_unix_connection_ends_with_what_its_peer_says_last() {
    let mut told = Told::new();
    let mut fin = told.operation(false, &[], 0);
    fin.0.flags |= flag::FIN;
    let mut operations = [told.reads(GET), told.writes(OK), fin];
    (operations[2].0.position, operations[2].0.opposite) = (told.asked, told.told);
    for operation in &mut operations {
        operation.0.flags |= flag::UNIX;
        told.hand_over(operation);
    }
    told.wait();
    assert!(told.is_over() && told.connections.is_empty());
    assert_eq!(told.statuses(), [Some(200)]);
}

#[test]
fn a_unix_connection_that_was_open_before_is_not_taken_for_a_new_one() {
    let mut told = Told::new();
    // What the kernel says of it; a query, and no message with which a connection to PostgreSQL begins.
    let mut query = told.reads(b"Q\0\0\0\x0dSELECT 1\0");
    query.0.flags |= flag::UNIX;
    told.hand_over(&query);
    assert_eq!(told.connections.get(1).and_then(Connection::protocol), Some(&postgres::SPEC));
}

#[test]
fn a_request_line_tells_who_serves_where_the_kernel_was_wrong() {
    let mut told = Told::new();
    let (mut request, mut answer) = (told.reads(GET), told.writes(OK));
    for operation in [&mut request, &mut answer] {
        operation.0.role = role::CLIENT;
        told.hand_over(operation);
    }
    assert_eq!(told.statuses(), [Some(200)]);
    assert_eq!(told.connections.get(1).and_then(Connection::role), Some(Role::Server));
}

#[test]
fn a_head_longer_than_what_is_captured_is_said_to_be_so() {
    let mut told = Told::new();
    let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'y'; 2000], b"\r\ncontent-length: 2\r\n\r\nhi"].concat();
    for operation in [told.reads(GET), told.operation(true, &long, 1024)] {
        told.hand_over(&operation);
    }
    let cut: Vec<_> =
        told.heard.iter().filter(|heard| matches!(heard, Heard::CaptureMore(Direction::ToClient))).collect();
    assert_eq!(cut.len(), 1);
    // Where an event was lost, no capture would have helped.
    let lost = told.reads(GET);
    drop(lost);
    let answer = told.writes(OK);
    told.hand_over(&answer);
    told.wait();
    assert!(!told.heard.iter().any(|heard| matches!(heard, Heard::CaptureMore(Direction::ToServer))));
}

#[test]
fn a_connection_met_again_in_its_middle_did_not_begin_there() {
    let mut told = Told::new();
    // What it said in its first turns was forgotten.
    let _ = [told.reads(b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"), told.writes(b"+OK\r\n")];
    for operation in [told.reads(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), told.writes(b"$1\r\nv\r\n")] {
        told.hand_over(&operation);
    }
    let [exchange] = told.exchanges()[..] else { panic!("{:?}", told.heard) };
    let Facts::Database(facts) = &exchange.facts else { panic!("{exchange:?}") };
    assert_eq!(facts.namespace, Namespace::default(), "it was never seen which it is");
}

#[test]
fn a_short_connection_that_nobody_can_read_is_counted() {
    let mut told = Told::new();
    for operation in [told.reads(b"\x17\x00\x00\x00what is it"), told.writes(b"\x01\x02\x03")] {
        told.hand_over(&operation);
    }
    assert_eq!(told.counters.connections_unknown.get(), 0);
    told.changes(change::CLOSED, 0, 0);
    told.wait();
    assert!(told.is_over());
    assert_eq!(told.counters.connections_unknown.get(), 1);
}

#[test]
fn a_body_after_100_continue_is_more_of_its_request() {
    const POST: &[u8] = b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    let mut told = Told::new();
    for operation in [told.reads(POST), told.writes(b"HTTP/1.1 100 Continue\r\n\r\n")] {
        told.hand_over(&operation);
    }
    let mut body = told.reads(b"body");
    body.0.message.span_id = 7;
    told.hand_over(&body);
    assert!(told.heard.iter().any(|heard| matches!(heard, Heard::Continued(ASKED, 7))), "{:?}", told.heard);
    let (answer, request) = (told.writes(OK), told.reads(GET));
    told.hand_over(&answer);
    told.hand_over(&request);
    assert_eq!(told.heard.iter().filter(|heard| matches!(heard, Heard::Continued(..))).count(), 1);
}
