//! Records skipped tests with their reasons, so that they are counted.

use std::env;
use std::fs::File;
use std::io::Write as _;

/// The variable that names the file in which `cargo xtask test` collects the skipped tests.
pub const SKIPPED_FILE: &str = "ONLOOKER_SKIPPED_FILE";

/// Records that the calling test is skipped because of `reason`, as one line. The test must then return.
///
/// Cargo's test runner can't skip a test at run time and counts this one as passed. `cargo xtask test` subtracts it from
/// that number.
pub fn record_skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test}: {reason}\n");
    let recorded = env::var_os(SKIPPED_FILE)
        .and_then(|path| File::options().append(true).create(true).open(path).ok())
        .is_some_and(|mut file| file.write_all(line.as_bytes()).is_ok());
    if !recorded {
        print(&line);
    }
}

#[expect(clippy::print_stderr, reason = "shown by the test runner with --nocapture")]
fn print(line: &str) {
    eprint!("skipped: {line}");
}
