//! A Kubernetes API server with etcd and kubectl, for `cargo xtask cluster`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::find_program;

use super::{Part, debian, made};
use crate::shell;

pub(crate) const KUBERNETES: Part = Part {
    name: "kubernetes",
    about: "kube-apiserver, etcd and kubectl, for `cargo xtask cluster`",
    by_default: false,
    make_ready,
};

/// The module of kube-apiserver.
const KUBERNETES_MODULE: &str = "k8s.io/kubernetes@v1.36.3";
/// The version of the modules that are part of it.
const LIBRARIES: &str = "v0.36.3";

/// The programs, after the part is ready.
pub(crate) struct Programs {
    pub(crate) api_server: PathBuf,
    pub(crate) etcd: PathBuf,
}

/// Where the programs are.
pub(crate) fn programs() -> Result<Programs> {
    let dir = dir(&Cache::locate()?);
    let etcd = find_program("etcd").unwrap_or_else(|| dir.join("etcd/usr/bin/etcd"));
    Ok(Programs { api_server: dir.join("kube-apiserver"), etcd })
}

fn dir(cache: &Cache) -> PathBuf {
    cache.dir().join("kubernetes")
}

fn make_ready(cache: &Cache) -> Result<()> {
    find_program("go").context("Go is missing: install it from https://go.dev/dl")?;
    if find_program("kubectl").is_none() {
        debian::install(&["kubernetes-client"]).context("kubectl is missing, and cannot be installed")?;
    }
    let dir = dir(cache);
    let made = made::once(&dir, &format!("{KUBERNETES_MODULE} {LIBRARIES}"), || {
        shell::say(&format!("kubernetes: building it into {} (takes a quarter of an hour, once)", dir.display()));
        if find_program("etcd").is_none() {
            debian::unpack(&["etcd-server"], &dir.join("etcd"))?;
        }
        // The compiled packages are not needed later.
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let built = build(scratch.path(), &dir);
        // Go makes the folders of modules read-only.
        let _ = shell::run(Command::new("chmod").args(["-R", "u+w"]).arg(scratch.path()));
        built
    })?;
    if !made {
        shell::say("kubernetes: (already there)");
    }
    Ok(())
}

fn build(scratch: &Path, dir: &Path) -> Result<()> {
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(arguments).current_dir(scratch);
        go.env("GOCACHE", scratch.join("cache")).env("GOMODCACHE", scratch.join("modules"));
        go.env("GOFLAGS", "-p=2 -mod=mod").env("GOBIN", dir);
        go
    };
    shell::run(&mut go(&["mod", "init", "onlooker.test/kubernetes"]))?;
    let module = shell::read(&mut go(&["mod", "download", "-json", KUBERNETES_MODULE]))?;
    let module: serde_json::Value = serde_json::from_str(&module).context("go printed no JSON")?;
    let module = Path::new(module["Dir"].as_str().context("go named no folder")?);
    let sums = scratch.join("go.sum");
    fs::write(&sums, shell::file(&module.join("go.sum"))?)
        .with_context(|| format!("cannot write {}", sums.display()))?;
    // Its modules refer to folders of its repository.
    for line in shell::file(&module.join("go.mod"))?.lines() {
        if let Some((library, _)) = line.trim().split_once(" => ./staging/") {
            shell::run(&mut go(&["mod", "edit", "-replace", &format!("{library}={library}@{LIBRARIES}")]))?;
        }
    }
    shell::run(&mut go(&["mod", "edit", "-require", KUBERNETES_MODULE]))?;
    let api_server = dir.join("kube-apiserver");
    let stripped = ["build", "-trimpath", "-ldflags", "-s -w"];
    shell::run(go(&stripped).arg("-o").arg(&api_server).arg("k8s.io/kubernetes/cmd/kube-apiserver"))
}
