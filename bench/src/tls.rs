//! What it costs to read TLS, per call of the library, with the agent and with an empty pair of uprobes on the same functions.
//!
//! One process has both ends of a connection and exchanges HTTP requests over it. It has a processor of its own. Each round measures
//! it untraced, with the empty pair and with the agent. A row is the median of all rounds. The ratio is the median of the ratios
//! within each round.

mod empty;
mod load;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_elf::symbols::{Definition, Tables};
use onlooker_elf::{Elf, code};
use onlooker_tests::tls::Certificate;
use onlooker_tests::wait::within;
use onlooker_tests::{Agent, CountingCollector, World, agent_binary};

use self::empty::At;
use self::load::Load;
use crate::cpu;
use crate::not_interrupted;
use crate::report::{Aim, Row};
use crate::statistics::median;

const ROUNDS: usize = 6;

/// The agent attaches to a library within this time.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// What is measured.
struct Subject {
    name: &'static str,
    start: fn(&World, &Certificate) -> Result<Load>,
    /// What the load is told to do.
    command: &'static str,
    /// The functions that are called, with the file that has them.
    functions: fn(&Load) -> Result<Functions>,
    /// How many times more than the empty pair it may add.
    at_most: f64,
}

const SUBJECTS: [Subject; 3] = [
    Subject {
        name: "OpenSSL on a socket",
        start: Load::openssl,
        command: "socket",
        functions: openssl_functions,
        at_most: 1.15,
    },
    Subject {
        name: "OpenSSL on memory",
        start: Load::openssl,
        command: "memory",
        functions: openssl_functions,
        at_most: 1.15,
    },
    Subject { name: "Go crypto/tls", start: Load::go, command: "go", functions: go_functions, at_most: 1.2 },
];

/// Places in a file.
struct Functions {
    file: PathBuf,
    begin: Vec<u64>,
    /// Return instructions, for Go. Empty: the returns are observed as the agent does, by the return address.
    returns: Vec<u64>,
}

/// Nanoseconds of a call in one round.
struct Round {
    bare: f64,
    pair: f64,
    traced: f64,
}

pub(crate) fn measure(agent: Option<&Path>) -> Result<Vec<Row>> {
    let agent = agent.map_or_else(agent_binary, |path| Ok(path.to_path_buf()))?;
    cpu::leave_to_the_measured()?;
    World::story("the measurement of TLS", |world| {
        let certificate = Certificate::make(world)?;
        let mut rows = Vec::new();
        for subject in &SUBJECTS {
            let mut load = (subject.start)(world, &certificate)?;
            let rounds: Result<Vec<_>> = (0..ROUNDS).map(|_| subject.round(world, &agent, &mut load)).collect();
            rows.extend(subject.rows(&rounds?));
        }
        Ok(rows)
    })
}

impl Subject {
    fn round(&self, world: &World, agent: &Path, load: &mut Load) -> Result<Round> {
        not_interrupted()?;
        let bare = load.measure(self.command)?;
        let functions = (self.functions)(load)?;
        let begin = empty::attach(&functions.file, &functions.begin, At::Instructions, load.pid())?;
        let returns = match &functions.returns[..] {
            [] => empty::attach(&functions.file, &functions.begin, At::Returns, load.pid())?,
            returns => empty::attach(&functions.file, returns, At::Instructions, load.pid())?,
        };
        let pair = load.measure(self.command)?;
        drop((begin, returns));

        let collector = CountingCollector::start()?;
        let options = ["--pid", &load.pid().to_string(), "--verbose", "--export", "otlp"];
        let environment =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        let mut agent = Agent::select(world, agent, &options, &environment)?;
        agent.wait_for_log(within(READ_WITHIN), "TLS is read pid=")?;
        // The connection's socket becomes known.
        load.measure(self.command)?;
        let traced = load.measure(self.command)?;
        agent.finish()?;
        ensure!(collector.spans() > 0, "{}: no request has a span", self.name);
        Ok(Round { bare, pair, traced })
    }

    fn rows(&self, rounds: &[Round]) -> Vec<Row> {
        let name = self.name;
        let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
        let ratio = of(|round| (round.traced - round.bare) / (round.pair - round.bare));
        vec![
            Row::new(format!("{name}: a read or a write, bare"), of(|round| round.bare), "ns"),
            Row::new(format!("{name}: an empty pair of uprobes adds"), of(|round| round.pair - round.bare), "ns"),
            Row::new(format!("{name}: traced adds"), of(|round| round.traced - round.bare), "ns")
                .ratio(ratio, "pairs")
                .aim(Aim::AtMost(self.at_most)),
        ]
    }
}

/// The library that the process has mapped.
fn openssl_functions(load: &Load) -> Result<Functions> {
    let maps = format!("/proc/{}/maps", load.pid());
    let maps = fs::read_to_string(&maps).with_context(|| format!("cannot read {maps}"))?;
    let file =
        maps.lines().find_map(|line| line.split_ascii_whitespace().last().filter(|path| path.contains("libssl")));
    let file = PathBuf::from(file.context("the load has no libssl")?);
    let bytes = read(&file)?;
    let bytes: &[u8] = &bytes;
    let elf = Elf::open(&bytes).context("libssl is not an ELF file")?;
    let tables = Tables::read(&elf);
    let place = |name: &str| elf.offset_of(tables.find(name)?.address);
    let begin: Option<_> = ["SSL_write", "SSL_read"].into_iter().map(place).collect();
    Ok(Functions { file, begin: begin.context("libssl has no SSL_write or SSL_read")?, returns: Vec::new() })
}

fn go_functions(load: &Load) -> Result<Functions> {
    let file = load.program().to_path_buf();
    let bytes = read(&file)?;
    let bytes: &[u8] = &bytes;
    let elf = Elf::open(&bytes).context("the load is not an ELF file")?;
    let tables = Tables::read(&elf);
    let (mut begin, mut returns) = (Vec::new(), Vec::new());
    for name in ["crypto/tls.(*Conn).Write", "crypto/tls.(*Conn).Read"] {
        let Definition { address, size } = tables.find(name).with_context(|| format!("the load has no {name}"))?;
        begin.push(elf.offset_of(address).context("its code is in the file")?);
        returns.extend(code::returns(&elf, &(address..address + size)).context("its return instructions are known")?);
    }
    Ok(Functions { file, begin, returns })
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
