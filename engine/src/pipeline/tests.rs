//! Records of one server connection in, and the services of their spans.

use compact_str::CompactString;
use onlooker_common::connection::role;
use onlooker_common::kind;
use onlooker_common::segment::Segment;
use opentelemetry_sdk::Resource;
use zerocopy::IntoBytes as _;

use super::*;
use crate::model::service::{PendingService, Service, UnknownService};

const SERVER: u32 = 0x7fff_fff0;
const MILLISECOND: u64 = 1_000_000;

/// A machine that knows no process: answers come from the test.
#[derive(Debug, Default)]
struct Machine {
    pending: Option<PendingService>,
    comm: CompactString,
    requested: usize,
}

/// Names a service after its process.
#[derive(Debug)]
struct ByComm;

impl UnknownService for ByComm {
    fn unknown_service(&self, _pid: u32, comm: &str) -> Service {
        Service::new(format!("unknown_service:{comm}"), Resource::builder_empty().build())
    }
}

impl Surroundings for Machine {
    fn service(&mut self, tgid: u32) -> PendingService {
        let (comm, requested) = (&self.comm, &mut self.requested);
        let pending = self.pending.get_or_insert_with(|| {
            *requested += 1;
            PendingService::new(tgid, comm.clone(), Arc::new(ByComm))
        });
        pending.clone()
    }

    fn take(&mut self, notice: Notice<'_>) {
        if let Notice::ProcessChanged(process) = notice {
            self.comm = CompactString::from_utf8_lossy(&process.comm[..7]);
        }
    }
}

fn pipeline() -> Pipeline<Machine> {
    let reading = Reading { monotonic: 0, wall: 1_700_000_000_000_000_000, uncertainty: 0 };
    Pipeline::new(Machine::default(), Limits::default(), reading, Arc::default())
}

/// The `n`th request of a connection, with its response, at `now`.
fn exchange(pipeline: &mut Pipeline<Machine>, n: u64, now: u64) {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (received, sent) = (n * REQUEST.len() as u64, n * RESPONSE.len() as u64);
    let ends = [(0, REQUEST, received, sent), (flag::EGRESS, RESPONSE, sent, received + REQUEST.len() as u64)];
    for (direction, bytes, position, opposite) in ends {
        let segment = Segment {
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
            ..Segment::default()
        };
        let mut record = segment.as_bytes().to_vec();
        record.extend(bytes);
        // The ring's records are aligned.
        record.resize(record.len().next_multiple_of(8), 0);
        pipeline.record(&record);
    }
}

/// The services of the spans that are made at `now`.
fn names(pipeline: &mut Pipeline<Machine>, now: u64) -> Vec<String> {
    let mut names = Vec::new();
    pipeline.advance(now, |finished| names.push(finished.span.service.name.clone()));
    names
}

#[test]
fn a_span_waits_a_bounded_time_for_its_service() {
    let mut pipeline = pipeline();
    let comm = *b"python3\0\0\0\0\0\0\0\0\0";
    let exec = ProcessChange { kind: kind::PROCESS, change: lifecycle::EXEC, tgid: SERVER, comm, ..Default::default() };
    pipeline.record(exec.as_bytes());

    exchange(&mut pipeline, 0, MILLISECOND);
    assert_eq!(names(&mut pipeline, 100 * MILLISECOND), [""; 0]);
    assert!(pipeline.is_busy() && pipeline.waits_for_services());
    assert_eq!(names(&mut pipeline, 600 * MILLISECOND), ["unknown_service:python3"]);
    assert!(!pipeline.is_busy());

    // The next one does not wait again.
    exchange(&mut pipeline, 1, 700 * MILLISECOND);
    assert_eq!(names(&mut pipeline, 800 * MILLISECOND), ["unknown_service:python3"]);
    assert_eq!(pipeline.surroundings().requested, 1);
    assert_eq!(pipeline.counters.spans_of_unknown_service.get(), 2);
}

#[test]
fn a_span_is_made_as_soon_as_its_service_is_known() {
    let mut pipeline = pipeline();
    exchange(&mut pipeline, 0, MILLISECOND);
    pipeline.shutdown(2 * MILLISECOND, |finished| panic!("its service is unknown: {finished:?}"));
    let pending = pipeline.surroundings().pending.clone().expect("the span needs it");
    pending.set(Arc::new(Service::new("shop", Resource::builder_empty().build())));
    assert_eq!(names(&mut pipeline, 3 * MILLISECOND), ["shop"]);
    assert_eq!(pipeline.counters.spans_of_unknown_service.get(), 0);
}
