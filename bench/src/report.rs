//! The report: a table for people or JSON for programs.

use std::io::{self, Write as _};

use anyhow::Result;
use serde::Serialize;

use crate::cpu;

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<Aim>,
    /// Whether the aim was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// The value relative to another one of the same run.
#[derive(Debug, Clone, Serialize)]
struct Ratio {
    value: f64,
    /// What the value is divided by.
    of: &'static str,
}

/// The limit for the ratio, or for the value if there is no ratio.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, ratio: None, aim: None, met: None }
    }

    /// Adds the ratio to `other`, which the report calls `of`.
    pub(crate) fn beside(self, other: f64, of: &'static str) -> Self {
        let ratio = self.value / other;
        self.ratio(ratio, of)
    }

    /// Adds a ratio that is not the value's: a median of ratios.
    pub(crate) fn ratio(mut self, value: f64, of: &'static str) -> Self {
        self.ratio = Some(Ratio { value, of });
        self
    }

    /// Sets the limit for the ratio if there is one, otherwise for the value.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        let judged = self.ratio.as_ref().map_or(self.value, |ratio| ratio.value);
        self.met = Some(match aim {
            Aim::AtMost(most) => judged <= most,
            Aim::AtLeast(least) => judged >= least,
        });
        self.aim = Some(aim);
        self
    }

    fn cells(&self) -> [String; 5] {
        let ratio = self.ratio.as_ref().map(|ratio| format!("{} {}", number(ratio.value), ratio.of));
        let aim = self.aim.map(|aim| match aim {
            Aim::AtMost(most) => format!("≤ {most}"),
            Aim::AtLeast(least) => format!("≥ {least}"),
        });
        let met = self.met.map(|met| if met { "met" } else { "MISSED" }.to_owned());
        [
            self.what.clone(),
            format!("{} {}", number(self.value), self.unit),
            ratio.unwrap_or_default(),
            aim.unwrap_or_default(),
            met.unwrap_or_default(),
        ]
    }
}

/// Three significant digits, or all digits in groups of three for large numbers.
fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        size if size < 10_000.0 => format!("{value:.0}"),
        _ => {
            let digits = format!("{value:.0}");
            let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
            groups.join(",")
        }
    }
}

/// All measurements of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    parts: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    part: String,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { machine: cpu::machine(), parts: Vec::new() }
    }

    pub(crate) fn add(&mut self, part: &str, rows: Vec<Row>) {
        self.parts.push(Measured { part: part.to_owned(), rows });
    }

    /// Prints the report to stdout.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
        } else {
            write!(out, "{}", self.table())?;
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut table = format!("{}\n", self.machine);
        let all = self.parts.iter().flat_map(|part| &part.rows).map(Row::cells);
        let mut widths = [0; 5];
        for cells in all {
            for (width, cell) in widths.iter_mut().zip(&cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let [what_width, value_width, ratio_width, aim_width, _] = widths;
        for Measured { part, rows } in &self.parts {
            table.push_str(&format!("\n{part}\n"));
            for row in rows {
                let [what, value, ratio, aim, met] = row.cells();
                let line = format!(
                    "  {what:what_width$}  {value:>value_width$}  {ratio:>ratio_width$}  {aim:>aim_width$}  {met}"
                );
                table.push_str(line.trim_end());
                table.push('\n');
            }
        }
        table
    }

    /// Prints a line about progress to stderr. stdout is for the report.
    pub(crate) fn progress(&self, line: &str) {
        say(line);
    }
}

/// Prints an error with its causes to stderr.
pub(crate) fn error(error: &anyhow::Error) {
    say(&format!("error: {error:#}"));
}

fn say(line: &str) {
    // If stderr is closed there is nothing left to do.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_applies_to_the_ratio_if_there_is_one() {
        let row = Row::new("traced", 300.0, "ns").beside(120.0, "pairs").aim(Aim::AtMost(2.5));
        assert_eq!(row.cells(), ["traced", "300 ns", "2.50 pairs", "≤ 2.5", "met"]);
        let row = Row::new("exchanges", 499_999.0, "per s").aim(Aim::AtLeast(500_000.0));
        assert_eq!(row.cells(), ["exchanges", "499,999 per s", "", "≥ 500000", "MISSED"]);
    }

    #[test]
    fn columns_are_aligned() {
        let mut report = Report { machine: "here".to_owned(), parts: Vec::new() };
        report.add("one", vec![Row::new("a", 1.0, "ns"), Row::new("longer", 12_345.0, "ns").aim(Aim::AtMost(1.0))]);
        assert_eq!(report.table(), "here\n\none\n  a         1.00 ns\n  longer  12,345 ns    ≤ 1  MISSED\n");
    }
}
