//! Compiles the kernel programs where they are stale, and tells the crate where the object is.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result};

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo shows this as the reason, in place of everything the script has printed.
            instruct("error", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<()> {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().context("the agent crate is a folder of the workspace")?;
    let object = onlooker_ebpf_build::build(workspace)?;
    // A copy of its own: what is embedded does not change under a compiler that is just reading it.
    let embedded = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?).join("onlooker-ebpf");
    fs::copy(&object, &embedded)
        .with_context(|| format!("cannot copy {} to {}", object.display(), embedded.display()))?;
    instruct("rustc-env", &format!("ONLOOKER_EBPF_OBJECT={}", embedded.display()));
    for source in onlooker_ebpf_build::sources(workspace) {
        instruct("rerun-if-changed", &source.display().to_string());
    }
    Ok(())
}

/// Speaks to cargo, which reads a build script's stdout.
fn instruct(key: &str, value: &str) {
    println!("cargo::{key}={value}");
}
