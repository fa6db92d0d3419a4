//! .deb and .rpm, made by nfpm from one description.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use serde_json::{Value, json};

use super::requirements::Requirements;
use super::{Release, contents};
use crate::{setup, shell};

/// Where the packages install what the archive has below its prefix.
const PREFIX: &str = "/usr";

/// Files that users change: they stay as they are in an update.
const CONFIGURATION: [(&str, &str); 2] = [
    ("deploy/packages/config.yaml", "/etc/onlooker/config.yaml"),
    ("deploy/packages/environment", "/etc/onlooker/environment"),
];

/// Folders that rpm removes only if the package owns them. Several packages may own one. dpkg removes all that become empty.
const FOLDERS: [&str; 6] = [
    "share/doc/onlooker",
    "share/doc/onlooker/examples",
    "share/zsh",
    "share/zsh/site-functions",
    "share/fish",
    "share/fish/vendor_completions.d",
];

/// Makes both packages in `dir`.
pub(super) fn make(release: &Release, stage: &Path, dir: &Path) -> Result<[PathBuf; 2]> {
    let description = serde_json::to_string_pretty(&description(release, stage)?)?;
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let config = scratch.path().join("nfpm.json");
    // JSON is YAML, which nfpm reads.
    fs::write(&config, description).with_context(|| format!("cannot write {}", config.display()))?;
    let packages = [
        ("deb", dir.join(format!("onlooker_{}_amd64.deb", release.version))),
        ("rpm", dir.join(format!("onlooker-{}-1.x86_64.rpm", release.version))),
    ];
    for (packager, target) in &packages {
        let mut nfpm = Command::new(setup::nfpm(&Cache::locate()?));
        nfpm.args(["package", "--packager", packager, "--config"]).arg(&config).arg("--target").arg(target);
        nfpm.env("SOURCE_DATE_EPOCH", release.epoch.to_string()).current_dir(shell::workspace()?);
        shell::read(&mut nfpm)?;
    }
    Ok(packages.map(|(_, target)| target))
}

/// What nfpm.yaml would contain: <https://nfpm.goreleaser.com/docs/configuration/>
fn description(release: &Release, stage: &Path) -> Result<Value> {
    let workspace = shell::workspace()?;
    let requirements = Requirements::of(&release.agent)?;
    let time = release.time()?;
    let mut contents =
        vec![json!({ "type": "dir", "dst": "/etc/onlooker", "file_info": { "mode": 0o755, "mtime": time } })];
    for (source, target) in CONFIGURATION {
        contents.push(json!({
            "type": "config|noreplace", "src": workspace.join(source), "dst": target,
            "file_info": { "mode": 0o644, "mtime": time },
        }));
    }
    for folder in FOLDERS {
        contents.push(json!({
            "type": "dir", "dst": format!("{PREFIX}/{folder}"), "packager": "rpm",
            "file_info": { "mode": 0o755, "mtime": time },
        }));
    }
    let mut add = |path: &str, target: &str, mode: u32, packager: Option<&str>| {
        let mut file = json!({
            "src": stage.join(path), "dst": format!("{PREFIX}/{target}"), "file_info": { "mode": mode, "mtime": time },
        });
        if let Some(packager) = packager {
            file["packager"] = json!(packager);
        }
        contents.push(file);
    };
    for item in contents::ITEMS {
        match item.debian {
            None => add(item.path, item.path, item.mode, None),
            Some(debian) => {
                add(item.path, debian, item.mode, Some("deb"));
                add(item.path, item.path, item.mode, Some("rpm"));
            }
        }
    }
    for page in contents::man_pages(stage)? {
        add(&page, &page, 0o644, None);
    }
    Ok(json!({
        "name": "onlooker",
        "arch": "amd64",
        "platform": "linux",
        "version": release.version,
        "release": "1",
        "section": "admin",
        "priority": "optional",
        "maintainer": "The Onlooker authors",
        "description": "OpenTelemetry traces of unmodified services\n\
            Records the network traffic of selected services in the kernel, with eBPF, and exports it as OpenTelemetry traces.",
        "license": "(MIT OR Apache-2.0) AND (MIT OR GPL-2.0)",
        "mtime": time,
        "contents": contents,
        "scripts": {
            "postinstall": workspace.join("deploy/packages/after-install.sh"),
            "preremove": workspace.join("deploy/packages/before-remove.sh"),
            "postremove": workspace.join("deploy/packages/after-remove.sh"),
        },
        "overrides": {
            "deb": { "depends": requirements.debian()? },
            "rpm": { "depends": requirements.rpm() },
        },
        // The systems with a new enough C library can read zstd. It unpacks faster than xz.
        "deb": { "compression": "zstd" },
        "rpm": { "compression": "zstd", "group": "System/Monitoring", "buildhost": "localhost" },
    }))
}
