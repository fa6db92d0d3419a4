//! Zipkin, from Maven Central.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine;

use super::{Part, made};
use crate::shell;

pub(crate) const ZIPKIN: Part = Part {
    name: "zipkin",
    about: "Zipkin, which `cargo xtask gateway` sends traces to (on demand)",
    by_default: false,
    make_ready,
};

const ARTIFACT: &str = "io.zipkin:zipkin-server:3.6.1:jar:exec";

fn make_ready(_: &Cache) -> Result<()> {
    let jar = machine::zipkin()?;
    let dir = jar.parent().context("Zipkin has a folder in the cache")?;
    let Some(maven) = machine::find_program("mvn") else {
        bail!("Zipkin is downloaded by Maven: install it, then `cargo xtask setup zipkin`");
    };
    let made = made::once(dir, ARTIFACT, || {
        shell::say(&format!("zipkin: downloading it into {} (135 MB)", dir.display()));
        let mut download = Command::new(maven);
        download.args(["--quiet", "--batch-mode", super::java::PLUGIN]).arg(format!("-Dartifact={ARTIFACT}"));
        shell::run(download.arg(format!("-DoutputDirectory={}", dir.display())))
    })?;
    if !made {
        shell::say("zipkin: (already there)");
    }
    Ok(())
}
