//! OpenTelemetry Collectors, which the Collector's own builder makes from the recipes in tests/collector.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_tests::machine;

use super::{Part, made};
use crate::shell;

pub(crate) const COLLECTOR: Part = Part {
    name: "collector",
    about: "The OpenTelemetry Collector that receives the spans of the tests",
    by_default: true,
    make_ready: |_| {
        if machine::find_program("go").is_none() {
            shell::say(
                "collector: not built, so the tests that need it will be skipped: install Go from https://go.dev/dl, then `cargo xtask setup collector`",
            );
            return Ok(());
        }
        build("collector", &machine::collector()?, "builder.yaml", &[])
    },
};

pub(crate) const GATEWAY: Part = Part {
    name: "gateway",
    about: "The OpenTelemetry Collector that runs deploy/collector (on demand)",
    by_default: false,
    make_ready: |_| build_apart("gateway", &machine::gateway_collector()?, "gateway.yaml"),
};

pub(crate) const PODS_COLLECTOR: Part = Part {
    name: "pods-collector",
    about: "The OpenTelemetry Collector that `cargo xtask cluster` compares attributes of pods with (on demand)",
    by_default: false,
    make_ready: |_| build_apart("pods-collector", &machine::pods_collector()?, "kubernetes.yaml"),
};

/// The builder of the same release as the components in the recipes.
const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.158.0";

/// Builds a Collector whose modules and objects take gigabytes that nothing else uses. They are removed.
fn build_apart(part: &str, binary: &Path, recipe: &str) -> Result<()> {
    if machine::find_program("go").is_none() {
        bail!("the Collector needs Go: install it from https://go.dev/dl, then `cargo xtask setup {part}`");
    }
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let [modules, objects] = ["modules", "objects"].map(|name| scratch.path().join(name));
    build(part, binary, recipe, &[("GOMODCACHE", &modules), ("GOCACHE", &objects)])
}

/// Builds `binary` from a recipe of tests/collector, unless it was built from exactly that before.
fn build(part: &str, binary: &Path, recipe: &str, folders: &[(&str, &PathBuf)]) -> Result<()> {
    let dir = binary.parent().context("the collector has a folder in the cache")?;
    let recipe = shell::file(&shell::workspace()?.join("tests/collector").join(recipe))?;
    let made = made::once(dir, &recipe, || {
        shell::say(&format!("{part}: building a Collector into {} (takes minutes, once)", dir.display()));
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let config = scratch.path().join("builder.yaml");
        fs::write(&config, &recipe).with_context(|| format!("cannot write {}", config.display()))?;
        let mut go = Command::new("go");
        go.args(["run", BUILDER, "--config"]).arg(&config).current_dir(scratch.path());
        // The builder writes a go.mod without indirect requirements, which Go may add. Folders of modules that are read-only
        // could not be removed.
        go.env("GOFLAGS", "-mod=mod -modcacherw").envs(folders.iter().copied());
        shell::run(&mut go)?;
        let built = scratch.path().join("build/otelcol");
        fs::copy(&built, binary).with_context(|| format!("cannot copy {} to {}", built.display(), binary.display()))?;
        Ok(())
    })?;
    if !made {
        shell::say(&format!("{part}: (already there)"));
    }
    Ok(())
}
