//! docs/kernels.md: what the checks found on each kernel, and what each program costs the verifier there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::checks::{CHECKS, LOADED, Outcome};
use crate::shell;

/// Everything below this line is written by [`write()`].
const MARK: &str = "<!-- Below: written by `cargo xtask vm --write`. -->";

/// What is known of one kernel.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) release: String,
    pub(super) outcomes: Vec<Outcome>,
}

/// Replaces the tables of docs/kernels.md.
pub(super) fn write(rows: &[Row]) -> Result<()> {
    let path = shell::workspace()?.join("docs/kernels.md");
    let text = shell::file(&path)?;
    let (head, _) = text.split_once(MARK).with_context(|| format!("{} has no line `{MARK}`", path.display()))?;
    let text = format!("{head}{MARK}\n\n{}\n{}", checks(rows), programs(rows, &stacks()?));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// One line per kernel, one column per check.
fn checks(rows: &[Row]) -> String {
    let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    let cells = rows.iter().map(|row| {
        let cell = |name: &&str| match row.outcomes.iter().find(|outcome| outcome.name == *name) {
            None => "not run".to_owned(),
            Some(Outcome { fault: None, .. }) => "yes".to_owned(),
            Some(Outcome { fault: Some(fault), .. }) => format!("no: {}", fault.lines().next().unwrap_or_default()),
        };
        [row.name.clone(), format!("`{}`", row.release)].into_iter().chain(names.iter().map(cell)).collect()
    });
    table(&[&["kernel", "release"], &names[..]].concat(), cells)
}

/// One line per program: its stack, and one column per kernel.
fn programs(rows: &[Row], stacks: &BTreeMap<String, String>) -> String {
    let mut programs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (column, row) in rows.iter().enumerate() {
        let printed = row.outcomes.iter().filter(|outcome| outcome.name == LOADED).flat_map(|outcome| &outcome.printed);
        for (program, instructions) in printed.filter_map(|line| loaded(line)) {
            programs.entry(program.to_owned()).or_insert_with(|| vec!["-".to_owned(); rows.len()])[column] =
                instructions.to_owned();
        }
    }
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    let lines = programs.into_iter().map(|(program, instructions)| {
        let stack = stacks.get(&program).map_or("?", String::as_str).to_owned();
        [vec![format!("`{program}`"), stack], instructions].concat()
    });
    table(&[&["program", "stack (bytes)"], &names[..]].concat(), lines)
}

/// The stack of each program and of what it calls, as the agent's test of the object prints it.
fn stacks() -> Result<BTreeMap<String, String>> {
    let mut test = shell::cargo()?;
    test.args(["test", "--quiet", "--package", "onlooker", "--lib", "kernel::stack", "--", "--nocapture"]);
    Ok(shell::read(&mut test)?.lines().filter_map(stack).collect())
}

/// A line such as " 392 sock_send_length > capture_segment".
fn stack(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let bytes = words.next().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((words.next()?.to_owned(), bytes.to_owned()))
}

/// The program and its verified instructions, in a line of the agent's log.
fn loaded(line: &str) -> Option<(&str, &str)> {
    let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Some((field("program")?.trim_matches('"'), field("verified_instructions")?))
}

fn table(head: &[&str], lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} |", line.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Row, checks, programs, stack};
    use crate::vm::checks::{LOADED, Outcome};

    #[test]
    fn a_program_that_a_kernel_does_not_load_has_a_dash_there() {
        let row = |name: &str, printed: &[&str], fault: Option<&str>| Row {
            name: name.to_owned(),
            release: format!("{name}.0"),
            outcomes: vec![Outcome {
                name: LOADED,
                fault: fault.map(str::to_owned),
                took: Duration::ZERO,
                printed: printed.iter().map(|line| (*line).to_owned()).collect(),
            }],
        };
        let new = [
            "DEBUG loaded program=\"send\" verified_instructions=70 ",
            "DEBUG loaded program=\"exec\" verified_instructions=9",
        ];
        let rows = [
            row("6.1", &["DEBUG loaded program=\"exec\" verified_instructions=8"], Some("no send")),
            row("6.12", &new, None),
        ];
        let expected = "| program | stack (bytes) | 6.1 | 6.12 |\n|---|---|---|---|\n| `exec` | ? | 8 | 9 |\n| `send` | 392 | - | 70 |\n";
        let stacks = ["running 1 test", " 392 send > capture", "."].into_iter().filter_map(stack).collect();
        assert_eq!(programs(&rows, &stacks), expected);
        let lines: Vec<_> = checks(&rows).lines().skip(2).map(str::to_owned).collect();
        assert!(lines[0].starts_with("| 6.1 | `6.1.0` | no: no send | not run |"), "{lines:?}");
        assert!(lines[1].starts_with("| 6.12 | `6.12.0` | yes | not run |"), "{lines:?}");
    }
}
