//! The container image, made from nothing: the agent, the libraries that it is linked with, and certificates.
//!
//! The agent is the same binary as in the other packages, so it is the one that the tests ran. It is linked with the C library, which resolves
//! names by itself, without plugins. The libraries are those of the machine that builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contents::create_parent;
use super::{Release, archive};
use crate::shell;

/// The program in the image.
pub(super) const ENTRYPOINT: &str = "/onlooker";

/// The image in a layout, as umoci names it: with a reference that `podman load` shows as `onlooker:0.1.0`.
fn reference(layout: &Path, version: &str) -> String {
    format!("{}:onlooker:{version}", layout.display())
}

/// Files of the machine. Without those that are marked so, the image would not work.
const FILES: [(&str, bool); 3] = [
    // The CAs to trust, for collectors that are reached over TLS. Every distribution has them there, at least as a link.
    ("/etc/ssl/certs/ca-certificates.crt", true),
    // The licences of the libraries, where Debian has them.
    ("/usr/share/doc/libc6/copyright", false),
    ("/usr/share/doc/libgcc-s1/copyright", false),
];

/// Files of the workspace, and where they are in the image.
const LICENCES: [(&str, &str); 3] = [
    ("LICENSE-MIT", "usr/share/doc/onlooker/LICENSE-MIT"),
    ("LICENSE-APACHE", "usr/share/doc/onlooker/LICENSE-APACHE"),
    ("java/LICENSE-ASM", "usr/share/doc/onlooker/LICENSE-ASM"),
];

/// Makes an archive of an OCI image layout, as `podman load`, `skopeo` and `ctr image import` take it.
pub(super) fn make(release: &Release, scratch: &Path, dir: &Path) -> Result<PathBuf> {
    let root = scratch.join("root");
    fill(release, &root)?;
    let layer = scratch.join("layer.tar");
    archive::pack(release, &root, &layer)?;
    let layout = scratch.join("layout");
    let image = reference(&layout, release.version);
    let created = &release.time()?;
    umoci(&["init", "--layout", &layout.display().to_string()])?;
    umoci(&["new", "--image", &image])?;
    // The configuration first: `config` would add a line of history of its own after the layer's.
    let entrypoint = format!("--config.entrypoint={ENTRYPOINT}");
    let version = format!("--config.label=org.opencontainers.image.version={}", release.version);
    let licences = "--config.label=org.opencontainers.image.licenses=(MIT OR Apache-2.0) AND (MIT OR GPL-2.0)";
    let title = "--config.label=org.opencontainers.image.title=Onlooker";
    let common = ["--created", created, "--architecture=amd64", "--os=linux", "--no-history"];
    umoci(&[&["config", "--image", &image, &entrypoint, &version, licences, title], &common[..]].concat())?;
    let history = ["--history.created", created, "--history.created_by", "cargo xtask package"];
    let layer = layer.display().to_string();
    umoci(&[&["raw", "add-layer", "--image", &image], &history[..], &[&layer]].concat())?;
    // The blobs of the steps before the last.
    umoci(&["gc", "--layout", &layout.display().to_string()])?;
    let target = dir.join(format!("{}.oci.tar", release.name()));
    archive::pack(release, &layout, &target)?;
    Ok(target)
}

/// Copies everything that the image contains below `root`.
fn fill(release: &Release, root: &Path) -> Result<()> {
    copy(&release.agent, &root.join(ENTRYPOINT.trim_start_matches('/')))?;
    for library in libraries(&release.agent)? {
        let target = root.join(library.strip_prefix("/").unwrap_or(&library));
        copy(&library, &target)?;
    }
    for (file, needed) in FILES {
        if needed || Path::new(file).exists() {
            copy(Path::new(file), &root.join(file.trim_start_matches('/')))?;
        }
    }
    let workspace = shell::workspace()?;
    for (source, target) in LICENCES {
        copy(&workspace.join(source), &root.join(target))?;
    }
    Ok(())
}

/// The dynamic loader and all libraries that it would load, at the paths where it looks for them.
fn libraries(agent: &Path) -> Result<Vec<PathBuf>> {
    let listed = shell::read(Command::new("ldd").arg(agent))?;
    let found = listed.lines().filter_map(library).map(PathBuf::from).collect::<Vec<_>>();
    anyhow::ensure!(!found.is_empty(), "ldd lists no libraries of {}: {listed}", agent.display());
    Ok(found)
}

/// The path in a line of ldd: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f3c8c600000)`. The vDSO has none.
fn library(line: &str) -> Option<&str> {
    let path = line.split_whitespace().rev().nth(1)?;
    path.starts_with('/').then_some(path)
}

/// Copies a file, and what a link points to.
fn copy(source: &Path, target: &Path) -> Result<()> {
    create_parent(target)?;
    fs::copy(source, target)
        .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))
        .map(drop)
}

fn umoci(arguments: &[&str]) -> Result<()> {
    shell::read(Command::new("umoci").args(arguments)).map(drop)
}

/// Unpacks the image as a container runtime would, and returns the folder of its root file system.
pub(super) fn unpack(image: &Path, version: &str, dir: &Path) -> Result<PathBuf> {
    let layout = dir.join("layout");
    fs::create_dir_all(&layout).with_context(|| format!("cannot create {}", layout.display()))?;
    shell::run(Command::new("tar").arg("--extract").arg("--file").arg(image).arg("--directory").arg(&layout))?;
    let bundle = dir.join("bundle");
    let bundle_text = bundle.display().to_string();
    umoci(&["unpack", "--image", &reference(&layout, version), &bundle_text])?;
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::library;

    #[test]
    fn paths_of_libraries_are_read_from_ldd() {
        let lines = [
            "\tlinux-vdso.so.1 (0x00007fd3db91c000)",
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fd3da81e000)",
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007fd3db91e000)",
        ];
        let found: Vec<_> = lines.iter().filter_map(|line| library(line)).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
