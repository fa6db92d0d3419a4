//! What the traced Node applications require, and other versions of Node: tests/apps/node/npm/package.json, in the cache.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine;

use super::{Part, made};
use crate::shell;

pub(crate) const NODE: Part = Part {
    name: "node",
    about: "The packages of the traced Node applications, and other versions of Node",
    by_default: true,
    make_ready,
};

fn make_ready(_: &Cache) -> Result<()> {
    let Some(npm) = machine::find_program("npm") else {
        // Tests that need the packages are skipped.
        shell::say("node: npm is not installed");
        return Ok(());
    };
    let dir = machine::node_packages()?;
    let pinned = shell::workspace()?.join("tests/apps/node/npm/package.json");
    let content = shell::file(&pinned)?;
    let made = made::once(&dir, &content, || {
        shell::say(&format!("node: installing {} into {}", pinned.display(), dir.display()));
        fs::write(dir.join("package.json"), &content)
            .with_context(|| format!("cannot write package.json into {}", dir.display()))?;
        let arguments = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
        shell::run(Command::new(&npm).args(arguments).current_dir(&dir))
    })?;
    if !made {
        shell::say("node: packages (already there)");
    }
    Ok(())
}
