//! `onlooker`: reads the command line, runs the agent, and reports how it ended.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, FromArgMatches as _};
use onlooker::agent::{Agent, Prepared, Summary, Target};
use onlooker::attach::Description;
use onlooker::cli::{self, Cli, Command, Config, Doctor, Exec, Generate, Propagation, Run, Tracing};
use onlooker::config::{self, Changes, CommandLine, Configuration, FILE_VARIABLE, Settings, Unusable};
use onlooker::detach;
use onlooker::discover::process::Process;
use onlooker::discover::select::Selectors;
use onlooker::exec::{self, ExecError, FollowedBy, User};
use onlooker::export::Output;
use onlooker::generate;
use onlooker::health::Health;
use onlooker::injection;
use onlooker::kernel::capability::{self, Report, Verdict};
use onlooker::kernel::keeper;
use onlooker::kubernetes;
use onlooker::propagation;
use onlooker::runtimes::Recogniser;
use onlooker::signals::is_ignored;
use onlooker_engine::describe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    give_bursts_back();
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, given) = match parsed {
        Ok((cli, matches)) => (cli, cli::given(&matches)),
        Err(error) => return usage_exit_code(&error),
    };
    let command_line = |tracing: &Tracing| CommandLine { tracing: tracing.clone(), given: given.clone() };
    let configured = |tracing: &Tracing| {
        let configuration = Configuration::load(command_line(tracing));
        let level = configuration.as_ref().ok().and_then(|configuration| configuration.settings.log_level);
        log_to_stderr(cli.verbose, level);
        configuration
    };
    let (outcome, failure) = match &cli.command {
        Command::Run(options) => {
            let command_line = command_line(&options.tracing);
            (run(options, configured(&options.tracing), &command_line), ExitCode::FAILURE)
        }
        // Lower codes may be the command's own.
        Command::Exec(options) => {
            let command_line = command_line(&options.tracing);
            let configuration = configured(&options.tracing).or_else(|unusable| {
                // The variable may be meant for the command's own SDK.
                if options.tracing.config.is_some() {
                    return Err(unusable);
                }
                tracing::warn!("{unusable}; {FILE_VARIABLE} is ignored");
                Ok(Configuration::without_file(command_line.clone()))
            });
            (run_command(options, configuration, &command_line), ExitCode::from(exec::FAILED_ITSELF))
        }
        Command::Doctor(options) => {
            log_to_stderr(cli.verbose, None);
            (doctor(options), ExitCode::FAILURE)
        }
        Command::Propagation(options) => {
            log_to_stderr(cli.verbose, None);
            // 1 says that something was lost.
            (check_propagation(options), ExitCode::from(2))
        }
        Command::Config(Config::Check { file }) => (check_configuration(file), ExitCode::FAILURE),
        Command::Config(Config::Print(options)) => {
            (print_configuration(configured(&options.tracing)), ExitCode::FAILURE)
        }
        Command::Generate(what) => (generated(what), ExitCode::FAILURE),
        Command::KeepSockets { table } => {
            (keeper::keep(*table).map(|()| ExitCode::SUCCESS).map_err(Into::into), ExitCode::FAILURE)
        }
        Command::SelfTestClient { port } => {
            injection::client::run(*port);
            return ExitCode::SUCCESS;
        }
    };
    let code = outcome.unwrap_or_else(|error| {
        print_line(&format!("error: {error:#}"));
        failure
    });
    detach::after_the_end();
    code
}

/// Makes the C library return large blocks of memory when they are freed. Without this it keeps them after the first one,
/// and so the memory of the largest burst.
fn give_bursts_back() {
    #[cfg(target_env = "gnu")]
    {
        /// The C library's own initial threshold.
        const THRESHOLD: libc::c_int = 128 << 10;
        // SAFETY: no other thread runs yet.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD) };
    }
}

/// Prints the help, the version or an error of usage. For `exec`, the exit code must differ from those of commands.
fn usage_exit_code(error: &clap::Error) -> ExitCode {
    // This fails only if the stream is closed.
    let _ = error.print();
    let of_exec =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).is_some_and(|name| name == "exec");
    match u8::try_from(error.exit_code()) {
        Ok(0) => ExitCode::SUCCESS,
        _ if of_exec => ExitCode::from(exec::FAILED_ITSELF),
        code => ExitCode::from(code.unwrap_or(1)),
    }
}

/// Prints a line to stderr. Stdout belongs to the traced command or to the traces.
fn print_line(line: &str) {
    // This fails only if stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "onlooker: {line}");
}

/// `configured` is the level of the configuration file, which counts without `-v`.
fn log_to_stderr(verbose: u8, configured: Option<&str>) {
    // The kernel programs log only with --kernel-log.
    let level = match (verbose, configured) {
        (0, Some(level)) => format!("{level},onlooker_ebpf=trace"),
        (0, None) => "warn,onlooker_ebpf=trace".to_owned(),
        (1, _) => "onlooker=info,warn,onlooker_ebpf=trace".to_owned(),
        _ => "onlooker=debug,info,onlooker_ebpf=trace".to_owned(),
    };
    let configured = std::env::var("RUST_LOG").ok().filter(|levels| !levels.is_empty());
    let levels = configured.and_then(|levels| levels.parse::<Targets>().ok());
    let levels = levels.unwrap_or_else(|| level.parse().expect("the levels above are valid"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // They would be printed to stderr, which panics if it is closed.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(levels).init();
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop of the agent")
}

/// The settings of a loaded configuration. Logs what in it has no effect.
fn in_effect(configuration: &Configuration) -> &Settings {
    if configuration.file.is_some() {
        describe::ignore_environment();
    }
    for warning in &configuration.warnings {
        tracing::warn!("{warning}");
    }
    &configuration.settings
}

/// Prints a line for each problem of the file, and for each key without effect.
fn check_configuration(file: &Path) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let checked = config::check(file);
    let (code, lines) = match &checked {
        Ok(warnings) => (ExitCode::SUCCESS, warnings),
        Err(unusable) => (ExitCode::FAILURE, &unusable.sentences),
    };
    for line in lines {
        writeln!(out, "{line}")?;
    }
    if code == ExitCode::SUCCESS {
        writeln!(out, "{}: valid", file.display())?;
    }
    Ok(code)
}

fn generated(what: &Generate) -> Result<ExitCode> {
    match what {
        Generate::Completions { shell } => std::io::stdout().lock().write_all(&generate::completions(*shell))?,
        Generate::Man { folder } => {
            generate::man_pages(folder).with_context(|| format!("cannot write man pages into {}", folder.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_configuration(configuration: Result<Configuration, Unusable>) -> Result<ExitCode> {
    let configuration = configuration?;
    let settings = &configuration.settings;
    let export = onlooker::export::Config::choose(&settings.tracing.choices(), &|name| settings.variable(name))?;
    write!(std::io::stdout().lock(), "{}", config::print(&configuration, &export))?;
    Ok(ExitCode::SUCCESS)
}

fn run(options: &Run, configuration: Result<Configuration, Unusable>, command_line: &CommandLine) -> Result<ExitCode> {
    let mut configuration = configuration?;
    let settings = in_effect(&configuration).clone();
    let mut selectors = Selectors::with_rules(&options.selectors, &settings.rules, &settings.general())?;
    runtime()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut changes = watch_for_changes(&configuration, "it is read again on SIGHUP only");
        // SIGHUP reads the configuration file again and reopens the file of spans, if there is one of them. Otherwise it means that the
        // terminal was closed, which is ignored under nohup.
        let is_command = settings.tracing.file.is_some() || configuration.file.is_some();
        let hang_up = SignalKind::hangup();
        let mut hang_up = (is_command || !is_ignored(hang_up.as_raw_value())).then(|| signal(hang_up)).transpose()?;
        let mut print_counters = signal(SignalKind::user_defined1())?;
        let health = settings.tracing.health.map(|address| {
            Health::serve(address).with_context(|| format!("cannot listen on {address} for /healthz and /readyz"))
        });
        let health = health.transpose()?;
        let target = Target::Matching(selectors.clone());
        let mut agent = Prepared::new(&settings)?.start(target, Output::stdout)?;
        // What is recorded until then has fewer parents.
        let mut ready = std::pin::pin!(agent.is_ready());
        let mut is_ready = false;
        let mut applied = None;
        let watched = loop {
            let mut request = Request::Stop;
            let until = async {
                tokio::select! {
                    () = &mut ready, if !is_ready => request = Request::SayReady,
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = received(hang_up.as_mut()) => if is_command { request = Request::ReadAgain },
                    () = changed(changes.as_mut()) => request = Request::Reconfigure,
                    selected = rules_applied(&mut applied) => request = Request::SayInEffect(selected),
                    _ = print_counters.recv() => request = Request::PrintCounters,
                }
            };
            match (agent.watch_until(until).await, request) {
                (Ok(()), Request::SayReady) => {
                    is_ready = true;
                    if let Some(health) = &health {
                        health.ready();
                    }
                    print_line(&format!("ready: {} processes selected", agent.selected));
                }
                (Ok(()), Request::PrintCounters) => {
                    print_line("so far:");
                    summarise(&agent.summary());
                }
                (Ok(()), Request::ReadAgain | Request::Reconfigure) => {
                    if matches!(request, Request::ReadAgain) {
                        agent.reopen_files();
                        if let Some(changes) = &mut changes {
                            changes.read_now();
                        }
                    }
                    if configuration.file.is_some() {
                        try_to_reconfigure(&mut agent, &mut configuration, &mut selectors, command_line, &mut applied);
                    }
                }
                (Ok(()), Request::SayInEffect(selected)) => say_in_effect(&configuration, selected),
                (watched, _) => break watched,
            }
        };
        summarise(&agent.stop());
        watched.map(|()| ExitCode::SUCCESS)
    })
}

/// Watches the configuration file, if there is one. `otherwise`: what holds if that cannot be done.
fn watch_for_changes(configuration: &Configuration, otherwise: &str) -> Option<Changes> {
    let file = configuration.file.as_deref()?;
    match Changes::watch(file, configuration.text.clone()) {
        Ok(changes) => Some(changes),
        Err(error) => {
            tracing::warn!(%error, "cannot watch the configuration file; {otherwise}");
            None
        }
    }
}

fn say_in_effect(configuration: &Configuration, selected: Option<usize>) {
    if let (Some(selected), Some(file)) = (selected, &configuration.file) {
        print_line(&format!("{} is in effect: {selected} processes selected", file.display()));
    }
}

/// Reads the configuration file again and applies it, or says why that is not possible. `applied`: where it is said that it was.
fn try_to_reconfigure(
    agent: &mut Agent,
    configuration: &mut Configuration,
    selectors: &mut Selectors,
    command_line: &CommandLine,
    applied: &mut Option<oneshot::Receiver<usize>>,
) {
    match reconfigure(agent, configuration, selectors, command_line) {
        Ok(notice) => *applied = notice,
        Err(error) => print_line(&format!("error: {error:#}; the former configuration stays in force")),
    }
}

/// Reads the configuration file again and applies it. If that fails, everything stays as it was.
fn reconfigure(
    agent: &mut Agent,
    configuration: &mut Configuration,
    selectors: &mut Selectors,
    command_line: &CommandLine,
) -> Result<Option<oneshot::Receiver<usize>>> {
    let read = configuration.read_again(command_line.clone())?;
    let rules = selectors.followed_by(&read.settings.rules, &read.settings.general())?;
    let applied = agent.reconfigure(&read.settings, rules.clone())?;
    for sentence in read.warnings.iter().chain(&read.needing_restart(configuration)) {
        tracing::warn!("{sentence}");
    }
    (*configuration, *selectors) = (read, rules);
    Ok(applied)
}

/// Waits until the rules of the file are applied, or forever if there are none to be applied. None if others came first.
async fn rules_applied(applied: &mut Option<oneshot::Receiver<usize>>) -> Option<usize> {
    match applied {
        Some(notice) => {
            let selected = notice.await.ok();
            *applied = None;
            selected
        }
        None => std::future::pending().await,
    }
}

/// Waits until the configuration file changes, or forever if there is none.
async fn changed(changes: Option<&mut Changes>) {
    match changes {
        Some(changes) => changes.changed().await,
        None => std::future::pending().await,
    }
}

/// Why the agent stops watching, for a moment or for good.
#[derive(Clone, Copy)]
enum Request {
    SayReady,
    Stop,
    PrintCounters,
    /// The rules of the configuration file are applied. The number of selected processes, unless others came first.
    SayInEffect(Option<usize>),
    /// The configuration file has changed.
    Reconfigure,
    /// The same, and files of spans are to be opened again.
    ReadAgain,
}

/// Waits for a signal, or forever if it is ignored.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Prints the counters by name, without those that are 0.
fn summarise(summary: &Summary) {
    let width = summary.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
    for (name, meaning, value) in summary.iter().filter(|(_, _, value)| *value > 0) {
        print_line(&format!("{name:width$} {value:>10}  {meaning}"));
    }
}

/// Traces a command from its first instruction. Returns its exit code, even if tracing fails later.
fn run_command(
    options: &Exec,
    configuration: Result<Configuration, Unusable>,
    command_line: &CommandLine,
) -> Result<ExitCode> {
    let mut configuration = configuration?;
    let settings = in_effect(&configuration).clone();
    if settings.rules.iter().any(|rule| rule.excludes) {
        tracing::warn!("rules exclude nothing here: the command and all that it starts are traced");
    }
    runtime()?.block_on(async {
        let refused = |error: &ExecError| {
            print_line(&format!("error: {error}"));
            Ok(ExitCode::from(error.exit_code()))
        };
        let user = options.user.as_deref().map(User::named).transpose();
        let starting = match user.and_then(|user| exec::start(&options.command, user)) {
            Ok(starting) => starting,
            Err(error) => return refused(&error),
        };
        let prepared = Prepared::new(&settings)?;
        let mut stopped = match starting.stopped() {
            Ok(stopped) => stopped,
            Err(error) => return refused(&error),
        };
        if let FollowedBy::Descent { why } = stopped.followed() {
            print_line(&format!("no cgroup of its own for the command ({why}); what it starts is followed by descent"));
        }
        let (pid, program) = (stopped.pid(), stopped.program().to_owned());
        let mut selectors = stopped.selectors()?.treated_by(&settings.rules, &settings.general())?;
        let listeners = stopped.listeners();
        let target = Target::Command { pid, program, selectors: selectors.clone(), listeners };
        let mut agent = prepared.start(target, Output::stderr)?;
        let running = match stopped.release() {
            Ok(running) => running,
            Err(error) => return refused(&error),
        };
        // SIGHUP is for the command.
        let mut changes = watch_for_changes(&configuration, "it is not read again");
        let mut applied = None;
        let mut end = std::pin::pin!(running.wait());
        let mut ended = None;
        let watched = loop {
            let mut request = Request::Stop;
            let until = async {
                tokio::select! {
                    end = end.as_mut() => ended = Some(end),
                    () = changed(changes.as_mut()) => request = Request::Reconfigure,
                    selected = rules_applied(&mut applied) => request = Request::SayInEffect(selected),
                }
            };
            match (agent.watch_until(until).await, request) {
                (Ok(()), Request::Reconfigure) => {
                    try_to_reconfigure(&mut agent, &mut configuration, &mut selectors, command_line, &mut applied);
                }
                (Ok(()), Request::SayInEffect(selected)) => say_in_effect(&configuration, selected),
                (watched, _) => break watched,
            }
        };
        summarise(&agent.stop());
        if let Err(error) = watched {
            print_line(&format!("error: {error:#}; the command continues untraced"));
        }
        let ended = match ended {
            Some(ended) => ended,
            None => end.await,
        }?;
        if let Some((cgroup, pids)) = &ended.left {
            print_line(&format!("the command left processes running ({pids:?}) in {}", cgroup.display()));
        }
        Ok(ExitCode::from(ended.exit_code()))
    })
}

fn doctor(options: &Doctor) -> Result<ExitCode> {
    if let Some(pid) = options.pid {
        let description = Description::of(&Process::open(pid)?, &Recogniser::default());
        let mut out = std::io::stdout().lock();
        if options.json {
            serde_json::to_writer_pretty(&mut out, &description)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{description}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // The ring is registered with the event loop even if nothing is read from it.
    let report = runtime()?.block_on(async {
        let kubernetes = kubernetes::examine(options.kubernetes, options.kubernetes_node.as_deref()).await;
        capability::examine(&injection::examine(), kubernetes)
    });
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&report, &mut out)?;
    }
    Ok(if report.can_trace { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks whether services pass a trace context on.
fn check_propagation(options: &Propagation) -> Result<ExitCode> {
    let report = runtime()?.block_on(propagation::check(options))?;
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.survives { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
