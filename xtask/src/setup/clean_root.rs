//! A minimal Debian, in which packages are installed to check them, and the tools for that.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::find_program;

use super::{Part, debian, made};
use crate::shell;

pub(crate) const CLEAN_ROOT: Part = Part {
    name: "clean-root",
    about: "A minimal Debian, in which packages are checked (on demand)",
    by_default: false,
    make_ready,
};

/// The release of Debian. It has the oldest C library that the packages are checked with.
const SUITE: &str = "bookworm";

/// The programs and the packages that have them.
const TOOLS: [(&str, &str); 2] = [("debootstrap", "debootstrap"), ("rpm", "rpm")];

/// The root file system. It is never changed: checks put a layer over it.
pub(crate) fn clean_root(cache: &Cache) -> PathBuf {
    cache.dir().join("clean-root").join(SUITE)
}

fn make_ready(cache: &Cache) -> Result<()> {
    let missing: Vec<_> =
        TOOLS.iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        if !debian::is_here() {
            bail!("missing programs: {}", missing.join(", "));
        }
        debian::install(&missing)?;
    }
    let root = clean_root(cache);
    let dir = root.parent().context("the root is in a folder")?;
    let made = made::once(dir, SUITE, || {
        shell::say(&format!("clean root: unpacking Debian's minimum into {}", root.display()));
        shell::run(Command::new("debootstrap").args(["--variant=minbase", SUITE]).arg(&root))
    })?;
    if !made {
        shell::say("clean root: (already there)");
    }
    Ok(())
}
