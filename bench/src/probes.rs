//! The overhead of the probes: per socket operation, traced and not selected, and per other system call.
//!
//! The unit is a pair of empty tracepoint programs at a system call's entry and exit, measured in the same run: the least
//! that tracing a system call costs. Each figure is the minimum of many short windows in several rounds, because even a
//! busy machine is idle for a millisecond now and then.

mod empty_pair;
mod goroutine;
mod inside;
pub(crate) mod load;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use onlooker::attach;
use onlooker::discover::process::Process;
use onlooker::kernel::{
    self, FunctionLink, FunctionPrograms, Kernel, Location, Selection, SharedKernel, UnitSources, ring::Ring,
};
use onlooker_common::capture::Capture;
use onlooker_common::limits;
use tokio::runtime::{self, Runtime};

use self::empty_pair::EmptyPair;
use self::inside::Statistics;
use self::load::{Load, Operation};
use crate::cpu;
use crate::not_interrupted;
use crate::report::{Aim, Row};

/// Each round loads the kernel programs again, which takes a second or two.
const ROUNDS: usize = 5;

/// A difference of this many pairs counts as nothing: the minimum of the windows varies by as much.
const NOTHING: f64 = 0.02;

/// The programs that are attached while an operation is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Bare,
    EmptyPair,
    /// The recorder, while the process is not selected.
    NotSelected,
    /// The same, as the time within the programs.
    NotSelectedInside,
    Traced,
    /// Also its goroutine is read, and a uprobe is attached to the function.
    WithUnit,
    /// Also the tracepoints where event loops wait. The agent attaches them while a selected process needs them.
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

/// What an empty pair adds to an operation on loopback TCP, in nanoseconds.
pub(crate) fn empty_pair() -> Result<f64> {
    let mut load = Load::start()?;
    let mut least = Least::default();
    let operation = Operation::TcpConversation;
    for _ in 0..ROUNDS {
        least.note(Condition::Bare, operation, load.measure(operation, &mut || {})?);
        let pair = EmptyPair::attach()?;
        least.note(Condition::EmptyPair, operation, load.measure(operation, &mut || {})?);
        drop(pair);
    }
    Ok(least.added(Condition::EmptyPair, operation))
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
    for operation in load::ON_SOCKETS {
        let statistics = Statistics::enable()?;
        load.measure(operation, nothing)?;
        least.note(Condition::NotSelectedInside, operation, statistics.per_run()?);
    }
    recorder.select(load.pid())?;
    for operation in load::ALL {
        least.note(Condition::Traced, operation, load.measure(operation, &mut || recorder.drain())?);
    }
    let observed = recorder.read_unit(load)?;
    for operation in load::ON_SOCKETS.into_iter().chain([Operation::Function]) {
        least.note(Condition::WithUnit, operation, load.measure(operation, &mut || recorder.drain())?);
    }
    drop(observed);
    recorder.attach_boundaries();
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
        let unit = least.of(Condition::WithUnit, operation) - least.of(Condition::Traced, operation);
        rows.push(
            Row::new(format!("{name}: a goroutine adds"), unit, "ns").beside(pair, "pairs").aim(Aim::AtMost(0.25)),
        );
        rows.push(
            Row::new(format!("{name}: not selected adds"), not_selected, "ns")
                .beside(pair, "pairs")
                .aim(Aim::AtMost(0.5)),
        );
        let inside = least.of(Condition::NotSelectedInside, operation);
        rows.push(Row::new(format!("{name}: not selected, of that within the program"), inside, "ns"));
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
    let function = Operation::Function;
    let name = "a request of Go's net/http client: the uprobe adds";
    rows.push(Row::new(name.to_owned(), least.added(Condition::WithUnit, function), "ns").beside(pair, "pairs"));
    rows
}

/// The minimum time of each operation under each condition, in nanoseconds.
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

/// The kernel programs and the ring, without the rest of the agent.
struct Recorder {
    // Fields are dropped in this order. The runtime must be last, because the others need it.
    ring: Ring,
    selection: Selection,
    units: UnitSources,
    kernel: SharedKernel,
    _runtime: Runtime,
}

impl Recorder {
    /// Attaches the recorder. `port` is the load's listening port, which was opened before.
    fn attach(port: u16) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let inside = runtime.enter();
        let mut kernel = Kernel::load(&kernel::Options::default())?;
        let ring = kernel.ring()?;
        let capture = Capture { request: limits::REQUEST_CAPTURE, response: limits::RESPONSE_CAPTURE };
        let mut selection = kernel.selection(capture)?;
        let units = kernel.unit_sources()?;
        let namespace = fs::metadata("/proc/self/ns/net").context("cannot look at the network namespace")?.ino();
        selection.listening(u32::try_from(namespace).context("the kernel numbers namespaces with 32 bits")?, port)?;
        kernel.attach(&[])?;
        drop(inside);
        let kernel = Arc::new(Mutex::new(Some(kernel)));
        Ok(Self { ring, selection, units, kernel, _runtime: runtime })
    }

    fn select(&mut self, pid: u32) -> Result<()> {
        self.selection.select(pid, 0).context("cannot select the load")
    }

    /// Reads the goroutine of the load, and observes its function until the result is dropped.
    fn read_unit(&mut self, load: &Load) -> Result<FunctionLink> {
        self.units.set(load.pid(), load.unit()).context("cannot read the load's goroutine")?;
        let mappings = attach::mappings(&Process::open(load.pid())?)?;
        let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&load.function()));
        let mapping = mapping.context("the load has mapped its function")?;
        let offset = load.function() - mapping.start + mapping.offset;
        let location = Location { program: "go_round_trip", cookie: 0, path: Path::new(&mapping.name), offset };
        let attachment = FunctionPrograms::new(Arc::clone(&self.kernel)).attach(load.pid(), &[location]);
        let mut attachment = attachment.context("the kernel side is loaded")?;
        if let Some((_, error)) = attachment.failed.pop() {
            return Err(error.into());
        }
        attachment.links.pop().context("the function has a link")
    }

    fn attach_boundaries(&self) {
        if let Some(kernel) = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            kernel.attach_boundaries();
        }
    }

    fn drain(&mut self) {
        self.ring.drain(usize::MAX, |_| {});
    }
}
