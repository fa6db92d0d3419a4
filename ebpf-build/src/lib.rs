//! Compiles the kernel programs with the toolchain that `cargo xtask setup` installed.
//!
//! `agent`'s build script calls this crate and embeds the object. `cargo xtask build-ebpf` calls it too.
//!
//! The cargo that is started here runs inside another one, so it has:
//!
//! - its own target folder, because the outer cargo holds the lock of the other;
//! - its own environment, so that it builds the same object whatever the outer cargo does (build, clippy, an editor).

mod toolchain;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

pub use crate::toolchain::{BPF_LINKER_VERSION, Cache, LLVM_MAJOR, Origin, Toolchain};

/// The BPF target. Every supported host is little-endian.
const TARGET: &str = "bpfel-unknown-none";

/// The binary of the `ebpf` crate. It is an ELF object for the kernel, not an executable program.
const BINARY: &str = "onlooker-ebpf";

/// Compiles `<workspace>/ebpf` if it is stale, and returns the path of the object.
///
/// The compiler prints to this process's stderr. If the toolchain is missing, the error names the command that installs
/// it.
pub fn build(workspace: &Path) -> Result<PathBuf> {
    let toolchain = Toolchain::find(&Cache::locate()?)?;
    run(&mut command(&toolchain, &toolchain.cargo, workspace, "build", &["--release"])?)?;
    let object = target_dir(workspace).join(TARGET).join("release").join(BINARY);
    if !object.is_file() {
        bail!("the eBPF build left no object at {}", object.display());
    }
    Ok(object)
}

/// Runs clippy on `<workspace>/ebpf`. Warnings are errors.
pub fn lint(workspace: &Path) -> Result<()> {
    let toolchain = Toolchain::find(&Cache::locate()?)?;
    if !toolchain.clippy.is_file() {
        bail!("{} has no clippy: run `rustup component add clippy --toolchain nightly`", toolchain.origin);
    }
    // Started directly: `cargo clippy` would start the cargo-clippy of another toolchain.
    let arguments = ["--release", "--", "-Dwarnings"];
    let mut clippy = command(&toolchain, &toolchain.clippy, workspace, "clippy", &arguments)?;
    run(clippy.env("CARGO", &toolchain.cargo))
}

fn run(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).to_path_buf();
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        let verb = command.get_args().next().unwrap_or_default().to_string_lossy();
        bail!("`cargo {verb}` of the eBPF programs failed ({status})");
    }
    Ok(())
}

/// The files and folders that the object is made from.
#[must_use]
pub fn sources(workspace: &Path) -> Vec<PathBuf> {
    [
        "ebpf/src",
        "ebpf/build.rs",
        "ebpf/Cargo.toml",
        "ebpf/Cargo.lock",
        "ebpf/.cargo",
        "common/src",
        "common/Cargo.toml",
    ]
    .iter()
    .map(|path| workspace.join(path))
    .filter(|path| path.exists())
    .collect()
}

fn target_dir(workspace: &Path) -> PathBuf {
    workspace.join("target").join("ebpf")
}

fn command(toolchain: &Toolchain, program: &Path, workspace: &Path, verb: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_cargo) {
            command.env_remove(name);
        }
    }
    command
        // What follows a `--` in the arguments is not for cargo.
        .args([verb, "--config", &without_paths(toolchain, workspace)?])
        .args(arguments)
        // The target and build-std are in ebpf/.cargo/config.toml, where an editor finds them too.
        .current_dir(workspace.join("ebpf"))
        .env("RUSTC", &toolchain.rustc)
        // build-std and the BPF target are unstable, and the toolchain may be a stable one.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target_dir(workspace))
        .env("PATH", before(&toolchain.linker_dir, "PATH")?)
        // rustc loads its driver from there, and bpf-linker the LLVM that rustc was built with.
        .env("LD_LIBRARY_PATH", before(&toolchain.library_dir, "LD_LIBRARY_PATH")?);
    Ok(command)
}

/// A setting for cargo, with which the object contains no paths of this machine. Cargo adds it to ebpf/.cargo/config.toml.
fn without_paths(toolchain: &Toolchain, workspace: &Path) -> Result<String> {
    let mut flags = Vec::new();
    for (path, name) in
        [(Some(workspace), "/onlooker"), (cargo_home().as_deref(), "/cargo"), (toolchain.sysroot(), "/rust")]
    {
        if let Some(path) = path {
            let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
            flags.push(format!("--remap-path-prefix={path}={name}"));
        }
    }
    // Strings in Rust and in TOML are quoted alike.
    Ok(format!("target.{TARGET}.rustflags={flags:?}"))
}

/// Where cargo keeps the sources of dependencies.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let by_default = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(by_default)
}

/// Whether an environment variable is the outer cargo's, so that it could change what the inner one builds.
fn belongs_to_outer_cargo(name: &str) -> bool {
    const USER_SETTINGS: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        // The job server: inner and outer build share the jobs.
        "CARGO_MAKEFLAGS",
    ];
    const SET_FOR_BUILD_SCRIPTS: [&str; 7] = ["DEBUG", "HOST", "NUM_JOBS", "OPT_LEVEL", "OUT_DIR", "PROFILE", "TARGET"];
    if USER_SETTINGS.iter().any(|setting| name.starts_with(setting)) {
        return false;
    }
    ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CLIPPY_", "DEP_", "RUSTUP_TOOLCHAIN"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || SET_FOR_BUILD_SCRIPTS.contains(&name)
}

/// The value of a PATH-like variable with `dir` in front.
fn before(dir: &Path, variable: &str) -> Result<OsString> {
    let rest = env::var_os(variable).unwrap_or_default();
    let paths =
        std::iter::once(dir.to_path_buf()).chain(env::split_paths(&rest).filter(|path| !path.as_os_str().is_empty()));
    env::join_paths(paths).with_context(|| format!("cannot add {} to {variable}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::belongs_to_outer_cargo;

    #[test]
    fn only_user_settings_reach_the_inner_cargo() {
        for name in
            ["CARGO", "CARGO_ENCODED_RUSTFLAGS", "CARGO_CFG_TARGET_OS", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER"]
        {
            assert!(belongs_to_outer_cargo(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_HTTP_CAINFO", "CARGO_MAKEFLAGS", "PATH", "TERM", "RUST_BACKTRACE"] {
            assert!(!belongs_to_outer_cargo(name), "{name}");
        }
    }
}
