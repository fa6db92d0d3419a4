//! The environment of the Python applications that are traced: tests/apps/python/requirements.txt, in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_tests::machine;

use super::made;
use crate::shell;

pub(super) fn make_ready() -> Result<()> {
    let dir = machine::python_environment()?;
    let requirements = shell::workspace()?.join("tests/apps/python/requirements.txt");
    let python = interpreter()?;
    let version = shell::read(Command::new(&python).arg("--version"))?;
    let pinned = shell::file(&requirements)?;
    let made = made::once(&dir, &format!("{}\n{version}\n{pinned}", python.display()), || {
        shell::say(&format!("python: installing {} into {}", requirements.display(), dir.display()));
        shell::run(Command::new(&python).args(["-m", "venv"]).arg(&dir))?;
        let mut pip = Command::new(dir.join("bin/python"));
        shell::run(
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements),
        )
    })?;
    if !made {
        shell::say("python: environment (already there)");
    }
    Ok(())
}

/// The system's own Python before one of a version manager's: it is the one whose users we must serve.
pub(super) fn interpreter() -> Result<PathBuf> {
    let of_the_system = Path::new("/usr/bin/python3").to_path_buf();
    if of_the_system.is_file() {
        return Ok(of_the_system);
    }
    machine::find_program("python3").context("Python 3 is not installed: run `cargo xtask setup packages`")
}
