//! The files of the packages: a table with one row each, and the folder that they are collected in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Release;
use crate::shell;

/// A file, and where it is installed.
pub(super) struct Item {
    /// Below the prefix, which is `/usr` in .deb and .rpm, and where the archive is unpacked otherwise.
    pub(super) path: &'static str,
    /// Where Debian has it, if that is elsewhere.
    pub(super) debian: Option<&'static str>,
    source: Source,
    pub(super) mode: u32,
}

enum Source {
    Agent,
    /// A file of the workspace.
    File(&'static str),
    /// What the agent prints.
    Printed(&'static [&'static str]),
}

pub(super) const ITEMS: &[Item] = &[
    Item { path: "bin/onlooker", debian: None, source: Source::Agent, mode: 0o755 },
    file("lib/systemd/system/onlooker.service", "deploy/systemd/onlooker.service"),
    completions("share/bash-completion/completions/onlooker", &["generate", "completions", "bash"]),
    Item {
        // Debian's zsh does not look where all others do.
        debian: Some("share/zsh/vendor-completions/_onlooker"),
        ..completions("share/zsh/site-functions/_onlooker", &["generate", "completions", "zsh"])
    },
    completions("share/fish/vendor_completions.d/onlooker.fish", &["generate", "completions", "fish"]),
    file("share/doc/onlooker/README.md", "README.md"),
    file("share/doc/onlooker/CHANGELOG.md", "CHANGELOG.md"),
    file("share/doc/onlooker/LICENSE-MIT", "LICENSE-MIT"),
    file("share/doc/onlooker/LICENSE-APACHE", "LICENSE-APACHE"),
    // The library for JVMs contains ASM.
    file("share/doc/onlooker/LICENSE-ASM", "java/LICENSE-ASM"),
    file("share/doc/onlooker/examples/config.yaml", "deploy/packages/config.yaml"),
    file("share/doc/onlooker/examples/environment", "deploy/packages/environment"),
];

/// The folder of the man pages, below the prefix.
pub(super) const MAN: &str = "share/man/man1";

const fn file(path: &'static str, source: &'static str) -> Item {
    Item { path, debian: None, source: Source::File(source), mode: 0o644 }
}

const fn completions(path: &'static str, command: &'static [&'static str]) -> Item {
    Item { path, debian: None, source: Source::Printed(command), mode: 0o644 }
}

/// Collects all files below `stage`, as they are below the prefix.
pub(super) fn stage(release: &Release, stage: &Path) -> Result<PathBuf> {
    let workspace = shell::workspace()?;
    for item in ITEMS {
        let target = stage.join(item.path);
        create_parent(&target)?;
        let copied = match item.source {
            Source::Agent => fs::copy(&release.agent, &target).map(drop),
            Source::File(file) => fs::copy(workspace.join(file), &target).map(drop),
            Source::Printed(command) => fs::write(&target, shell::read(Command::new(&release.agent).args(command))?),
        };
        copied.with_context(|| format!("cannot write {}", target.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(item.mode))
            .with_context(|| format!("cannot set the mode of {}", target.display()))?;
    }
    let man = stage.join(MAN);
    fs::create_dir_all(&man).with_context(|| format!("cannot create {}", man.display()))?;
    shell::run(Command::new(&release.agent).args(["generate", "man"]).arg(&man))?;
    // Without -n, gzip writes the time.
    shell::run(Command::new("gzip").args(["-n", "-9", "-r"]).arg(&man))?;
    Ok(stage.to_owned())
}

/// The man pages below `stage`, sorted, as paths below the prefix.
pub(super) fn man_pages(stage: &Path) -> Result<Vec<String>> {
    let man = stage.join(MAN);
    let mut pages = Vec::new();
    for entry in fs::read_dir(&man).with_context(|| format!("cannot read {}", man.display()))? {
        let name = entry?.file_name().into_string().ok().context("clap names the pages")?;
        pages.push(format!("{MAN}/{name}"));
    }
    pages.sort();
    Ok(pages)
}

pub(super) fn create_parent(file: &Path) -> Result<()> {
    let parent = file.parent().context("a file is in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))
}
