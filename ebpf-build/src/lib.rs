//! Finds a toolchain that can compile the kernel programs and compiles them.
//!
//! Used by `agent`'s build script, which embeds the object, and by `cargo xtask build-ebpf`. Nothing is installed here:
//! that is `cargo xtask setup`, which leaves what this crate looks for. The inner cargo has its own target folder,
//! so it never waits for the outer one's lock, and its own environment, so that a `cargo clippy` or an editor around it
//! builds the same object.

mod toolchain;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

pub use crate::toolchain::{BPF_LINKER_VERSION, Cache, LLVM_MAJOR, Origin, Toolchain};

/// The BPF target: little-endian, as every host that Onlooker runs on.
const TARGET: &str = "bpfel-unknown-none";

/// The binary of the `ebpf` crate, which is an ELF object for the kernel and not a program.
const BINARY: &str = "onlooker-ebpf";

/// Compiles `<workspace>/ebpf` where it is stale and returns the object.
///
/// What the compiler says goes to this process's stderr. Fails with a sentence that names the command which mends it when
/// the toolchain is missing.
pub fn build(workspace: &Path) -> Result<PathBuf> {
    let toolchain = Toolchain::find(&Cache::locate()?)?;
    run(&mut command(&toolchain, &toolchain.cargo, workspace, &["build", "--release"])?)?;
    let object = target_dir(workspace).join(TARGET).join("release").join(BINARY);
    if !object.is_file() {
        bail!("the eBPF build left no object at {}", object.display());
    }
    Ok(object)
}

/// Lets clippy judge `<workspace>/ebpf`, warnings being errors.
pub fn lint(workspace: &Path) -> Result<()> {
    let toolchain = Toolchain::find(&Cache::locate()?)?;
    if !toolchain.clippy.is_file() {
        bail!("{} has no clippy: run `rustup component add clippy --toolchain nightly`", toolchain.origin);
    }
    // Called as cargo calls it, which would take its own rustc's and not this one's.
    let arguments = ["clippy", "--release", "--", "-Dwarnings"];
    let mut clippy = command(&toolchain, &toolchain.clippy, workspace, &arguments)?;
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

/// The files and folders whose change makes the object stale.
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

fn command(toolchain: &Toolchain, program: &Path, workspace: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_the_outer_cargo) {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        // The target and build-std are set in ebpf/.cargo/config.toml, so that an editor sees the same.
        .current_dir(workspace.join("ebpf"))
        .env("RUSTC", &toolchain.rustc)
        // build-std and the BPF target are unstable, and only one of the toolchains we take is a nightly.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target_dir(workspace))
        .env("PATH", before(&toolchain.linker_dir, "PATH")?)
        // rustc finds its driver there, and bpf-linker the LLVM that rustc was built with.
        .env("LD_LIBRARY_PATH", before(&toolchain.library_dir, "LD_LIBRARY_PATH")?);
    Ok(command)
}

/// Whether an environment variable was set by a cargo around us, or for it, and would change what the inner one does.
fn belongs_to_the_outer_cargo(name: &str) -> bool {
    const SETTINGS_OF_THE_USER: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        // The job server: the inner build takes its share of the outer one's jobs.
        "CARGO_MAKEFLAGS",
    ];
    const OF_BUILD_SCRIPTS: [&str; 7] = ["DEBUG", "HOST", "NUM_JOBS", "OPT_LEVEL", "OUT_DIR", "PROFILE", "TARGET"];
    if SETTINGS_OF_THE_USER.iter().any(|setting| name.starts_with(setting)) {
        return false;
    }
    ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CLIPPY_", "DEP_", "RUSTUP_TOOLCHAIN"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || OF_BUILD_SCRIPTS.contains(&name)
}

fn before(dir: &Path, variable: &str) -> Result<OsString> {
    let rest = env::var_os(variable).unwrap_or_default();
    let paths =
        std::iter::once(dir.to_path_buf()).chain(env::split_paths(&rest).filter(|path| !path.as_os_str().is_empty()));
    env::join_paths(paths).with_context(|| format!("{} can't be put on {variable}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::belongs_to_the_outer_cargo;

    #[test]
    fn what_the_outer_cargo_set_does_not_reach_the_inner_one() {
        for name in
            ["CARGO", "CARGO_ENCODED_RUSTFLAGS", "CARGO_CFG_TARGET_OS", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER"]
        {
            assert!(belongs_to_the_outer_cargo(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_HTTP_CAINFO", "CARGO_MAKEFLAGS", "PATH", "TERM", "RUST_BACKTRACE"] {
            assert!(!belongs_to_the_outer_cargo(name), "{name}");
        }
    }
}
