//! What the traced Go programs are compiled with: other releases of Go, and the modules of tests/apps/go/grpc.

use std::process::Command;

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine;

use super::Part;
use crate::shell;

pub(crate) const GO: Part = Part {
    name: "go",
    about: "The modules of the traced Go programs, and other releases of Go",
    by_default: true,
    make_ready,
};

fn make_ready(_: &Cache) -> Result<()> {
    if machine::find_program("go").is_none() {
        // Tests that need them are skipped.
        shell::say("go: not installed");
        return Ok(());
    }
    for release in machine::go_release::ALL {
        shell::say(&format!("go: downloading {release}, unless it is there"));
        // Go downloads the release that this variable names.
        shell::run(Command::new("go").arg("version").env("GOTOOLCHAIN", release))?;
    }
    shell::say("go: downloading the modules of tests/apps/go/grpc");
    // Go sees what is there already.
    let mut go = Command::new("go");
    go.args(["mod", "download"]).current_dir(machine::apps("go").join("grpc"));
    shell::run(go.env("GOMODCACHE", machine::go_modules()?))
}
