//! The eBPF toolchain: a compiler and bpf-linker.
//!
//! The compiler is a rustup toolchain with `rust-src`, or else Debian's `rustc-web`, unpacked in the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::{BPF_LINKER_VERSION, Cache, LLVM_MAJOR, Origin, Toolchain};

use super::cargo_tool::CargoTool;
use super::{Part, debian};
use crate::shell;

pub(crate) const EBPF: Part =
    Part { name: "ebpf", about: "The compiler and the linker of the kernel programs", by_default: true, make_ready };

/// Most of its work is done by the LLVM of the compiler, which is loaded as a shared library.
const BPF_LINKER: CargoTool = CargoTool { name: "bpf-linker", version: BPF_LINKER_VERSION, optimised: false };

fn make_ready(cache: &Cache) -> Result<()> {
    let compiler = match Toolchain::find_compiler(cache) {
        // The owner of a rustup toolchain may leave clippy out. The compiler in the cache always has it.
        Some(compiler) if compiler.origin != Origin::Debian || compiler.clippy.is_file() => {
            shell::say(&format!("eBPF compiler: {} (already there)", compiler.origin));
            compiler
        }
        _ => install_compiler(cache)?,
    };
    BPF_LINKER.make_ready(cache)?;
    let mut linker = Command::new(compiler.linker_dir.join("bpf-linker"));
    shell::read(linker.arg("--version").env("LD_LIBRARY_PATH", &compiler.library_dir))
        .with_context(|| format!("bpf-linker does not start with the LLVM of {}", compiler.origin))?;
    Ok(())
}

fn install_compiler(cache: &Cache) -> Result<Toolchain> {
    if !debian::is_here() {
        bail!(
            "no Rust toolchain here can compile for BPF: run `rustup toolchain install nightly --component rust-src` \
             (one with LLVM {LLVM_MAJOR} or older), then `cargo xtask setup`"
        );
    }
    let place = cache.debian_toolchain();
    shell::say(&format!("eBPF compiler: unpacking Debian's rustc-web into {}", place.display()));
    let unpacked = tempfile::tempdir_in(cache.dir()).context("cannot create a folder in the cache")?;
    unpack_compiler(unpacked.path())?;

    let compiler = Toolchain::of_debian(unpacked.path(), cache);
    if !compiler.is_usable() {
        bail!(
            "Debian's rustc-web does not run here, lacks its source, or has a newer LLVM than {LLVM_MAJOR}: \
             run `rustup toolchain install nightly --component rust-src`, then `cargo xtask setup`"
        );
    }
    let old = tempfile::tempdir_in(cache.dir()).context("cannot create a folder in the cache")?;
    if place.exists() {
        fs::rename(&place, old.path()).with_context(|| format!("cannot move the old {} away", place.display()))?;
    }
    fs::rename(unpacked.keep(), &place).with_context(|| format!("cannot move the compiler to {}", place.display()))?;
    Ok(Toolchain::of_debian(&place, cache))
}

/// Downloads and unpacks rustc-web and what it needs to compile `core`.
///
/// Nothing is installed, because the package rustc-web conflicts with rustup. So this needs no root.
fn unpack_compiler(root: &Path) -> Result<()> {
    debian::need_package_lists()?;
    // Some package names carry a version: libstd-rust-web-1.96, libllvm22. The dependencies name them.
    let std = debian::dependency_of("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = debian::dependency_of(&std, "libllvm")?;
    debian::unpack(&["rustc-web", "libstd-rust-web-dev", "rust-web-src", "rust-web-clippy", &std, &llvm], root)
}
