//! How generated cases are chosen: the same ones in every run, so that what fails for one fails for all.
//!
//! To look further, say how far: `PROPTEST_CASES=100000 cargo test -p onlooker-protocols` takes that many cases, other ones
//! each time (or those of `PROPTEST_RNG_SEED`). A case that fails is kept in `tests/regressions`, belongs into the
//! repository, and is tried first from then on.

use std::env;

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};

/// Any number does, as long as it stays.
const SEED: u64 = 0x6f6e_6c6f_6f6b_6572;

/// What asks for other cases than those of every run.
const EXPLORING: [&str; 2] = ["PROPTEST_CASES", "PROPTEST_RNG_SEED"];

/// The configuration of a test binary's generated cases; `regressions` is the file that keeps those that failed.
pub(crate) fn config(regressions: &'static str) -> Config {
    let of_environment = Config::default();
    let explores = EXPLORING.iter().any(|name| env::var_os(name).is_some());
    Config {
        rng_seed: if explores { of_environment.rng_seed } else { RngSeed::Fixed(SEED) },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..of_environment
    }
}

/// The file in `tests/regressions` of this name.
macro_rules! regressions {
    ($name:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions/", $name, ".txt")
    };
}

pub(crate) use regressions;
