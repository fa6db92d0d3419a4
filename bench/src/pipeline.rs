//! From the kernel's records to encoded OTLP on one processor, without a kernel: exchanges per second.
//!
//! The records are those of a server with many keep-alive connections. They are processed in batches of a few thousand,
//! as the agent reads them from the ring. Making the records is not timed. The stages are timed in one run:
//!
//! - records: decode, order, parse, add to the graph of parents;
//! - settle: parent, names, attributes;
//! - encode: each span is encoded as soon as it is settled. Every other batch is not encoded. The difference is the cost.

mod records;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker::clock;
use onlooker::enrich::{Host, Services};
use onlooker::export::{Buffers, Schedule, encode};
use onlooker::runtimes::Recogniser;
use onlooker_common::decode::Event;
use onlooker_engine::connections::{Connections, Limits};
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::service::PendingService;
use onlooker_engine::model::span::Span;
use onlooker_engine::observer::{Observer, Place, Report};
use onlooker_engine::pipeline::{Notice, Pipeline, Surroundings};

use self::records::{PER_BATCH, Records};
use crate::cpu::time_of_this_thread;
use crate::not_interrupted;
use crate::report::{Aim, Row};
use crate::statistics::median;

/// Batches that are not counted: after them, maps, queues and buffers have reached their final size.
const WARM_UP: usize = 64;
const BATCHES: usize = 400;

/// The time of one batch, in nanoseconds per exchange.
#[derive(Debug, Clone, Copy)]
struct BatchTime {
    record: f64,
    settle: f64,
}

impl BatchTime {
    fn all(&self) -> f64 {
        self.record + self.settle
    }
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let [encoded, bare] = batches()?;
    let of = |batches: &[BatchTime], stage: fn(&BatchTime) -> f64| median(batches.iter().map(stage));
    let all = of(&encoded, BatchTime::all);
    let parsing = parsing()?;
    let settle = of(&bare, |batch| batch.settle);
    let per_second = Row::new("HTTP/1 exchanges per second", 1e9 / all, "per s").aim(Aim::AtLeast(500_000.0));
    let stage = |what: &str, nanos: f64| Row::new(what, nanos, "ns").beside(all, "of all");
    Ok(vec![
        per_second,
        stage("an exchange", all),
        stage("  records: decode, order, parse, place", of(&encoded, |batch| batch.record)),
        stage("    of which decode, order, parse", parsing),
        stage("  settle: parent, names, attributes", settle),
        stage("  encode", of(&encoded, |batch| batch.settle) - settle),
    ])
}

/// The times of batches whose spans are encoded, and of the others.
fn batches() -> Result<[Vec<BatchTime>; 2]> {
    let counters = Arc::new(Counters::default());
    let mut records = Records::new();
    let mut pipeline = Pipeline::new(OneProcess::new(), Limits::default(), clock::read()?, counters.clone());
    for record in records.connections() {
        pipeline.record(record);
    }
    let mut requests = Requests::new();
    let mut batches = [Vec::with_capacity(BATCHES), Vec::with_capacity(BATCHES)];
    for number in 0..2 * (WARM_UP + BATCHES) {
        not_interrupted()?;
        let encodes = number % 2 == 0;
        let now = records.next_batch();
        let mut spans = 0;
        let start = time_of_this_thread();
        for record in records.exchanges() {
            pipeline.record(record);
        }
        let recorded = time_of_this_thread();
        pipeline.advance(now, |finished| {
            spans += 1;
            if encodes {
                requests.put(finished.span);
            } else {
                black_box(finished.span);
            }
        });
        let settled = time_of_this_thread();
        if number >= 2 * WARM_UP {
            // As many exchanges are settled at the end of a batch as begin in it.
            ensure!(spans == PER_BATCH, "{spans} spans of {PER_BATCH} exchanges: {counters:?}");
            batches[usize::from(!encodes)]
                .push(BatchTime { record: per_exchange(recorded - start), settle: per_exchange(settled - recorded) });
        }
    }
    Ok(batches)
}

/// Encodes OTLP requests as the agent does while the collector keeps up.
struct Requests {
    buffers: Arc<Buffers>,
    open: encode::RequestEncoder,
    spans: usize,
    most: usize,
}

impl Requests {
    fn new() -> Self {
        let buffers = Arc::<Buffers>::default();
        let most = Schedule::default().max_batch_size;
        Self { open: encode::RequestEncoder::new(buffers.clone()), buffers, spans: 0, most }
    }

    fn put(&mut self, span: &Span) {
        self.open.push(span);
        self.spans += 1;
        if self.spans == self.most {
            self.spans = 0;
            let full = std::mem::replace(&mut self.open, encode::RequestEncoder::new(self.buffers.clone()));
            black_box(full.finish());
        }
    }
}

/// The time up to the parser, in nanoseconds per exchange.
fn parsing() -> Result<f64> {
    let mut records = Records::new();
    let mut connections = Connections::new(Limits::default(), Arc::default());
    let mut parsed = Count::default();
    let mut take = |record: &[u8]| match Event::decode(record) {
        Ok(Event::Segment(segment, captured)) => connections.segment(segment, captured, &mut parsed),
        Ok(Event::Connection(connection)) => connections.change(connection, &mut parsed),
        Ok(Event::Process(_) | Event::Execution(_) | Event::Plaintext(..) | Event::Tie(_) | Event::Datagram(..))
        | Err(_) => {}
    };
    records.connections().for_each(&mut take);
    let mut batches = Vec::with_capacity(BATCHES);
    for number in 0..WARM_UP + BATCHES {
        not_interrupted()?;
        records.next_batch();
        let start = time_of_this_thread();
        records.exchanges().for_each(&mut take);
        let taken = time_of_this_thread() - start;
        if number >= WARM_UP {
            batches.push(per_exchange(taken));
        }
    }
    let (parsed, recorded) = (parsed.0, PER_BATCH * (WARM_UP + BATCHES));
    ensure!(parsed == recorded, "{parsed} of {recorded} exchanges were parsed");
    Ok(median(batches))
}

/// Counts exchanges.
#[derive(Default)]
struct Count(usize);

impl Observer for Count {
    fn observe(&mut self, _place: Place, report: Report<'_>) {
        if let Report::Ended { exchange, .. } = report {
            black_box(exchange);
            self.0 += 1;
        }
    }
}

fn per_exchange(batch: Duration) -> f64 {
    batch.as_nanos() as f64 / PER_BATCH as f64
}

/// All records belong to this process, because its service can be found in /proc.
struct OneProcess {
    service: PendingService,
}

impl OneProcess {
    fn new() -> Self {
        let mut services = Services::new(Arc::new(Host::read("", Vec::new())), Arc::new(Recogniser::default()));
        Self { service: PendingService::known(services.of(std::process::id(), "")) }
    }
}

impl Surroundings for OneProcess {
    fn service(&mut self, _tgid: u32) -> PendingService {
        self.service.clone()
    }

    fn take(&mut self, _notice: Notice<'_>) {}
}
