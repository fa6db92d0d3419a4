//! `onlooker`: reads the command line, runs the agent, says how it ended.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use onlooker::agent::{Agent, Summary};
use onlooker::cli::{Cli, Command, Doctor, Exec, Run};
use onlooker::discover::select::Selectors;
use onlooker::exec::{self, FollowedBy};
use onlooker::export::Output;
use onlooker::kernel::capability::{self, Report, Verdict};
use onlooker::signals::is_ignored;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return not_understood(&refused),
    };
    log_to_stderr(cli.verbose);
    let (outcome, failure) = match cli.command {
        Command::Run(options) => (run(&options), ExitCode::FAILURE),
        // Any lower one would pass for the command's own.
        Command::Exec(options) => (run_command(&options), ExitCode::from(exec::FAILED_ITSELF)),
        Command::Doctor(options) => (doctor(&options), ExitCode::FAILURE),
    };
    outcome.unwrap_or_else(|error| {
        tell(&format!("error: {error:#}"));
        failure
    })
}

/// Help and version are asked for; all else is an error, which of `exec` must not pass for the command's.
fn not_understood(refused: &clap::Error) -> ExitCode {
    // Nobody to tell if it is closed.
    let _ = refused.print();
    let of_exec =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).is_some_and(|name| name == "exec");
    match u8::try_from(refused.exit_code()) {
        Ok(0) => ExitCode::SUCCESS,
        _ if of_exec => ExitCode::from(exec::FAILED_ITSELF),
        code => ExitCode::from(code.unwrap_or(1)),
    }
}

/// Ours goes to stderr, all of it: stdout is the traced command's, or the traces'.
fn tell(line: &str) {
    // Nobody to tell if stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "onlooker: {line}");
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        // The kernel programs are silent unless they were asked.
        0 => "warn,onlooker_ebpf=trace",
        1 => "onlooker=info,warn,onlooker_ebpf=trace",
        _ => "onlooker=debug,info,onlooker_ebpf=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would be told on stderr, with a panic where that is closed.
        .log_internal_errors(false)
        .init();
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the agent's event loop")
}

fn run(options: &Run) -> Result<ExitCode> {
    let selectors = Selectors::new(&options.selectors)?;
    runtime()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // The terminal was closed. Under nohup the agent is to outlive that.
        let hang_up = SignalKind::hangup();
        let mut hang_up = (!is_ignored(hang_up.as_raw_value())).then(|| signal(hang_up)).transpose()?;
        let mut ask = signal(SignalKind::user_defined1())?;
        let mut agent = Agent::start(&options.tracing, selectors, Output::stdout())?;
        tell(&format!("ready: {} processes selected", agent.selected));
        let watched = loop {
            let mut asked = false;
            let until = async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = received(hang_up.as_mut()) => {}
                    _ = ask.recv() => asked = true,
                }
            };
            match agent.watch_until(until).await {
                Ok(()) if asked => {
                    tell("so far:");
                    summarise(&agent.summary());
                }
                watched => break watched,
            }
        };
        summarise(&agent.stop());
        watched.map(|()| ExitCode::SUCCESS)
    })
}

/// Waits for a signal, for ever for one that is not listened to.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// What was seen, exported and lost, by name. What never happened is not worth a line.
fn summarise(summary: &Summary) {
    let width = summary.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
    for (name, meaning, value) in summary.iter().filter(|(_, _, value)| *value > 0) {
        tell(&format!("{name:width$} {value:>10}  {meaning}"));
    }
}

/// Traces a command from its first instruction. Its exit code is ours, whatever becomes of the tracing.
fn run_command(options: &Exec) -> Result<ExitCode> {
    runtime()?.block_on(async {
        let stopped = match exec::start(&options.command) {
            Ok(stopped) => stopped,
            Err(error) => {
                tell(&format!("error: {error}"));
                return Ok(ExitCode::from(error.exit_code()));
            }
        };
        if let FollowedBy::Descent { why } = stopped.followed() {
            tell(&format!("no cgroup of its own for the command ({why}): what it starts is followed by descent"));
        }
        let mut agent = Agent::start(&options.tracing, stopped.selectors()?, Output::stderr())?;
        let running = match stopped.release() {
            Ok(running) => running,
            Err(error) => {
                tell(&format!("error: {error}"));
                return Ok(ExitCode::from(error.exit_code()));
            }
        };
        let mut end = std::pin::pin!(running.wait());
        let mut outcome = None;
        let watched = agent.watch_until(async { outcome = Some(end.as_mut().await) }).await;
        summarise(&agent.stop());
        if let Err(error) = watched {
            tell(&format!("error: {error:#}; the command goes on and is not traced any more"));
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => end.await,
        }?;
        if let Some((cgroup, pids)) = &outcome.left {
            tell(&format!("the command left processes running ({pids:?}) in {}", cgroup.display()));
        }
        Ok(ExitCode::from(outcome.exit_code()))
    })
}

fn doctor(options: &Doctor) -> Result<ExitCode> {
    // The ring is watched by the event loop even if nothing is read from it.
    let report = runtime()?.block_on(async { capability::examine() });
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&report, &mut out)?;
    }
    Ok(if report.can_trace { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report, out: &mut impl std::io::Write) -> std::io::Result<()> {
    writeln!(out, "Linux {} on {}", report.kernel, report.architecture)?;
    for finding in &report.findings {
        let mark = match finding.verdict {
            Verdict::Works => "works  ",
            Verdict::Reduced => "reduced",
            Verdict::Missing => "MISSING",
        };
        writeln!(out, "  {mark}  {:<12} {}", finding.name, finding.detail)?;
    }
    writeln!(out, "{}", if report.can_trace { "Tracing works here." } else { "Tracing cannot work here." })
}
