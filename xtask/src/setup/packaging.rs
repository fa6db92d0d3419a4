//! What `cargo xtask package` makes packages with: nfpm for .deb and .rpm, and umoci for the image.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::find_program;

use super::{Part, debian, made};
use crate::shell;

pub(crate) const PACKAGING: Part = Part {
    name: "packaging",
    about: "nfpm and umoci, which make the packages (on demand)",
    by_default: false,
    make_ready,
};

/// The last release whose modules all have checksums.
const NFPM: &str = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2";

/// The program nfpm, installed or not.
pub(crate) fn nfpm(cache: &Cache) -> PathBuf {
    cache.dir().join("nfpm/nfpm")
}

fn make_ready(cache: &Cache) -> Result<()> {
    install_umoci()?;
    let dir = cache.dir().join("nfpm");
    if find_program("go").is_none() {
        bail!("nfpm needs Go: install it from https://go.dev/dl, then `cargo xtask setup packaging`");
    }
    let made = made::once(&dir, NFPM, || {
        shell::say(&format!("nfpm: building it into {}", dir.display()));
        shell::run(Command::new("go").args(["install", NFPM]).current_dir(cache.dir()).env("GOBIN", &dir))
    })?;
    if !made {
        shell::say("nfpm: (already there)");
    }
    Ok(())
}

fn install_umoci() -> Result<()> {
    if find_program("umoci").is_some() {
        return Ok(());
    }
    if !debian::is_here() {
        bail!("umoci is missing: install it with the system's package manager, then `cargo xtask setup packaging`");
    }
    debian::install(&["umoci"])
}
