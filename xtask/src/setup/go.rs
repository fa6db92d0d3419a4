//! The modules of the traced Go programs: tests/apps/go/grpc/go.mod, in the cache.

use std::process::Command;

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine;

use super::Part;
use crate::shell;

pub(crate) const GO: Part =
    Part { name: "go", about: "The modules of the traced Go programs", by_default: true, make_ready };

fn make_ready(_: &Cache) -> Result<()> {
    if machine::find_program("go").is_none() {
        // Tests that need them are skipped.
        shell::say("go: not installed");
        return Ok(());
    }
    shell::say("go: downloading the modules of tests/apps/go/grpc");
    // Go sees what is there already.
    let mut go = Command::new("go");
    go.args(["mod", "download"]).current_dir(machine::apps("go").join("grpc"));
    shell::run(go.env("GOMODCACHE", machine::go_modules()?))
}
