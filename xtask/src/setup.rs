//! `cargo xtask setup`: installs what building and testing need.
//!
//! What is made once per machine lives in `$XDG_CACHE_HOME/onlooker`, never below `target/`, so that a second clone
//! needs no second set-up. A part that exists is complete: it is moved to its place, or marked, when it is done.

mod cargo_tool;
mod clean_root;
mod collector;
mod debian;
mod ebpf;
mod envoy;
mod fuzz;
mod go;
mod java;
mod jdks;
pub(crate) mod kubernetes;
mod made;
pub(crate) mod manifests;
mod node;
mod packages;
mod packaging;
mod python;
mod rust;
pub(crate) mod vm;
mod zipkin;

use std::fs::{self, File};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::builder::{PossibleValue, PossibleValuesParser};
use onlooker_ebpf_build::Cache;

use crate::Verb;

pub(crate) use self::cargo_tool::{CYCLONEDX, DENY, MUTANTS};
pub(crate) use self::clean_root::{CLEAN_ROOT, clean_root};
pub(crate) use self::collector::{COLLECTOR, GATEWAY, PODS_COLLECTOR};
pub(crate) use self::ebpf::EBPF;
pub(crate) use self::envoy::ENVOY;
pub(crate) use self::fuzz::{CARGO_FUZZ, FUZZ};
pub(crate) use self::go::GO;
pub(crate) use self::java::JAVA;
pub(crate) use self::jdks::JDKS;
pub(crate) use self::kubernetes::KUBERNETES;
pub(crate) use self::manifests::MANIFESTS;
pub(crate) use self::node::NODE;
pub(crate) use self::packages::PACKAGES;
pub(crate) use self::packaging::{PACKAGING, nfpm};
pub(crate) use self::python::PYTHON;
pub(crate) use self::rust::RUST;
pub(crate) use self::zipkin::ZIPKIN;

/// Install what building and testing need. The second time there is nothing to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install only these parts. By default all, except those that are marked "on demand".
    #[arg(value_parser = names())]
    parts: Vec<String>,
}

/// A part of the set-up that can be installed by itself.
pub(crate) struct Part {
    name: &'static str,
    about: &'static str,
    /// Whether `cargo xtask setup` installs it. The verb that needs it always does.
    by_default: bool,
    /// Installs the part if it is missing. Prints one line: what was done, or that it was there.
    make_ready: fn(&Cache) -> Result<()>,
}

/// All parts. A part comes after those that it needs.
const PARTS: &[&Part] = &[
    &EBPF,
    &PACKAGES,
    &JAVA,
    &PYTHON,
    &JDKS,
    &NODE,
    &RUST,
    &GO,
    &ENVOY,
    &COLLECTOR,
    &DENY.part,
    &FUZZ,
    &MUTANTS.part,
    &PACKAGING,
    &CYCLONEDX.part,
    &CLEAN_ROOT,
    &GATEWAY,
    &PODS_COLLECTOR,
    &ZIPKIN,
    &vm::VM,
    &MANIFESTS,
    &KUBERNETES,
];

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        let named: Vec<_> =
            PARTS.iter().copied().filter(|part| self.parts.iter().any(|name| name == part.name)).collect();
        make_ready(&if named.is_empty() { defaults() } else { named })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn names() -> PossibleValuesParser {
    PARTS.iter().map(|part| PossibleValue::new(part.name).help(part.about)).collect::<Vec<_>>().into()
}

/// The parts that `cargo xtask setup` installs.
pub(crate) fn defaults() -> Vec<&'static Part> {
    PARTS.iter().copied().filter(|part| part.by_default).collect()
}

/// Installs those of `parts` that are missing.
pub(crate) fn make_ready(parts: &[&Part]) -> Result<()> {
    let cache = Cache::locate()?;
    let _lock = lock(&cache)?;
    parts.iter().try_for_each(|part| (part.make_ready)(&cache))
}

/// Makes a second setup wait until this one is done. Closing the file releases the lock.
fn lock(cache: &Cache) -> Result<File> {
    let dir = cache.dir();
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
