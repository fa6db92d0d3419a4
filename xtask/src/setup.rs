//! `cargo xtask setup`: makes ready what building and testing need. Run twice, it does nothing the second time.
//!
//! Everything that is made once per machine lives in `$XDG_CACHE_HOME/onlooker`, never under `target/`, so that a clean
//! clone builds at once. What is there is complete: a part is moved to its place, or marked, when it is done.

mod collector;
mod debian;
mod ebpf;
mod fuzz;
mod made;
mod packages;
mod python;
pub(crate) mod vm;

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

/// Makes ready what building and testing need; run twice, it does nothing the second time.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these parts; all of them unless some are named.
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// What can be made ready by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The compiler and linker of the kernel programs.
    Ebpf,
    /// The servers and tools of the system: nginx, PostgreSQL, Redis, Node, curl, wrk, ...
    Packages,
    /// The environment of the Python applications that are traced.
    Python,
    /// The OpenTelemetry Collector that receives what the tests export.
    Collector,
    /// cargo-fuzz, and the nightly compiler that it needs.
    Fuzz,
    /// QEMU and the kernels that `cargo xtask vm` boots.
    Vm,
}

/// In the order in which one needs another.
const ALL: [Part; 6] = [Part::Ebpf, Part::Packages, Part::Python, Part::Collector, Part::Fuzz, Part::Vm];

pub(crate) fn run(options: &Options) -> Result<()> {
    make_ready(if options.parts.is_empty() { &ALL } else { &options.parts })
}

/// Makes `parts` ready, each saying one line: what it did, or that it had nothing to do.
pub(crate) fn make_ready(parts: &[Part]) -> Result<()> {
    let cache = Cache::locate()?;
    let _lock = lock(&cache)?;
    for part in parts {
        match part {
            Part::Ebpf => ebpf::make_ready(&cache)?,
            Part::Packages => packages::make_ready()?,
            Part::Python => python::make_ready()?,
            Part::Collector => collector::make_ready()?,
            Part::Fuzz => fuzz::make_ready(&cache)?,
            Part::Vm => vm::make_ready(&cache)?,
        }
    }
    Ok(())
}

/// Keeps a second setup waiting until this one is done; released when the file is closed.
fn lock(cache: &Cache) -> Result<File> {
    let dir = cache.dir();
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
