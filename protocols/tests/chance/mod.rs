//! The choice of generated cases: the same in every run, so that a failure can be repeated.
//!
//! To explore further: `PROPTEST_CASES=100000 cargo test -p onlooker-protocols` runs that many cases, new
//! ones each time (or those of `PROPTEST_RNG_SEED`). A case that fails is written to `tests/regressions`, which belongs
//! into the repository, and is run first from then on.

use std::env;

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};

/// Any number, as long as it does not change.
const SEED: u64 = 0x6f6e_6c6f_6f6b_6572;

/// Variables that ask for other cases.
const EXPLORING: [&str; 2] = ["PROPTEST_CASES", "PROPTEST_RNG_SEED"];

/// The configuration of a test binary's generated cases. `regressions` is the file of cases that failed.
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
