//! Starts other programs, and prints: no other module writes to stdout or stderr.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// The folder of the workspace that this xtask was compiled in.
pub(crate) fn workspace() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(xtask.parent().context("the xtask crate is a folder of the workspace")?.to_path_buf())
}

/// Prints a line to stdout.
#[expect(clippy::print_stdout, reason = "the only place that prints")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Does something, and prints how long it took.
pub(crate) fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = act();
    say(&format!("{what}: {} s", start.elapsed().as_secs()));
    result
}

/// Prints an error with its causes to stderr.
#[expect(clippy::print_stderr, reason = "the only place that prints")]
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// The cargo that runs this program, in the workspace.
pub(crate) fn cargo() -> Result<Command> {
    in_workspace(Path::new(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// A cargo plugin that was installed apart from cargo, in the workspace.
pub(crate) fn cargo_plugin(program: &Path) -> Result<Command> {
    in_workspace(program)
}

fn in_workspace(program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(workspace()?);
    // `cargo run` sets these for xtask. Build scripts (ring's) would take them for a change, and build again each time.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Runs a command with this process's stdout and stderr. Fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a command and returns its stdout. Fails, with its stderr, unless it succeeds.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        bail!("{} failed ({}): {}", line(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed something that is not UTF-8", name(command)))
}

/// Calls `work` with every item, as many at a time as there are processors. Returns the results in the order of the items.
pub(crate) fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some(item) = items.get(index) else { return results };
            results.push((index, work(item)));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("what is to be done returns its errors")).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Reads a text file.
pub(crate) fn file(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Fails with the command to use instead, unless this process runs as root.
pub(crate) fn need_root(verb: &str, why: &str) -> Result<()> {
    if !is_root() {
        bail!("{why}: run `sudo -E env PATH=\"$PATH\" cargo xtask {verb}`");
    }
    Ok(())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
