//! The environment of one test: a cgroup and a folder for its programs, and functions to run commands in them.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::child_process::{join_before_exec, tail};
use crate::network::Network;
use crate::wait::{self, within};

/// An agent needs this long to load its programs on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// The variable that names a folder in which the files of failed stories are kept.
const KEEP: &str = "ONLOOKER_KEEP";

/// Log lines shown of each program when a story fails. There are several programs, and the error follows.
const LOG_LINES_SHOWN: usize = 12;

/// The environment that the programs of one test run in. Clones share it; every program keeps one.
#[derive(Debug, Clone)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Dropped in this order: the processes, then the files they write to.
    cgroup: Cgroup,
    dir: TempDir,
    /// Where its programs run, if that is not this process's network.
    network: Option<Network>,
}

impl World {
    /// Creates an empty world. Requires root, for the cgroup.
    pub fn create() -> Result<Self> {
        Self::create_in(None)
    }

    /// Creates an empty world whose programs, and its agent, run in this network.
    pub fn in_network(network: &Network) -> Result<Self> {
        Self::create_in(Some(network.clone()))
    }

    fn create_in(network: Option<Network>) -> Result<Self> {
        raise_priority();
        let cgroup = Cgroup::create()?;
        let dir = tempfile::Builder::new()
            .prefix(&cgroup.folder_prefix())
            // Servers that run as other users must be able to read it.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot create a temporary folder")?;
        Ok(Self(Arc::new(Inner { cgroup, dir, network })))
    }

    /// Runs `story` in a new world. If it fails, the error contains the end of every log.
    pub fn story<T>(name: &str, story: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let world = Self::create()?;
        let result = story(&world);
        result.map_err(|error| {
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

    /// The folder for logs, sockets, configuration and data. It is removed with the world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// The cgroups of the world's programs.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.0.cgroup
    }

    /// The network that its programs run in, if that is not this process's.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        self.0.network.as_ref()
    }

    /// Creates a command with a fresh environment, which holds only what is needed to find programs.
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

    /// Runs a command in the watched cgroup and returns its output. Fails unless it succeeds.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        join_before_exec(command, self, true)?;
        self.run_unwatched(command)
    }

    /// Starts a command in the watched cgroup, with pipes as stdin and stdout.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        join_before_exec(command, self, true)?;
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("cannot start {program}"))
    }

    /// Runs a command in the watched cgroup and returns its exit status. Its output is discarded.
    pub fn exit_status_of(&self, command: &mut Command) -> Result<ExitStatus> {
        join_before_exec(command, self, true)?;
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().with_context(|| format!("cannot start {program}"))
    }

    /// Runs a command outside of the watched cgroup and returns its output and exit status. A command that hangs is killed.
    /// It must print little, because the pipes are read after it ends.
    pub fn output_of(&self, command: &mut Command) -> Result<Output> {
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

    /// Runs a command outside of the watched cgroup and returns its output. Fails unless it succeeds.
    pub fn run_unwatched(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{program} failed ({}): {}", output.status, stderr.trim());
        }
        Ok(output)
    }

    /// Runs curl in the watched cgroup and returns the body. An HTTP error status is not a failure. Fails without a response
    /// within 60 s.
    pub fn curl(&self, arguments: &[&str]) -> Result<String> {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]).args(arguments);
        Ok(String::from_utf8_lossy(&self.run(&mut curl)?.stdout).into_owned())
    }

    /// Copies logs, configuration and spans to a new folder in `$ONLOOKER_KEEP`, if that is set.
    fn keep(&self) -> Result<Option<PathBuf>> {
        let Some(keep) = env::var_os(KEEP) else { return Ok(None) };
        let dir = Path::new(&keep).join(self.dir().file_name().unwrap_or_default());
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for entry in fs::read_dir(self.dir()).context("cannot read the world's folder")? {
            let entry = entry?;
            // Sockets cannot be copied, and folders hold only the servers' own data.
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), dir.join(entry.file_name())).context("cannot keep a file of the world")?;
            }
        }
        Ok(Some(dir))
    }

    /// The end of every log, each below its name.
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

/// Raises the priority of this thread and of what it starts. Tests measure times, and a compiler may be running.
fn raise_priority() {
    const NICENESS: libc::c_int = -10;
    // SAFETY: setpriority accepts any three integers; 0 is this thread. If it is not permitted, times are less exact.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
