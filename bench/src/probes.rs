//! What the probes cost: a socket operation traced, and one of a process that is not selected, beside the bare one and
//! beside an empty pair of tracepoints at the system call's entry and exit; and what another system call pays.
//!
//! The least of many short windows counts, taken in several rounds: the machine is never quiet, but quiet for a
//! millisecond now and then. The pair is the unit because it is what tracing a system call costs at the very least, on
//! this machine and in this minute.

mod empty_pair;
pub(crate) mod load;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};
use onlooker::kernel::{self, Kernel, Selection, ring::Ring};
use onlooker_common::capture::Capture;
use onlooker_common::limits;
use tokio::runtime::{self, Runtime};

use self::empty_pair::EmptyPair;
use self::load::{Load, Operation};
use crate::cpu;
use crate::not_interrupted;
use crate::report::{Aim, Row};

/// Each loads the kernel programs anew, which takes a second or two.
const ROUNDS: usize = 5;

/// Pairs that a call may cost more and still be said to cost nothing: the least of the windows moves by as much.
const NOTHING: f64 = 0.02;

/// What is attached while an operation is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Bare,
    EmptyPair,
    /// The recorder, and the process is none of its business.
    NotSelected,
    Traced,
    /// Also where event loops go to wait: attached once a selected process is seen to run one and to make calls.
    Boundaries,
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    cpu::leave_to_the_measured()?;
    let mut load = Load::start()?;
    let mut least = Least::default();
    for _ in 0..ROUNDS {
        round(&mut load, &mut least)?;
    }
    Ok(rows(&least))
}

fn round(load: &mut Load, least: &mut Least) -> Result<()> {
    let nothing = &mut || {};
    for operation in load::ALL {
        least.note(Condition::Bare, operation, load.measure(operation, nothing)?);
    }
    let pair = EmptyPair::attach()?;
    for operation in load::ALL {
        least.note(Condition::EmptyPair, operation, load.measure(operation, nothing)?);
    }
    drop(pair);

    let mut recorder = Recorder::attach(load.port())?;
    for operation in load::ALL {
        least.note(Condition::NotSelected, operation, load.measure(operation, nothing)?);
    }
    recorder.select(load.pid())?;
    for operation in load::ALL {
        least.note(Condition::Traced, operation, load.measure(operation, &mut || recorder.drain())?);
    }
    recorder.kernel.attach_boundaries();
    let other = Operation::Other;
    least.note(Condition::Boundaries, other, load.measure(other, &mut || recorder.drain())?);
    not_interrupted()
}

fn rows(least: &Least) -> Vec<Row> {
    let mut rows = Vec::new();
    for operation in load::ON_SOCKETS {
        let name = operation.describe();
        let pair = least.added(Condition::EmptyPair, operation);
        let traced = least.added(Condition::Traced, operation);
        let not_selected = least.added(Condition::NotSelected, operation);
        rows.push(Row::new(format!("{name}: bare"), least.of(Condition::Bare, operation), "ns"));
        rows.push(Row::new(format!("{name}: an empty pair adds"), pair, "ns"));
        rows.push(Row::new(format!("{name}: traced adds"), traced, "ns").beside(pair, "pairs").aim(Aim::AtMost(2.5)));
        rows.push(
            Row::new(format!("{name}: not selected adds"), not_selected, "ns")
                .beside(pair, "pairs")
                .aim(Aim::AtMost(0.5)),
        );
    }
    let other = Operation::Other;
    let name = other.describe();
    let pair = least.added(Condition::EmptyPair, Operation::UnixConversation);
    let recorder = least.of(Condition::Traced, other).min(least.of(Condition::NotSelected, other));
    let recorder = recorder - least.of(Condition::Bare, other);
    let boundaries = least.added(Condition::Boundaries, other);
    rows.push(Row::new(format!("{name}: bare"), least.of(Condition::Bare, other), "ns"));
    rows.push(
        Row::new(format!("{name}: the recorder adds"), recorder, "ns").beside(pair, "pairs").aim(Aim::AtMost(NOTHING)),
    );
    rows.push(Row::new(format!("{name}: event loops' boundaries add"), boundaries, "ns").beside(pair, "pairs"));
    rows
}

/// The least time of each operation under each condition, in nanoseconds.
#[derive(Debug, Default)]
struct Least(BTreeMap<(Condition, Operation), f64>);

impl Least {
    fn note(&mut self, condition: Condition, operation: Operation, nanos: f64) {
        let least = self.0.entry((condition, operation)).or_insert(nanos);
        *least = least.min(nanos);
    }

    fn of(&self, condition: Condition, operation: Operation) -> f64 {
        self.0.get(&(condition, operation)).copied().unwrap_or(f64::NAN)
    }

    fn added(&self, condition: Condition, operation: Operation) -> f64 {
        self.of(condition, operation) - self.of(Condition::Bare, operation)
    }
}

/// The agent's kernel side, with nobody behind it who looks at the records.
struct Recorder {
    // Dropped in this order: what needs the runtime before the runtime.
    ring: Ring,
    selection: Selection,
    kernel: Kernel,
    _runtime: Runtime,
}

impl Recorder {
    /// `port` is one that was listened on before.
    fn attach(port: u16) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let inside = runtime.enter();
        let mut kernel = Kernel::load(&kernel::Options::default())?;
        let ring = kernel.ring()?;
        let capture = Capture { request: limits::REQUEST_CAPTURE, response: limits::RESPONSE_CAPTURE };
        let mut selection = kernel.selection(capture)?;
        let namespace = fs::metadata("/proc/self/ns/net").context("cannot look at the network namespace")?.ino();
        selection.listening(u32::try_from(namespace).context("the kernel numbers namespaces with 32 bits")?, port)?;
        kernel.attach()?;
        drop(inside);
        Ok(Self { ring, selection, kernel, _runtime: runtime })
    }

    fn select(&mut self, pid: u32) -> Result<()> {
        self.selection.select(pid, 0).context("cannot select the load")
    }

    fn drain(&mut self) {
        self.ring.drain(usize::MAX, |_| {});
    }
}
