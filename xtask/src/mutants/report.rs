//! What became of each mutant, and the summary in docs/mutants.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::shell;

/// What became of a mutant. The order is that of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Caught,
    TimedOut,
    Unviable,
    Survived,
    NotReached,
}

/// The files of cargo-mutants that list mutants by name.
const LISTS: [(&str, Fate); 5] = [
    ("caught.txt", Fate::Caught),
    ("previously_caught.txt", Fate::Caught),
    ("timeout.txt", Fate::TimedOut),
    ("unviable.txt", Fate::Unviable),
    ("missed.txt", Fate::Survived),
];

const COLUMNS: [(&str, Fate); 5] = [
    ("caught", Fate::Caught),
    ("timed out", Fate::TimedOut),
    ("do not compile", Fate::Unviable),
    ("survived", Fate::Survived),
    ("not reached", Fate::NotReached),
];

/// The reason of a survivor that nobody has looked at.
const NOT_JUDGED: &str = "not judged yet";

#[derive(Debug)]
struct Mutant {
    /// "src/file.rs:12:5: replace == with != in function"
    name: String,
    file: String,
    function: String,
    fate: Fate,
}

/// All mutants of a run.
#[derive(Debug)]
pub(super) struct Report {
    mutants: Vec<Mutant>,
}

impl Report {
    /// Reads the folder `mutants.out` of a run, which may have been stopped early.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let mut fates = BTreeMap::new();
        for (list, fate) in LISTS {
            // cargo-mutants makes some lists only when it needs them.
            let names = fs::read_to_string(dir.join(list)).unwrap_or_default();
            fates.extend(names.lines().map(|name| (name.to_owned(), fate)));
        }
        let all: Vec<Value> = serde_json::from_str(&shell::file(&dir.join("mutants.json"))?)
            .with_context(|| format!("{} has no mutants.json", dir.display()))?;
        let mutants = all.iter().map(|mutant| {
            let text = |pointer| mutant.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let name = text("/name");
            let fate = fates.get(&name).copied().unwrap_or(Fate::NotReached);
            Mutant { name, file: text("/file"), function: text("/function/function_name"), fate }
        });
        Ok(Self { mutants: mutants.collect() })
    }

    /// Writes the summary to `file` and returns the counts. Reasons of survivors that are in `file` are kept.
    pub(super) fn write(&self, file: &Path) -> Result<String> {
        let reasons = reasons(&fs::read_to_string(file).unwrap_or_default());
        fs::write(file, self.render(&reasons)).with_context(|| format!("cannot write {}", file.display()))?;
        let counts = COLUMNS.map(|(name, fate)| format!("{} {name}", self.count(|mutant| mutant.fate == fate)));
        Ok(format!("{} mutants: {}; see {}", self.mutants.len(), counts.join(", "), file.display()))
    }

    fn render(&self, reasons: &BTreeMap<String, String>) -> String {
        let mut page = String::from(
            "# Mutation tests\n\n\
             `cargo xtask mutants` changes the code in small ways, one at a time, and runs the tests of the changed crate. A mutant that no\n\
             test notices survives. This page is generated, except for the reasons of survivors.\n\n",
        );
        let heads = COLUMNS.map(|(name, _)| name).join(" | ");
        let _ = writeln!(page, "| file | mutants | {heads} |\n|---|{}", "---:|".repeat(COLUMNS.len() + 1));
        for file in self.mutants.iter().map(|mutant| &mutant.file).collect::<BTreeSet<_>>() {
            self.row(&mut page, &format!("`{file}`"), |mutant| mutant.file == *file);
        }
        self.row(&mut page, "all", |_| true);

        page.push_str("\n## Survivors\n\n| mutant | why no test notices it |\n|---|---|\n");
        let survivors = self.mutants.iter().filter(|mutant| mutant.fate == Fate::Survived);
        for name in survivors.map(|mutant| without_position(&mutant.name)).collect::<BTreeSet<_>>() {
            let reason = reasons.get(&name).map_or(NOT_JUDGED, String::as_str);
            let _ = writeln!(page, "| `{name}` | {reason} |");
        }

        page.push_str("\n## Not reached\n\nMutants per function that the run had no time for.\n\n");
        let mut left: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for mutant in self.mutants.iter().filter(|mutant| mutant.fate == Fate::NotReached) {
            *left.entry(&mutant.file).or_default().entry(&mutant.function).or_default() += 1;
        }
        if left.is_empty() {
            page.push_str("None: every mutant was tested.\n");
        }
        for (file, functions) in left {
            let functions: Vec<_> = functions.iter().map(|(function, count)| format!("`{function}` {count}")).collect();
            let _ = writeln!(page, "- `{file}`: {}", functions.join(", "));
        }
        page
    }

    fn row(&self, page: &mut String, name: &str, of: impl Fn(&Mutant) -> bool) {
        let counts =
            COLUMNS.map(|(_, fate)| self.count(|mutant| of(mutant) && mutant.fate == fate).to_string()).join(" | ");
        let _ = writeln!(page, "| {name} | {} | {counts} |", self.count(&of));
    }

    fn count(&self, of: impl Fn(&Mutant) -> bool) -> usize {
        self.mutants.iter().filter(|mutant| of(mutant)).count()
    }
}

/// The reasons in the table of survivors of an earlier page, by mutant.
fn reasons(page: &str) -> BTreeMap<String, String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    rows.filter(|(_, reason)| *reason != NOT_JUDGED)
        .map(|(name, reason)| (name.to_owned(), reason.to_owned()))
        .collect()
}

/// A mutant's name without line and column, which change whenever something above it does.
///
/// A pipe would end the cell of a table, also within backticks.
fn without_position(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    let file = parts.next().unwrap_or_default();
    let what = parts.nth(2).map_or(name, str::trim);
    format!("{file}: {what}").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "protocols/src/redis.rs:12:5: replace is_push -> bool with true",
        "protocols/src/redis.rs:20:9: replace || with && in is_push",
        "protocols/src/redis.rs:31:9: replace < with <= in length",
        "protocols/src/sql.rs:4:1: replace && with || in scan",
    ];

    fn run(lists: &[(&str, &[&str])]) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let functions = ["is_push", "is_push", "length", "scan"];
        let all: Vec<_> = NAMES
            .iter()
            .zip(functions)
            .map(|(name, function)| {
                let file = name.split(':').next();
                serde_json::json!({ "name": name, "file": file, "function": { "function_name": function } })
            })
            .collect();
        fs::write(dir.path().join("mutants.json"), serde_json::to_string(&all).unwrap()).unwrap();
        for (list, names) in lists {
            fs::write(dir.path().join(list), names.join("\n")).unwrap();
        }
        Report::read(dir.path()).unwrap()
    }

    #[test]
    fn every_mutant_is_in_one_column_and_those_without_result_were_not_reached() {
        let report = run(&[("caught.txt", &NAMES[..1]), ("missed.txt", &NAMES[1..2]), ("timeout.txt", &[])]);
        let page = report.render(&BTreeMap::new());
        assert!(page.contains("| `protocols/src/redis.rs` | 3 | 1 | 0 | 0 | 1 | 1 |\n"), "{page}");
        assert!(page.contains("| all | 4 | 1 | 0 | 0 | 1 | 2 |\n"), "{page}");
        assert!(
            page.contains("| `protocols/src/redis.rs: replace \\|\\| with && in is_push` | not judged yet |\n"),
            "{page}"
        );
        assert!(
            page.ends_with("- `protocols/src/redis.rs`: `length` 1\n- `protocols/src/sql.rs`: `scan` 1\n"),
            "{page}"
        );
    }

    #[test]
    fn a_reason_stays_with_its_mutant_when_lines_move() {
        let report = run(&[("missed.txt", &NAMES[1..])]);
        let page = report.render(&BTreeMap::new());
        let judged = page.replacen(NOT_JUDGED, "both sides are always equal", 1);
        assert_ne!(page, judged);
        assert_eq!(report.render(&reasons(&judged)), judged);
    }
}
