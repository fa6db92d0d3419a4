//! The traced Rust program: tests/apps/rust, built in the cache.

use anyhow::Result;
use onlooker_ebpf_build::Cache;
use onlooker_tests::servers::build_rust;

use super::Part;
use crate::shell;

pub(crate) const RUST: Part = Part {
    name: "rust",
    about: "The traced Rust program, with and without optimisation",
    by_default: true,
    make_ready,
};

fn make_ready(_: &Cache) -> Result<()> {
    shell::say("rust: building tests/apps/rust");
    // Cargo sees what is built already.
    [true, false].into_iter().try_for_each(|optimised| build_rust(optimised).map(drop))
}
