//! The OpenTelemetry Collector that receives the spans of the tests. The Collector's own builder makes it from
//! tests/collector/builder.yaml.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine;

use super::{Part, made};
use crate::shell;

pub(crate) const COLLECTOR: Part = Part {
    name: "collector",
    about: "The OpenTelemetry Collector that receives the spans of the tests",
    by_default: true,
    make_ready,
};

/// The builder of the same release as the components in builder.yaml.
const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.158.0";

fn make_ready(_: &Cache) -> Result<()> {
    let binary = machine::collector()?;
    let dir = binary.parent().context("the collector has a folder in the cache")?;
    let recipe = shell::file(&shell::workspace()?.join("tests/collector/builder.yaml"))?;
    if machine::find_program("go").is_none() {
        shell::say(
            "collector: not built, so the tests that need it will be skipped: install Go from https://go.dev/dl, then `cargo xtask setup collector`",
        );
        return Ok(());
    }
    let made = made::once(dir, &recipe, || {
        shell::say(&format!("collector: building it into {} (takes minutes, once)", dir.display()));
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let config = scratch.path().join("builder.yaml");
        fs::write(&config, &recipe).with_context(|| format!("cannot write {}", config.display()))?;
        shell::run(
            Command::new("go")
                .args(["run", BUILDER, "--config"])
                .arg(&config)
                .current_dir(scratch.path())
                // The builder writes a go.mod without indirect requirements. This lets Go add them.
                .env("GOFLAGS", "-mod=mod"),
        )?;
        let built = scratch.path().join("build/otelcol");
        fs::copy(&built, &binary)
            .with_context(|| format!("cannot copy {} to {}", built.display(), binary.display()))?;
        Ok(())
    })?;
    if !made {
        shell::say("collector: (already there)");
    }
    Ok(())
}
