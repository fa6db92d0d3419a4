//! Measures the overhead of tracing, as ratios within one run. `cargo xtask bench` builds and runs this program.
//!
//! Each part is a module and a row of [`PARTS`], and returns [`report::Row`]s. Compared measurements alternate, so that
//! a machine that becomes slower or faster does so for all of them. Nothing is written but the report on stdout.

mod cpu;
mod exec_start;
mod nginx;
mod parsers;
mod pipeline;
mod probes;
mod report;
mod statistics;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use clap::builder::{PossibleValue, PossibleValuesParser};
use onlooker_tests::wait;

use crate::report::{Report, Row};

/// Measures the overhead of tracing.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask bench")]
struct Options {
    /// Measure only these parts
    #[arg(value_parser = names())]
    parts: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The agent that is measured. By default the one beside this program
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Be the process that the probes are measured on
    #[arg(long, hide = true)]
    load: bool,
    /// Be the command whose start is measured
    #[arg(long, hide = true)]
    now: bool,
}

/// A part of the report.
struct Part {
    name: &'static str,
    about: &'static str,
    /// Whether it loads programs into the kernel, which needs root.
    needs_kernel: bool,
    measure: fn(&Options) -> Result<Vec<Row>>,
}

const PARTS: &[Part] = &[
    Part {
        name: "probes",
        about: "A socket operation, traced and not, and another system call",
        needs_kernel: true,
        measure: |_| probes::measure(),
    },
    Part {
        name: "nginx",
        about: "nginx under load, traced and not",
        needs_kernel: true,
        measure: |options| nginx::measure(options.agent.as_deref()),
    },
    Part {
        name: "tls",
        about: "A read and a write of TLS libraries, traced and not",
        needs_kernel: true,
        measure: |options| tls::measure(options.agent.as_deref()),
    },
    Part {
        name: "exec_start",
        about: "Until a command of `onlooker exec` runs",
        needs_kernel: true,
        measure: |options| exec_start::measure(options.agent.as_deref()),
    },
    Part {
        name: "pipeline",
        about: "From the kernel's records to encoded OTLP, without a kernel",
        needs_kernel: false,
        measure: |_| pipeline::measure(),
    },
    Part { name: "parsers", about: "Each parser by itself", needs_kernel: false, measure: |_| parsers::measure() },
];

fn names() -> PossibleValuesParser {
    PARTS.iter().map(|part| PossibleValue::new(part.name).help(part.about)).collect::<Vec<_>>().into()
}

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
    if options.now {
        return exec_start::print_now();
    }
    // Ctrl-C must stop what was started too.
    wait::handle_signals()?;
    let is_wanted = |part: &&Part| options.parts.is_empty() || options.parts.iter().any(|name| name == part.name);
    let parts: Vec<_> = PARTS.iter().filter(is_wanted).collect();
    check_privileges(&parts)?;
    let mut report = Report::new();
    for part in parts {
        report.progress(&format!("measuring {}", part.name));
        let rows = (part.measure)(options).with_context(|| format!("cannot measure {}", part.name))?;
        report.add(part.name, rows);
    }
    report.print(options.json)
}

/// Fails before the first measurement if a part needs root and this process does not run as root.
fn check_privileges(parts: &[&Part]) -> Result<()> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let is_root = unsafe { libc::geteuid() == 0 };
    if let Some(part) = parts.iter().find(|part| part.needs_kernel && !is_root) {
        let others: Vec<_> = PARTS.iter().filter(|part| !part.needs_kernel).map(|part| part.name).collect();
        bail!(
            "{} needs root, because it loads programs into the kernel: run `sudo -E env PATH=\"$PATH\" cargo xtask bench`, \
             or `cargo xtask bench {}`",
            part.name,
            others.join(" ")
        );
    }
    Ok(())
}

/// Fails after SIGINT or SIGTERM, so that what was started is stopped.
fn not_interrupted() -> Result<()> {
    ensure!(!wait::interrupted(), "interrupted");
    Ok(())
}
