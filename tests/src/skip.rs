//! A test that can't run here says so and why; it is counted, not forgotten.

use std::env;
use std::fs::File;
use std::io::Write as _;

/// The variable that names the file which `cargo xtask test` gathers the skipped tests in.
pub const SKIPPED_FILE: &str = "ONLOOKER_SKIPPED_FILE";

/// Records that the calling test is skipped because of `reason`, one line per test. The test then returns.
///
/// Cargo's test runner knows only tests that are ignored when they are compiled, and counts this one as passed:
/// `cargo xtask test` takes it out of that number.
pub fn record_skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test}: {reason}\n");
    let recorded = env::var_os(SKIPPED_FILE)
        .and_then(|path| File::options().append(true).create(true).open(path).ok())
        .is_some_and(|mut file| file.write_all(line.as_bytes()).is_ok());
    if !recorded {
        say(&line);
    }
}

#[expect(clippy::print_stderr, reason = "shown by the test runner with --nocapture")]
fn say(line: &str) {
    eprint!("skipped: {line}");
}
