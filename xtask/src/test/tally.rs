//! Counts passed, failed and skipped tests, from what `cargo test` prints.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;

use crate::shell;

/// A running count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    /// The lines that the test runner printed about failed tests. They are repeated at the end.
    reports: Vec<String>,
    /// Whether the next lines of the test runner are about failed tests.
    reporting: bool,
    /// Failures outside of the test runner.
    failures: Vec<String>,
    /// Skipped tests by reason.
    skipped: BTreeMap<String, Vec<String>>,
}

impl Tally {
    /// Counts one thing that is not a test of the test runner.
    pub(crate) fn add(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.fail(&format!("{what}: {error:#}")),
        }
    }

    /// Prints the summary, with the count as its last line, and returns the exit code.
    pub(crate) fn finish(&self) -> ExitCode {
        for line in self.summary() {
            shell::say(&line);
        }
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Takes a line of the test runner.
    pub(super) fn count(&mut self, line: &str) {
        self.reporting = (self.reporting || line == "failures:") && !line.starts_with("test result: ");
        if self.reporting {
            self.reports.push(line.to_owned());
        } else if let Some(numbers) = line.strip_prefix("test result: ") {
            // "ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s"
            let number = |what: &str| {
                let words: Vec<_> = numbers.split([' ', ';']).collect();
                words
                    .windows(2)
                    .find(|pair| pair[1] == what)
                    .and_then(|pair| pair[0].parse::<usize>().ok())
                    .unwrap_or(0)
            };
            self.passed += number("passed");
            self.failed += number("failed");
        } else if let Some((test, ignored)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"))
        {
            let reason = ignored.strip_prefix(", ").unwrap_or("no reason given");
            self.skip(test, reason);
        }
    }

    /// Counts a failure that the test runner did not report.
    pub(super) fn fail(&mut self, reason: &str) {
        self.failed += 1;
        self.failures.push(reason.to_owned());
    }

    /// Counts a skipped test.
    pub(crate) fn skip(&mut self, test: &str, reason: &str) {
        self.skipped.entry(reason.to_owned()).or_default().push(test.to_owned());
    }

    /// Takes a line "test: reason" of a test that skipped itself. The test runner has counted it as passed.
    pub(super) fn skip_passed(&mut self, line: &str) {
        let (test, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
        self.passed = self.passed.saturating_sub(1);
        self.skip(test, reason);
    }

    /// The number of failures so far.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// The reasons of skips and failures, and the count.
    fn summary(&self) -> Vec<String> {
        let skipped = self.skipped.values().map(Vec::len).sum::<usize>();
        let reasons =
            self.skipped.iter().map(|(why, tests)| format!("skipped {}: {why} ({})", tests.len(), tests.join(", ")));
        let failures = self.failures.iter().map(|why| format!("failed: {why}"));
        let count = format!("{} passed, {} failed, {skipped} skipped", self.passed, self.failed);
        reasons.chain(self.reports.iter().cloned()).chain(failures).chain([count]).collect()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::Tally;

    #[test]
    fn every_test_is_counted_once_and_every_skip_has_its_reason() {
        let mut tally = Tally::default();
        let printed = [
            "running 4 tests",
            "test sendfile ... ok",
            "test on_kernel_5_15 ... ignored, needs a virtual machine",
            "test node ... ok",
            "failures:",
            "---- curl stdout ----",
            "Error: no span within 20s",
            "failures:",
            "    curl",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ];
        for line in printed {
            tally.count(line);
        }
        tally.skip_passed("node: no Node here");
        tally.add("fuzz target http1", Err(anyhow!("crash")));
        tally.add("the demo", Ok(()));
        assert_eq!(
            tally.summary(),
            [
                "skipped 1: needs a virtual machine (on_kernel_5_15)",
                "skipped 1: no Node here (node)",
                "failures:",
                "---- curl stdout ----",
                "Error: no span within 20s",
                "failures:",
                "    curl",
                "failed: fuzz target http1: crash",
                "5 passed, 2 failed, 2 skipped",
            ]
        );
    }
}
