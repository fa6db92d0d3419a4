//! From recorded Events to encoded OTLP on one processor, without a kernel: how many exchanges a second.
//!
//! The records are those of a server of many connections that are kept alive, one request and one response each, as the
//! agent takes them from the ring: in looks of a few thousand. Making them is not timed. The stages are timed in the
//! same run: taking the records (decode, order, parse, place among the parents), settling what is due (parent, names,
//! attributes), encoding.

mod records;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker::clock::Reading;
use onlooker::discover::runtime::Runtimes;
use onlooker::enrich::{Host, Services, Whose};
use onlooker::export::encode;
use onlooker::metrics::Metrics;
use onlooker::pipeline::{Pipeline, Surroundings};
use onlooker::stream::{Limits, Streams};
use onlooker_common::decode::Event;
use onlooker_common::event;

use self::records::{PER_LOOK, Records};
use crate::cpu::time_of_this_thread;
use crate::not_interrupted;
use crate::report::{Aim, Row};
use crate::statistics::median;

/// Looks before the first that counts: until maps, queues and buffers have the size at which they stay.
const WARM_UP: usize = 64;
const LOOKS: usize = 400;

/// Nanoseconds of one look, per exchange.
#[derive(Debug, Clone, Copy)]
struct Look {
    record: f64,
    settle: f64,
    encode: f64,
}

impl Look {
    fn all(&self) -> f64 {
        self.record + self.settle + self.encode
    }
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let looks = looks()?;
    let of = |stage: fn(&Look) -> f64| median(looks.iter().map(stage));
    let all = of(Look::all);
    let parsing = parsing()?;
    let per_second = Row::new("HTTP/1 exchanges per second", 1e9 / all, "per s").aim(Aim::AtLeast(500_000.0));
    let stage = |what: &str, nanos: f64| Row::new(what, nanos, "ns").beside(all, "of all");
    Ok(vec![
        per_second,
        stage("an exchange", all),
        stage("  records: decode, order, parse, place", of(|look| look.record)),
        stage("    of which decode, order, parse", parsing),
        stage("  settle: parent, names, attributes", of(|look| look.settle)),
        stage("  encode", of(|look| look.encode)),
    ])
}

fn looks() -> Result<Vec<Look>> {
    let metrics = Arc::new(Metrics::default());
    let mut records = Records::new();
    let mut pipeline = Pipeline::new(OneProcess::new(), Limits::default(), Reading::now()?, metrics.clone());
    for record in records.connections() {
        pipeline.record(record);
    }
    let mut looks = Vec::with_capacity(LOOKS);
    for number in 0..WARM_UP + LOOKS {
        not_interrupted()?;
        let now = records.next_look();
        let start = time_of_this_thread();
        for record in records.exchanges() {
            pipeline.record(record);
        }
        let recorded = time_of_this_thread();
        pipeline.advance(now);
        let settled = time_of_this_thread();
        let spans = pipeline.spans.len();
        if spans > 0 {
            black_box(encode::encode(&pipeline.spans));
            pipeline.spans.clear();
        }
        let encoded = time_of_this_thread();
        if number >= WARM_UP {
            // As many end a moment after a look as begin in it.
            ensure!(spans == PER_LOOK, "{spans} spans of {PER_LOOK} exchanges: {metrics:?}");
            looks.push(Look {
                record: per_exchange(recorded - start),
                settle: per_exchange(settled - recorded),
                encode: per_exchange(encoded - settled),
            });
        }
    }
    Ok(looks)
}

/// Nanoseconds per exchange for the same records' way as far as the parser, alone.
fn parsing() -> Result<f64> {
    let mut records = Records::new();
    let mut streams = Streams::new(Limits::default(), Arc::default());
    let mut happened = Vec::new();
    let mut take = |streams: &mut Streams, record: &[u8]| {
        match Event::decode(record) {
            Ok(Event::Segment(segment, captured)) => streams.segment(segment, captured, &mut happened),
            Ok(Event::Connection(connection)) => streams.change(connection, &mut happened),
            Ok(Event::Process(_)) | Err(_) => {}
        }
        let found = happened.len();
        happened.clear();
        found
    };
    for record in records.connections() {
        take(&mut streams, record);
    }
    let mut looks = Vec::with_capacity(LOOKS);
    for number in 0..WARM_UP + LOOKS {
        not_interrupted()?;
        records.next_look();
        let start = time_of_this_thread();
        let found: usize = records.exchanges().map(|record| take(&mut streams, record)).sum();
        let taken = time_of_this_thread() - start;
        ensure!(found == 2 * PER_LOOK, "{found} findings of {PER_LOOK} exchanges");
        if number >= WARM_UP {
            looks.push(per_exchange(taken));
        }
    }
    Ok(median(looks))
}

fn per_exchange(look: Duration) -> f64 {
    look.as_nanos() as f64 / PER_LOOK as f64
}

/// All is done by one process: this one, as it is one that can be looked at.
struct OneProcess {
    whose: Whose,
}

impl OneProcess {
    fn new() -> Self {
        let mut services = Services::new(Arc::new(Host::read()), Arc::new(Runtimes::default()));
        Self { whose: Whose::known(services.of(std::process::id(), "")) }
    }
}

impl Surroundings for OneProcess {
    fn whose(&mut self, _tgid: u32) -> Whose {
        self.whose.clone()
    }

    fn completed(&mut self, _cookie: u64, _until: u64) {}

    fn raise(&mut self, _cookie: u64) {}

    fn forget(&mut self, _cookie: u64) {}

    fn process(&mut self, _process: &event::Process) {}
}
