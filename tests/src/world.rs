//! A cgroup and a folder of its own for the programs of one test, and how to run something in it.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::process::{join_before_exec, tail};
use crate::wait::{self, within};

/// An agent loads its programs in that, on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// The variable that names a folder where what failed stories leave is kept.
const KEEP: &str = "ONLOOKER_KEEP";

/// How much is shown of each log when a story fails: there are several, and the error is below them.
const LOG_LINES_SHOWN: usize = 12;

/// Where the programs of one test run. Cheap to clone: every server keeps its world.
#[derive(Debug, Clone)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Dropped in this order: what runs, then what it writes to.
    cgroup: Cgroup,
    dir: TempDir,
}

impl World {
    /// An empty world. Needs root, for the cgroup.
    pub fn create() -> Result<Self> {
        go_first();
        let cgroup = Cgroup::create()?;
        let dir = tempfile::Builder::new()
            .prefix(&cgroup.prefix_of_folders())
            // Servers that run under accounts of their own must be able to look into it.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot create a temporary folder")?;
        Ok(Self(Arc::new(Inner { cgroup, dir })))
    }

    /// Tells `story` in a new world. When it fails of itself, the error carries the end of every log.
    pub fn story<T>(name: &str, story: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let world = Self::create()?;
        let told = story(&world);
        told.map_err(|error| {
            if wait::interrupted() {
                return error;
            }
            let error = match world.keep() {
                Ok(Some(dir)) => error.context(format!("what it left is kept in {}", dir.display())),
                Ok(None) => error,
                Err(why) => error.context(format!("{why:#}")),
            };
            error.context(format!("{name} failed; the logs end with\n{}", world.logs()))
        })
    }

    /// The folder for logs, sockets, configuration and data; removed with the world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// The cgroup that the servers run in.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.0.cgroup
    }

    /// A command whose environment has nothing of ours in it but what finding programs takes.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
            .env("HOME", self.dir())
            .env("LANG", "C.UTF-8")
            .current_dir(self.dir());
        command
    }

    /// Runs a command to its end, in the watched cgroup, and returns what it printed. Fails unless it succeeds.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        join_before_exec(command, self, true)?;
        self.run_unwatched(command)
    }

    /// Runs a command to its end, in the watched cgroup, and returns how it ended. What it prints is dropped.
    pub fn run_to_end(&self, command: &mut Command) -> Result<ExitStatus> {
        join_before_exec(command, self, true)?;
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().with_context(|| format!("cannot start {program}"))
    }

    /// Runs a command to its end, outside of the watched cgroup; gives what it printed, on stdout and stderr not much, and
    /// how it ended. One that hangs is killed.
    pub fn ask(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let ended = wait::until(within(ANSWERS_WITHIN), &format!("end of {program}"), || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill().with_context(|| format!("cannot kill {program}"))?;
        }
        let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
        ended.with_context(|| format!("until then it printed {output:?}"))?;
        Ok(output)
    }

    /// Runs a command to its end, outside of the watched cgroup. Fails unless it succeeds.
    pub fn run_unwatched(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{program} failed ({}): {}", output.status, stderr.trim());
        }
        Ok(output)
    }

    /// Runs curl in the watched cgroup and returns the body. An HTTP error status is not a failure; no answer within 60 s
    /// is.
    pub fn curl(&self, arguments: &[&str]) -> Result<String> {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]).args(arguments);
        Ok(String::from_utf8_lossy(&self.run(&mut curl)?.stdout).into_owned())
    }

    /// Copies logs, configuration and spans to a folder of their own in `$ONLOOKER_KEEP`, if that is set.
    fn keep(&self) -> Result<Option<PathBuf>> {
        let Some(keep) = env::var_os(KEEP) else { return Ok(None) };
        let dir = Path::new(&keep).join(self.dir().file_name().unwrap_or_default());
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for entry in fs::read_dir(self.dir()).context("cannot read the world's folder")? {
            let entry = entry?;
            // Not sockets; folders are the servers' own.
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), dir.join(entry.file_name())).context("cannot copy what a failure left")?;
            }
        }
        Ok(Some(dir))
    }

    /// The end of every log, each under its name.
    #[must_use]
    pub fn logs(&self) -> String {
        let Ok(entries) = fs::read_dir(self.dir()) else { return String::new() };
        let mut logs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        let parts = logs.iter().map(|log| {
            let name = log.file_stem().unwrap_or_default().to_string_lossy();
            format!("--- {name}\n{}", tail(log, LOG_LINES_SHOWN))
        });
        parts.collect::<Vec<_>>().join("\n")
    }
}

/// Whatever this thread starts goes before what else the machine has to do: tests measure times, and a compiler may be
/// running.
fn go_first() {
    const NICENESS: libc::c_int = -10;
    // SAFETY: setpriority takes any three integers; 0 is this thread. Where it is not allowed, times are less exact.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
