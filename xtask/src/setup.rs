//! `cargo xtask setup`: makes ready what building and testing need. Run twice, it does nothing the second time.
//!
//! Everything that is made once per machine lives in `$XDG_CACHE_HOME/onlooker`, never under `target/`, so that a clean
//! clone builds at once. A part is made beside its place and renamed into it: what is there is complete.

mod debian;
mod ebpf;

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

/// Makes ready what building and testing need; run twice, it does nothing the second time.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Only what compiling the kernel programs needs.
    #[arg(long)]
    ebpf_only: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let cache = Cache::locate()?;
    let _lock = lock(&cache)?;
    ebpf::run(&cache)?;
    let _ = options.ebpf_only;
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
