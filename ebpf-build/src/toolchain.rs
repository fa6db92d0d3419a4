//! Which rustc can compile for BPF on this machine.
//!
//! Three things are needed: a rustc, the source of its `core`, and a bpf-linker that loads the LLVM this rustc was built
//! with. A rustup toolchain with `rust-src` has the first two; elsewhere Debian's packages, unpacked in the cache, do.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The bpf-linker that `cargo xtask setup` installs: the newest one that builds with the workspace's Rust.
pub const BPF_LINKER_VERSION: &str = "0.10.4";

/// The LLVM that [`BPF_LINKER_VERSION`] is made for. The bitcode of a newer one can't be read by it.
pub const LLVM_MAJOR: u32 = 22;

/// The folder that everything lives in which is made once per machine: `$XDG_CACHE_HOME/onlooker`.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    /// `$XDG_CACHE_HOME/onlooker`, or `~/.cache/onlooker`. Fails where neither variable is set.
    pub fn locate() -> Result<Self> {
        let base = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set: there is no folder for the eBPF toolchain")?;
        Ok(Self(base.join("onlooker")))
    }

    /// The cache folder itself; it need not exist yet.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Where Debian's rustc, with its own source and LLVM, is unpacked.
    #[must_use]
    pub fn debian_toolchain(&self) -> PathBuf {
        self.0.join("ebpf-toolchain")
    }

    /// The `--root` that bpf-linker is installed in.
    #[must_use]
    pub fn bpf_linker_root(&self) -> PathBuf {
        self.0.join("bpf-linker")
    }
}

/// Where a toolchain comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A toolchain of rustup's by this name, with the component rust-src.
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

/// A compiler for BPF, complete.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// Where rustc comes from.
    pub origin: Origin,
    /// The cargo to run; Debian's packages bring none, so it is the one in use.
    pub cargo: PathBuf,
    /// The rustc that compiles `core` and the programs.
    pub rustc: PathBuf,
    /// The `cargo clippy` of that rustc, which may be missing.
    pub clippy: PathBuf,
    /// Where its driver and its LLVM are.
    pub library_dir: PathBuf,
    /// Where bpf-linker is.
    pub linker_dir: PathBuf,
}

impl Toolchain {
    /// The toolchain that is ready on this machine, if it is complete; else an error that says what to run.
    pub fn find(cache: &Cache) -> Result<Self> {
        const MEND: &str = "run `cargo xtask setup`";
        let Some(compiler) = Self::find_compiler(cache) else {
            bail!("no Rust toolchain here can compile for BPF: {MEND}");
        };
        if !compiler.linker_dir.join("bpf-linker").is_file() {
            bail!("bpf-linker {BPF_LINKER_VERSION} is not in {}: {MEND}", compiler.linker_dir.display());
        }
        Ok(compiler)
    }

    /// The first compiler that has the source of its `core` and an LLVM that bpf-linker can use; bpf-linker itself may be missing.
    #[must_use]
    pub fn find_compiler(cache: &Cache) -> Option<Self> {
        // A nightly is what aya's users have. Any other toolchain does as well: the unstable flags are allowed by RUSTC_BOOTSTRAP.
        ["nightly", "stable"]
            .iter()
            .filter_map(|name| Self::of_rustup(name, cache))
            .chain([Self::of_debian(&cache.debian_toolchain(), cache)])
            .find(Self::is_usable)
    }

    /// Debian's compiler, unpacked in `root`, which need not exist.
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

    /// Whether rustc is there with the source of `core`, and its LLVM is one that bpf-linker reads.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
        let sysroot = self.rustc.parent().and_then(Path::parent);
        sysroot.is_some_and(|sysroot| sysroot.join(core).is_file())
            && self.llvm_major().is_some_and(|llvm| llvm <= LLVM_MAJOR)
    }

    /// The major version of the LLVM inside rustc, if rustc runs.
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
    fn the_llvm_of_a_rustc_is_read_from_its_verbose_version() {
        assert_eq!(llvm_major_of("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major_of("rustc 1.96.0\nrelease: 1.96.0\n"), None);
    }
}
