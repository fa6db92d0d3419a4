//! The virtual environments of the traced Python applications, in the cache: one for each list of packages in
//! tests/apps/python.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine;

use super::{Part, made};
use crate::shell;

pub(crate) const PYTHON: Part = Part {
    name: "python",
    about: "The virtual environments of the traced Python applications",
    by_default: true,
    make_ready,
};

fn make_ready(_: &Cache) -> Result<()> {
    for (dir, list) in [
        (machine::python_environment()?, "requirements.txt"),
        (machine::python_http2_environment()?, "requirements-http2.txt"),
    ] {
        environment(&dir, &shell::workspace()?.join("tests/apps/python").join(list))?;
    }
    Ok(())
}

fn environment(dir: &Path, requirements: &Path) -> Result<()> {
    let python = interpreter()?;
    let version = shell::read(Command::new(&python).arg("--version"))?;
    let pinned = shell::file(requirements)?;
    let made = made::once(dir, &format!("{}\n{version}\n{pinned}", python.display()), || {
        shell::say(&format!("python: installing {} into {}", requirements.display(), dir.display()));
        shell::run(Command::new(&python).args(["-m", "venv"]).arg(dir))?;
        let mut pip = Command::new(dir.join("bin/python"));
        shell::run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(requirements))
    })?;
    if !made {
        shell::say(&format!("python: {} (already there)", requirements.display()));
    }
    Ok(())
}

/// The system's Python, or else the one on PATH. Most traced services use the system's.
pub(super) fn interpreter() -> Result<PathBuf> {
    let system = Path::new("/usr/bin/python3");
    if system.is_file() {
        return Ok(system.to_path_buf());
    }
    machine::find_program("python3").context("Python 3 is not installed: run `cargo xtask setup packages`")
}
