//! Runs tests as an unprivileged user does on a machine without the eBPF toolchain.
//!
//! This is how the crates are tested that must build and pass there.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::shell;

/// Runs a program as `nobody`, without groups and capabilities. setpriv is a part of util-linux.
const AS_NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

/// What is needed to hide the toolchain and to drop privileges.
pub(super) struct Portable {
    empty: TempDir,
    /// The folder of the cargo that runs this program, with its rustc and rustdoc.
    binaries: PathBuf,
    privileged_because: Option<String>,
}

impl Portable {
    pub(super) fn prepare() -> Result<Self> {
        let empty = tempfile::tempdir().context("cannot create a temporary folder")?;
        let cargo = PathBuf::from(env::var_os("CARGO").context("cargo sets CARGO for what it runs")?);
        let binaries = cargo.parent().context("cargo is in a folder")?.to_path_buf();
        let workspace = shell::workspace()?;
        let mut enter = Command::new(AS_NOBODY[0]);
        enter.args(&AS_NOBODY[1..]).args(["test", "-r"]).arg(workspace.join("Cargo.toml"));
        let is_closed = shell::is_root() && shell::read(&mut enter).is_err();
        let privileged_because = is_closed.then(|| format!("only root can read {}", workspace.display()));
        Ok(Self { empty, binaries, privileged_because })
    }

    /// Why [`Self::drop_privileges`] does nothing although this process runs as root, if so.
    pub(super) fn privileged_because(&self) -> Option<&str> {
        self.privileged_because.as_deref()
    }

    /// Gives a cargo an environment in which neither bpf-linker nor another Rust toolchain can be found.
    pub(super) fn hide_toolchain(&self, cargo: &mut Command) {
        let empty = self.empty.path();
        cargo.env("XDG_CACHE_HOME", empty).env("RUSTUP_HOME", empty).env("RUSTUP_AUTO_INSTALL", "0");
        for (variable, program) in [("RUSTC", "rustc"), ("RUSTDOC", "rustdoc")] {
            cargo.env(variable, self.binaries.join(program));
        }
    }

    /// Lets `cargo test` start the test programs as `nobody`. To be called before its `--`.
    pub(super) fn drop_privileges(&self, cargo: &mut Command) {
        if shell::is_root() && self.privileged_because.is_none() {
            cargo.args(["--config", &format!("target.'cfg(unix)'.runner={AS_NOBODY:?}")]);
        }
    }
}
