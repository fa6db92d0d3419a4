//! The servers and tools of the system that are traced and that trace: installed on Debian, named elsewhere.

use std::process::Command;

use anyhow::{Result, bail};
use onlooker_tests::machine::{find_program, postgres_programs};

use super::{debian, python};
use crate::shell;

/// What must be on the machine, and the Debian package that brings it.
const NEEDED: [(&str, &str); 9] = [
    ("nginx", "nginx-light"),
    ("redis-server", "redis-server"),
    ("initdb", "postgresql"),
    // The service that many tests' programs ask; Go and Java are languages that a test can do without.
    ("node", "nodejs"),
    ("curl", "curl"),
    ("wrk", "wrk"),
    ("ip", "iproute2"),
    ("python3", "python3"),
    ("ensurepip", "python3-venv"),
];

pub(super) fn make_ready() -> Result<()> {
    let missing: Vec<_> = NEEDED.iter().filter(|(program, _)| !is_here(program)).collect();
    if missing.is_empty() {
        shell::say("packages: (already there)");
        return Ok(());
    }
    if !debian::is_here() {
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        bail!(
            "these are missing: {}: install them with the system's package manager, then `cargo xtask setup`",
            programs.join(", ")
        );
    }
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    shell::say(&format!("packages: installing {}", packages.join(", ")));
    debian::install(&packages)
}

fn is_here(program: &str) -> bool {
    match program {
        // Off PATH on Debian.
        "initdb" => postgres_programs().is_some(),
        // A module of the standard library that Debian packs apart, without which there are no virtual environments.
        "ensurepip" => python::interpreter()
            .is_ok_and(|python| shell::read(Command::new(python).args(["-c", "import ensurepip"])).is_ok()),
        _ => find_program(program).is_some(),
    }
}
