//! Records of one server connection, and whose the spans are that come of them.

use onlooker_common::event::{flag, kind, role};
use zerocopy::IntoBytes as _;

use super::*;
use crate::enrich::Directory;

/// A number that nobody has.
const SERVER: u32 = 0x7fff_fff0;
const MILLISECOND: u64 = 1_000_000;

/// A machine whose processes are known when it is told to answer.
#[derive(Debug)]
struct Machine {
    directory: Directory,
    asked: Vec<Whose>,
}

impl Surroundings for Machine {
    fn whose(&mut self, tgid: u32) -> Whose {
        self.directory.whose(tgid, |whose| {
            self.asked.push(whose);
            true
        })
    }

    fn completed(&mut self, _cookie: u64, _until: u64) {}

    fn raise(&mut self, _cookie: u64) {}

    fn forget(&mut self, _cookie: u64) {}

    fn process(&mut self, process: &event::Process) {
        self.directory.executed(process.tgid, process.comm);
    }
}

fn pipeline() -> Pipeline<Machine> {
    let machine = Machine { directory: Directory::new(Arc::default()), asked: Vec::new() };
    Pipeline::new(machine, Limits::default(), Reading { monotonic: 0, ..Reading::now().unwrap() }, Arc::default())
}

/// The `n`th request of a connection with its answer, at `now`.
fn exchange(pipeline: &mut Pipeline<Machine>, n: u64, now: u64) {
    const ASKED: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const TOLD: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (asked, told) = (n * ASKED.len() as u64, n * TOLD.len() as u64);
    let ends = [(0, ASKED, asked, told), (flag::EGRESS, TOLD, told, asked + ASKED.len() as u64)];
    for (direction, bytes, position, opposite) in ends {
        let segment = event::Segment {
            kind: kind::SEGMENT,
            captured: bytes.len() as u32,
            time: now,
            cookie: 1,
            position,
            opposite,
            length: bytes.len() as u32,
            run: (2 * n) as u32 + u32::from(direction != 0),
            flags: direction | flag::BEGINS | flag::FROM_START,
            role: role::SERVER,
            tgid: SERVER,
            ..event::Segment::default()
        };
        let mut record = segment.as_bytes().to_vec();
        record.extend(bytes);
        // The ring's records are aligned.
        record.resize(record.len().next_multiple_of(8), 0);
        pipeline.record(&record);
    }
}

/// Whose the spans are that are made when it is `now`.
fn names(pipeline: &mut Pipeline<Machine>, now: u64) -> Vec<String> {
    let mut names = Vec::new();
    pipeline.advance(now, |span| names.push(span.service.name.clone()));
    names
}

#[test]
fn a_span_waits_a_bounded_time_to_know_whose_it_is() {
    let mut pipeline = pipeline();
    let comm = *b"python3\0\0\0\0\0\0\0\0\0";
    let exec =
        event::Process { kind: kind::PROCESS, change: lifecycle::EXEC, tgid: SERVER, comm, ..Default::default() };
    pipeline.record(exec.as_bytes());

    exchange(&mut pipeline, 0, MILLISECOND);
    assert_eq!(names(&mut pipeline, 100 * MILLISECOND), [""; 0]);
    assert!(pipeline.is_busy() && pipeline.waits_for_services());
    assert_eq!(names(&mut pipeline, 600 * MILLISECOND), ["unknown_service:python3"]);
    assert!(!pipeline.is_busy());

    // The next one need not find out again that nobody answers.
    exchange(&mut pipeline, 1, 700 * MILLISECOND);
    assert_eq!(names(&mut pipeline, 800 * MILLISECOND), ["unknown_service:python3"]);
    assert_eq!(pipeline.surroundings().asked.len(), 1);
    assert_eq!(pipeline.metrics.spans_of_unknown_service.get(), 2);
}

#[test]
fn a_span_goes_as_soon_as_it_is_known_whose_it_is() {
    let mut pipeline = pipeline();
    exchange(&mut pipeline, 0, MILLISECOND);
    pipeline.shutdown(2 * MILLISECOND, |span| panic!("nobody knows whose it is: {span:?}"));
    let mut services = crate::enrich::Services::new(Arc::default(), Arc::default());
    services.answer(&pipeline.surroundings().asked[0]);
    assert_eq!(names(&mut pipeline, 3 * MILLISECOND), ["unknown_service:process"]);
    assert_eq!(pipeline.metrics.spans_of_unknown_service.get(), 0, "it was looked for, and is gone");
}
