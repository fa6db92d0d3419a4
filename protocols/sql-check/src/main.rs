//! Compares the summaries of SQL statements with PostgreSQL's own parser (libpg_query).
//!
//! The arguments are files for psql, such as those of PostgreSQL's regression suite. Each statement that PostgreSQL's
//! parser accepts is compared. Every difference is printed.

mod expected;
mod statements;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::{env, fs};

use expected::Expected;
use onlooker_protocols::sql::{Dialect, Extent, MAX_SUMMARY, normalize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Result {
    Same,
    Different,
    /// An expression of `WITH RECURSIVE` names a later one, which the summary takes for a table.
    ForwardReference,
    /// PostgreSQL's parser rejects it: a test of an error, or a variable of psql.
    Rejected,
    /// The statement has no query and no table, or none that the summary promises.
    NotCompared,
    /// The summary is longer than OpenTelemetry's limit.
    Cut,
}

fn main() -> ExitCode {
    let mut results = BTreeMap::new();
    for file in env::args_os().skip(1) {
        let text = match fs::read(&file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                eprintln!("cannot read {}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        };
        for statement in statements::split(&text) {
            *results.entry(check(&file.to_string_lossy(), &statement)).or_insert(0_u32) += 1;
        }
    }
    println!("{results:?}");
    if results.contains_key(&Result::Same) && !results.contains_key(&Result::Different) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn check(file: &str, statement: &str) -> Result {
    let Some(expected) = expected::expected(statement, true) else { return Result::Rejected };
    let summary = plain(&normalize(statement.as_bytes(), Extent::Whole, Dialect::Postgres).summary);
    if matches!(expected, Expected::NotCompared) {
        return Result::NotCompared;
    }
    if is_same(&summary, &expected) {
        return Result::Same;
    }
    if expected::expected(statement, false).is_some_and(|expected| is_same(&summary, &expected)) {
        return Result::ForwardReference;
    }
    let longest = match &expected {
        Expected::Whole(words) | Expected::Definition(words) => words.join(" ").len(),
        Expected::NotCompared => 0,
    };
    if longest + "create materialized view ".len() > MAX_SUMMARY {
        return Result::Cut;
    }
    println!("{file}: {}\n    summary:  {summary}\n    expected: {expected:?}\n", statement.trim());
    Result::Different
}

fn is_same(summary: &str, expected: &Expected) -> bool {
    match expected {
        Expected::NotCompared => false,
        Expected::Whole(words) => summary == plain(&words.join(" ")),
        Expected::Definition(words) => {
            let words = plain(&words.join(" "));
            summary.strip_suffix(&words).is_some_and(|operation| {
                !operation.trim().is_empty() && operation.split_whitespace().all(expected::is_of_operation)
            })
        }
    }
}

/// Without quotes and regardless of case. PostgreSQL's tree has names without quotes.
fn plain(summary: &str) -> String {
    summary.replace('"', "").to_lowercase()
}
