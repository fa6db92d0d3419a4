//! A pipeline that speaks the test protocol: records in, spans out.

use std::sync::Arc;

use onlooker_common::connection::{ConnectionChange, UNIX_PATH_BYTES, change, role};
use onlooker_common::datagram::Datagram;
use onlooker_common::kind;
use onlooker_common::plaintext::{Plaintext, StreamKey, Tie};
use onlooker_common::segment::{Segment, flag};
use onlooker_engine::connections::Limits;
use onlooker_engine::model::clock::Reading;
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::service::{PendingService, Service};
use onlooker_engine::model::span::Span;
use onlooker_engine::pipeline::{Notice, Pipeline, Surroundings};
use onlooker_protocols::{Spec, http1, testing, tls};
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::Resource;
use zerocopy::{Immutable, IntoBytes};

static TABLE: &[&Spec] = &[&tls::SPEC, &testing::STREAM, &testing::DATAGRAM, &http1::SPEC];

pub(crate) const MILLISECOND: u64 = 1_000_000;

/// Everything belongs to one service.
struct OneService(PendingService);

impl Surroundings for OneService {
    fn service(&mut self, _tgid: u32) -> PendingService {
        self.0.clone()
    }

    fn take(&mut self, _notice: Notice<'_>) {}
}

pub(crate) struct World {
    pipeline: Pipeline<OneService>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) now: u64,
}

/// One direction of a test connection: where it is, and the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) cookie: u64,
    pub(crate) tgid: u32,
    pub(crate) role: u8,
    /// Positions of what was received and sent.
    pub(crate) positions: [u64; 2],
    pub(crate) run: u32,
    pub(crate) last: Option<bool>,
}

impl End {
    pub(crate) fn new(cookie: u64, tgid: u32, role: u8) -> Self {
        Self { cookie, tgid, role, positions: [1_000, 7_000], run: 0, last: None }
    }

    /// The next operation on this end.
    pub(crate) fn operation(&mut self, is_sent: bool, length: usize, time: u64) -> Segment {
        let begins = self.last != Some(is_sent);
        self.run += u32::from(begins && self.last.is_some());
        self.last = Some(is_sent);
        let position = self.positions[usize::from(is_sent)];
        self.positions[usize::from(is_sent)] += length as u64;
        Segment {
            kind: kind::SEGMENT,
            captured: length as u32,
            length: length as u32,
            time,
            cookie: self.cookie,
            position,
            opposite: self.positions[usize::from(!is_sent)],
            run: self.run,
            role: self.role,
            tgid: self.tgid,
            flags: (u32::from(is_sent) * flag::EGRESS) | (u32::from(begins) * flag::BEGINS) | flag::FROM_START,
            ..Segment::default()
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let counters = Arc::new(Counters::new(TABLE));
        let shop = Service::new("shop", Resource::builder_empty().build());
        let surroundings = OneService(PendingService::known(Arc::new(shop)));
        let clock = Reading { monotonic: 0, wall: 0, uncertainty: 0 };
        let pipeline = Pipeline::new(surroundings, Limits::default(), clock, counters.clone());
        Self { pipeline, counters, now: MILLISECOND }
    }

    /// Takes a record, a millisecond after the one before.
    fn record(&mut self, header: &(impl IntoBytes + Immutable), payload: &[u8]) {
        let header = header.as_bytes();
        let mut record = vec![0_u64; (header.len() + payload.len()).div_ceil(8)];
        let bytes = record.as_mut_bytes();
        bytes[..header.len()].copy_from_slice(header);
        bytes[header.len()..][..payload.len()].copy_from_slice(payload);
        self.pipeline.record(record.as_bytes());
    }

    pub(crate) fn tick(&mut self) -> u64 {
        self.now += MILLISECOND;
        self.now
    }

    pub(crate) fn segment(&mut self, segment: &Segment, bytes: &[u8]) {
        self.record(segment, bytes);
    }

    pub(crate) fn sends(&mut self, end: &mut End, bytes: &[u8]) {
        let time = self.tick();
        let segment = end.operation(true, bytes.len(), time);
        self.record(&segment, bytes);
    }

    pub(crate) fn reads(&mut self, end: &mut End, bytes: &[u8]) {
        let time = self.tick();
        let segment = end.operation(false, bytes.len(), time);
        self.record(&segment, bytes);
    }

    pub(crate) fn plaintext(&mut self, stream: StreamKey, segment: Segment, bytes: &[u8]) {
        let segment = Segment { kind: kind::PLAINTEXT, ..segment };
        self.record(&Plaintext { segment, stream }, bytes);
    }

    pub(crate) fn tie(&mut self, stream: StreamKey, cookie: u64) {
        let time = self.tick();
        self.record(&Tie { kind: kind::TIE, stream, cookie, time, ..Tie::default() }, b"");
    }

    pub(crate) fn datagram(&mut self, datagram: &Datagram, bytes: &[u8]) {
        self.record(datagram, bytes);
    }

    /// The kernel reports the connection's beginning or end.
    pub(crate) fn changes(&mut self, end: &End, change: u32) {
        self.changes_of(end, change, true);
    }

    /// As [`World::changes`], of a connection of which the kernel has seen the start, or not.
    pub(crate) fn changes_of(&mut self, end: &End, change: u32, from_start: bool) {
        let record = ConnectionChange {
            kind: kind::CONNECTION,
            change,
            time: self.tick(),
            cookie: end.cookie,
            tgid: end.tgid,
            error: 0,
            family: 2,
            role: end.role,
            from_start: u8::from(from_start),
            local_port: if end.role == role::SERVER { 443 } else { 50_000 },
            remote_port: if end.role == role::SERVER { 50_000 } else { 443 },
            local_address: address([10, 0, 0, 1]),
            remote_address: address([10, 0, 0, 2]),
            path: [0; UNIX_PATH_BYTES],
            path_length: 0,
            next: if change == change::SEEN { [0; 2] } else { end.positions },
            arrived: 0,
        };
        self.record(&record, b"");
    }

    /// The spans that are settled after `wait`, in the order of their starts.
    pub(crate) fn spans_after(&mut self, wait: u64) -> Vec<Span> {
        self.now += wait;
        let mut spans = Vec::new();
        self.pipeline.advance(self.now, |finished| spans.push(finished.span.clone()));
        spans.sort_by_key(|span| span.start);
        spans
    }

    pub(crate) fn spans(&mut self) -> Vec<Span> {
        self.spans_after(2_000 * MILLISECOND)
    }

    /// Ends everything, and returns what was still open.
    pub(crate) fn shutdown(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        self.pipeline.shutdown(self.now, |finished| spans.push(finished.span.clone()));
        spans
    }
}

pub(crate) fn address(v4: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&v4);
    bytes
}

/// Name and kind of each span.
pub(crate) fn summary(spans: &[Span]) -> Vec<(&str, SpanKind)> {
    spans.iter().map(|span| (span.name.as_str(), span.kind.clone())).collect()
}
