//! `cargo xtask vm`: boots other kernels in QEMU and runs Onlooker on them.

mod guest;
pub(crate) mod kernels;

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::wait;

use self::kernels::{GuestKernel, KERNELS, Unpacked};
use crate::setup::{self, Part};
use crate::{run, shell};

/// Boots Debian's kernels in QEMU under software emulation and runs a command on each.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this kernel, such as 6.12-cloud; may be repeated.
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Takes this agent instead of building one.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// The command to run as root in the guest, such as `onlooker doctor`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Software emulation takes six to twelve times as long.
const COMMAND_ENDS_WITHIN: Duration = Duration::from_secs(600);

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if !shell::is_root() {
        bail!("serving the host's files to a guest needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask vm`");
    }
    let chosen = chosen(&options.kernels)?;
    setup::make_ready(&[Part::Ebpf, Part::Vm])?;
    let agent = match &options.agent {
        Some(agent) => agent.canonicalize().with_context(|| format!("cannot find {}", agent.display()))?,
        None => run::build_agent()?,
    };
    // From here on Ctrl-C too ends the guests.
    wait::heed_signals()?;
    let cache = Cache::locate()?;
    let script = script(&agent, &options.command)?;
    let mut failed = false;
    for kernel in chosen {
        let dir = kernel.dir(&cache);
        if !dir.exists() {
            bail!("the kernel {} is not here: run `cargo xtask setup vm`", kernel.name);
        }
        let unpacked = Unpacked::find(&dir)?;
        shell::say(&format!("--- {} ({})", kernel.name, unpacked.release));
        let code = guest::run(&unpacked, &script, COMMAND_ENDS_WITHIN, shell::say)?;
        if code != 0 {
            failed = true;
            shell::say(&format!("{}: exit code {code}", kernel.name));
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rows of these names; all of them if none is named.
fn chosen(names: &[String]) -> Result<Vec<&'static GuestKernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let row = |name: &String| {
        KERNELS.iter().find(|kernel| kernel.name == name).with_context(|| {
            let known = KERNELS.map(|kernel| kernel.name).join(", ");
            format!("no kernel is called {name}: the table has {known}")
        })
    };
    names.iter().map(row).collect()
}

/// The guest's script: the command, where `onlooker` is the agent that was built here.
fn script(agent: &Path, command: &[String]) -> Result<String> {
    let mut script = prelude(agent)?;
    let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    writeln!(script, "exec {}", words.join(" "))?;
    Ok(script)
}

/// Gives the guest the variables by which programs and the cache are found here.
fn prelude(agent: &Path) -> Result<String> {
    let folder = agent.parent().context("the agent is in a folder")?;
    let path = env::var("PATH").context("PATH is not text")?;
    let mut script = format!("export PATH={}\n", quoted(&format!("{}:{path}", folder.display())));
    writeln!(script, "export ONLOOKER={}", quoted(&agent.display().to_string()))?;
    for name in ["HOME", "XDG_CACHE_HOME"] {
        if let Ok(value) = env::var(name) {
            writeln!(script, "export {name}={}", quoted(&value))?;
        }
    }
    writeln!(script, "cd {}", quoted(&shell::workspace()?.display().to_string()))?;
    Ok(script)
}

/// One word of a shell's command line.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
