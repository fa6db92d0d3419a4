//! How many tests passed, failed and were skipped, and why, read from what `cargo test` prints.

use std::collections::BTreeMap;

/// A running count.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    /// What the runner said of tests that failed, a line each: said again at the end, where it is looked for.
    reports: Vec<String>,
    /// Whether the runner is saying so.
    reporting: bool,
    /// Failures that are not a test's.
    failures: Vec<String>,
    /// By reason, the tests.
    skipped: BTreeMap<String, Vec<String>>,
}

impl Tally {
    /// Counts a line of the test runner's, if it is one that counts, and keeps what it says of failures.
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

    /// One more that passed.
    pub(super) fn pass(&mut self) {
        self.passed += 1;
    }

    /// One more that failed, for a reason that is shown at the end.
    pub(super) fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.failures.push(why.to_owned());
    }

    /// A test that found out by running that it can't run here, "test: reason": the runner has counted it as passed.
    pub(super) fn skip_a_passed_one(&mut self, line: &str) {
        let (test, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
        self.passed = self.passed.saturating_sub(1);
        self.skip(test, reason);
    }

    /// How many failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// What to print: why some were skipped, what failed and why, and last the count of all.
    pub(super) fn summary(&self) -> Vec<String> {
        let skipped = self.skipped.values().map(Vec::len).sum::<usize>();
        let reasons =
            self.skipped.iter().map(|(why, tests)| format!("skipped {}: {why} ({})", tests.len(), tests.join(", ")));
        let failures = self.failures.iter().map(|why| format!("failed: {why}"));
        let count = format!("{} passed, {} failed, {skipped} skipped", self.passed, self.failed);
        reasons.chain(self.reports.iter().cloned()).chain(failures).chain([count]).collect()
    }

    fn skip(&mut self, test: &str, reason: &str) {
        self.skipped.entry(reason.to_owned()).or_default().push(test.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn every_test_is_counted_once_and_every_skipped_one_with_its_reason() {
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
        tally.skip_a_passed_one("node: no Node here");
        tally.fail("fuzz target http1: crash");
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
                "4 passed, 2 failed, 2 skipped",
            ]
        );
    }
}
