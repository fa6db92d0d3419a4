//! Finds a toolchain on this machine that can compile for BPF.
//!
//! It consists of:
//!
//! - a rustc and the source of its `core`, from a rustup toolchain with `rust-src`, or from Debian's packages, unpacked
//!   in the cache;
//! - a bpf-linker that can load the LLVM of this rustc.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The bpf-linker that `cargo xtask setup` installs: the newest that the workspace's Rust version can compile.
pub const BPF_LINKER_VERSION: &str = "0.10.4";

/// The LLVM version of [`BPF_LINKER_VERSION`]. It cannot read the bitcode of a newer one.
pub const LLVM_MAJOR: u32 = 22;

/// The folder for what is made once per machine: `$XDG_CACHE_HOME/onlooker`.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    /// `$XDG_CACHE_HOME/onlooker`, or `~/.cache/onlooker`. Fails if neither XDG_CACHE_HOME nor HOME is set.
    pub fn locate() -> Result<Self> {
        let base = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .context("cannot find the cache folder: neither XDG_CACHE_HOME nor HOME is set")?;
        Ok(Self(base.join("onlooker")))
    }

    /// The cache folder. It may not exist yet.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The folder that Debian's rustc is unpacked in, with its source and its LLVM.
    #[must_use]
    pub fn debian_toolchain(&self) -> PathBuf {
        self.0.join("ebpf-toolchain")
    }

    /// The `--root` of `cargo install bpf-linker`.
    #[must_use]
    pub fn bpf_linker_root(&self) -> PathBuf {
        self.0.join("bpf-linker")
    }
}

/// Where a toolchain comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The rustup toolchain with this name, which has the component rust-src.
    Rustup(String),
    /// Debian's rustc-web and rust-web-src, unpacked in the cache.
    Debian,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup(name) => write!(f, "rustup's {name} with rust-src"),
            Self::Debian => f.write_str("Debian's rustc-web, unpacked in the cache"),
        }
    }
}

/// The programs and folders that compile for BPF.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The origin of rustc.
    pub origin: Origin,
    /// The cargo to run. Debian's packages have none, so there it is the one in use.
    pub cargo: PathBuf,
    /// The rustc that compiles `core` and the programs.
    pub rustc: PathBuf,
    /// The cargo-clippy of that rustc. It may be missing.
    pub clippy: PathBuf,
    /// The folder of its driver and its LLVM.
    pub library_dir: PathBuf,
    /// The folder of bpf-linker.
    pub linker_dir: PathBuf,
}

impl Toolchain {
    /// Finds a complete toolchain. Otherwise the error says what to run.
    pub fn find(cache: &Cache) -> Result<Self> {
        const REMEDY: &str = "run `cargo xtask setup ebpf`";
        let Some(compiler) = Self::find_compiler(cache) else {
            bail!("no Rust toolchain here can compile for BPF: {REMEDY}");
        };
        if !compiler.linker_dir.join("bpf-linker").is_file() {
            bail!("bpf-linker {BPF_LINKER_VERSION} is not in {}: {REMEDY}", compiler.linker_dir.display());
        }
        Ok(compiler)
    }

    /// Finds the first compiler that is usable with bpf-linker. bpf-linker itself may be missing.
    #[must_use]
    pub fn find_compiler(cache: &Cache) -> Option<Self> {
        // Users of aya have a nightly. Other toolchains work too, because RUSTC_BOOTSTRAP allows the unstable flags.
        ["nightly", "stable"]
            .iter()
            .filter_map(|name| Self::of_rustup(name, cache))
            .chain([Self::of_debian(&cache.debian_toolchain(), cache)])
            .find(Self::is_usable)
    }

    /// The folder that has `bin/rustc` and the source of `core`.
    #[must_use]
    pub fn sysroot(&self) -> Option<&Path> {
        self.rustc.parent()?.parent()
    }

    /// Debian's compiler, unpacked in `root`. It may not exist.
    #[must_use]
    pub fn of_debian(root: &Path, cache: &Cache) -> Self {
        let triplet = format!("{}-linux-gnu", env::consts::ARCH);
        Self {
            origin: Origin::Debian,
            cargo: env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
            rustc: root.join("usr/bin/rustc"),
            clippy: root.join("usr/bin/cargo-clippy"),
            library_dir: root.join("usr/lib").join(triplet),
            linker_dir: cache.bpf_linker_root().join("bin"),
        }
    }

    fn of_rustup(name: &str, cache: &Cache) -> Option<Self> {
        let output = Command::new("rustup")
            .args(["run", name, "rustc", "--print", "sysroot"])
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("RUSTUP_AUTO_INSTALL", "0")
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        output.status.success().then(|| Self {
            origin: Origin::Rustup(name.to_owned()),
            cargo: sysroot.join("bin/cargo"),
            rustc: sysroot.join("bin/rustc"),
            clippy: sysroot.join("bin/cargo-clippy"),
            library_dir: sysroot.join("lib"),
            linker_dir: cache.bpf_linker_root().join("bin"),
        })
    }

    /// Whether rustc runs, has the source of `core`, and has an LLVM that bpf-linker can read.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
        let sysroot = self.rustc.parent().and_then(Path::parent);
        sysroot.is_some_and(|sysroot| sysroot.join(core).is_file())
            && self.llvm_major().is_some_and(|llvm| llvm <= LLVM_MAJOR)
    }

    /// The major version of rustc's LLVM, if rustc runs.
    #[must_use]
    pub fn llvm_major(&self) -> Option<u32> {
        let output = Command::new(&self.rustc)
            .arg("-vV")
            .env("LD_LIBRARY_PATH", &self.library_dir)
            .stderr(Stdio::null())
            .output()
            .ok()?;
        llvm_major_of(&String::from_utf8(output.stdout).ok()?)
    }
}

fn llvm_major_of(verbose_version: &str) -> Option<u32> {
    let version = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::llvm_major_of;

    #[test]
    fn the_verbose_version_of_rustc_names_its_llvm() {
        assert_eq!(llvm_major_of("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major_of("rustc 1.96.0\nrelease: 1.96.0\n"), None);
    }
}
