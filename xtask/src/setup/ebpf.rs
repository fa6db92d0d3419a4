//! A compiler for the kernel programs: one of rustup's where it has rust-src, else Debian's in the cache; and bpf-linker.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::{BPF_LINKER_VERSION, Cache, LLVM_MAJOR, Origin, Toolchain};

use crate::setup::debian;
use crate::shell;

/// Finds or installs the compiler and bpf-linker, and says which.
pub(super) fn make_ready(cache: &Cache) -> Result<()> {
    let compiler = match Toolchain::find_compiler(cache) {
        // rustup's clippy is a component that its owner may leave out; in the cache it is ours to bring.
        Some(compiler) if compiler.origin != Origin::Debian || compiler.clippy.is_file() => {
            shell::say(&format!("eBPF compiler: {} (already there)", compiler.origin));
            compiler
        }
        _ => install_compiler(cache)?,
    };
    install_linker(cache, &compiler)
}

fn install_compiler(cache: &Cache) -> Result<Toolchain> {
    if !debian::is_here() {
        bail!(
            "no Rust toolchain here can compile for BPF: run `rustup toolchain install nightly --component rust-src` \
             (one whose LLVM is {LLVM_MAJOR} or older), then `cargo xtask setup`"
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

/// Downloads and unpacks rustc-web and what it needs to compile `core`. Needs no root: nothing is installed, because
/// rustc-web conflicts with rustup as an installed package.
fn unpack_compiler(root: &Path) -> Result<()> {
    debian::need_package_lists()?;
    // The packages' names carry versions: libstd-rust-web-1.96, libllvm22. They are what the candidates depend on.
    let std = debian::dependency_of("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = debian::dependency_of(&std, "libllvm")?;
    debian::unpack(&["rustc-web", "libstd-rust-web-dev", "rust-web-src", "rust-web-clippy", &std, &llvm], root)
}

fn install_linker(cache: &Cache, compiler: &Toolchain) -> Result<()> {
    if installed_linker(compiler).as_deref() == Some(BPF_LINKER_VERSION) {
        shell::say(&format!("bpf-linker: {BPF_LINKER_VERSION} (already there)"));
        return Ok(());
    }
    shell::say(&format!("bpf-linker: building {BPF_LINKER_VERSION}"));
    shell::run(
        shell::cargo()?
            .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked", "--force", "--root"])
            .arg(cache.bpf_linker_root())
            .current_dir(cache.dir()),
    )?;
    if installed_linker(compiler).is_none() {
        bail!("bpf-linker is built but does not start with the LLVM of {}", compiler.origin);
    }
    Ok(())
}

/// The version of the bpf-linker that is there, if it starts.
fn installed_linker(compiler: &Toolchain) -> Option<String> {
    let mut command = Command::new(compiler.linker_dir.join("bpf-linker"));
    let answer = shell::read(command.arg("--version").env("LD_LIBRARY_PATH", &compiler.library_dir)).ok()?;
    answer.trim().strip_prefix("bpf-linker ").map(str::to_owned)
}
