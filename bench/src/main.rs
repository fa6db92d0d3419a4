//! What Onlooker costs, as ratios within one run: `cargo xtask bench` builds and runs this.
//!
//! One part, one module: `probes` (a traced socket operation beside a bare one), `nginx` (a real server, traced and
//! not), `pipeline` (from recorded Events to encoded OTLP, no kernel) and `parsers` (each protocol's alone). Each gives
//! [`report::Row`]s; nothing is written but the table. What is compared is interleaved, so that a machine that grows
//! slower or faster meanwhile does so for all that is compared.

mod cpu;
mod nginx;
mod parsers;
mod pipeline;
mod probes;
mod report;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use onlooker_tests::wait;

use crate::report::{Report, Row};

/// Measures what Onlooker costs.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask bench")]
struct Options {
    /// Only these parts; all of them unless some are named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The agent that traces nginx; beside this program unless it is said where
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Be the process that the probes are measured on
    #[arg(long, hide = true)]
    load: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A socket operation, traced and not, and another system call
    Probes,
    /// nginx under wrk, traced and not
    Nginx,
    /// From recorded Events to encoded OTLP, without a kernel
    Pipeline,
    /// Each protocol's parser
    Parsers,
}

const ALL: [Part; 4] = [Part::Probes, Part::Nginx, Part::Pipeline, Part::Parsers];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.load {
        return probes::load::serve();
    }
    // From here on Ctrl-C too stops what was started.
    wait::handle_signals()?;
    let parts = if options.parts.is_empty() { &ALL[..] } else { &options.parts };
    let mut report = Report::new();
    for part in parts {
        let name = format!("{part:?}").to_lowercase();
        report.progress(&format!("measuring {name}"));
        let rows: Vec<Row> = match part {
            Part::Probes => probes::measure(),
            Part::Nginx => nginx::measure(options.agent.as_deref()),
            Part::Pipeline => pipeline::measure(),
            Part::Parsers => parsers::measure(),
        }
        .with_context(|| format!("cannot measure {name}"))?;
        report.add(&name, rows);
    }
    report.print(options.json)
}

/// Fails once a signal has asked this process to end: what was started is stopped on the way out.
fn not_interrupted() -> Result<()> {
    ensure!(!wait::interrupted(), "interrupted");
    Ok(())
}
