//! The traced Rust programs: tests/apps/rust, built in the cache.

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_tests::servers::{RUST_PACKAGES, build_rust};

use super::Part;
use crate::shell;

pub(crate) const RUST: Part = Part {
    name: "rust",
    about: "The traced Rust programs, with and without optimisation",
    by_default: true,
    make_ready,
};

fn make_ready(_: &Cache) -> Result<()> {
    shell::say("rust: building tests/apps/rust");
    // Cargo sees what is built already.
    for (package, unoptimised_too) in RUST_PACKAGES {
        build_rust(package, true)?;
        if unoptimised_too {
            build_rust(package, false)?;
        }
    }
    Ok(())
}
