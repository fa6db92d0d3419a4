//! The samples as a table, and what has grown.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};

use super::held::{Held, Sample};
use crate::shell;

/// What `--write` replaces in docs/benchmarks.md: everything from a line to the next heading.
#[derive(Debug, Clone, Copy)]
pub(super) enum Section {
    Plain,
    Tls,
}

impl Section {
    /// The line, and the picture of the last run, beside the page.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("<!-- Below: written by `cargo xtask soak --write`. -->", "soak.svg"),
            Self::Tls => ("<!-- Below: written by `cargo xtask soak --tls --write`. -->", "soak-tls.svg"),
        }
    }

    /// The page with this section's text. `None` if it has no such section.
    fn replace(self, page: &str, text: &str) -> Option<String> {
        let (mark, picture) = self.names();
        let (head, old) = page.split_once(mark)?;
        let rest = old.find("\n## ").map_or("", |heading| &old[heading..]);
        Some(format!("{head}{mark}\n\n{text}\n\n![The same as curves over time]({picture})\n{rest}"))
    }
}

/// Rows of the table, each of which is the median of an equal part of the time.
const ROWS: usize = 10;

/// A column, and by how much a value may be larger in the last third of the time than in the second.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) read: fn(&Held) -> u64,
    /// A part of the value in percent, and a fixed amount for what comes and goes with the load.
    slack: (u64, u64),
}

/// Threads that close links of ended processes at the same time, at most. Each has a stack and a guard page.
const CLOSING: u64 = 32;

pub(super) const COLUMNS: [Column; 7] = [
    Column { name: "RSS, KiB", read: |held| held.resident_kib, slack: (3, 1024) },
    Column { name: "threads", read: |held| held.threads, slack: (0, CLOSING) },
    Column { name: "memory mappings", read: |held| held.mappings, slack: (0, 8 + 2 * CLOSING) },
    Column { name: "descriptors", read: |held| held.descriptors, slack: (0, 8) },
    Column { name: "BPF links", read: |held| held.links, slack: (0, 8) },
    Column { name: "BPF maps", read: |held| held.maps, slack: (0, 0) },
    Column { name: "BPF maps, KiB", read: |held| held.maps_kib, slack: (1, 64) },
];

/// What a process held over a time.
pub(super) struct Table {
    /// The second at which each row ends, with the medians.
    rows: Vec<(u64, [u64; COLUMNS.len()])>,
    /// Medians of the second and of the last third.
    before: [u64; COLUMNS.len()],
    after: [u64; COLUMNS.len()],
}

impl Table {
    pub(super) fn of(samples: &[Sample]) -> Self {
        let rows = samples.chunks(samples.len().div_ceil(ROWS).max(1));
        let rows = rows.map(|row| (row.last().map_or(0, |last| last.at.as_secs()), medians(row))).collect();
        let third = samples.len() / 3;
        Self { rows, before: medians(&samples[third..2 * third]), after: medians(&samples[2 * third..]) }
    }

    /// The columns that are larger at the end than they may be.
    pub(super) fn grown(&self) -> Vec<&'static str> {
        let values = self.before.iter().zip(&self.after);
        let grown = COLUMNS.iter().zip(values).filter(|(column, (before, after))| {
            let (percent, fixed) = column.slack;
            **after > **before + **before * percent / 100 + fixed
        });
        grown.map(|(column, _)| column.name).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        writeln!(f, "| until second | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
        for (second, values) in &self.rows {
            writeln!(f, "| {second} | {} |", cells(values))?;
        }
        writeln!(f, "| **second third** | {} |", cells(&self.before))?;
        write!(f, "| **last third** | {} |", cells(&self.after))
    }
}

fn cells(values: &[u64]) -> String {
    values.iter().map(u64::to_string).collect::<Vec<_>>().join(" | ")
}

fn medians(samples: &[Sample]) -> [u64; COLUMNS.len()] {
    COLUMNS.each_ref().map(|column| {
        let mut values: Vec<_> = samples.iter().map(|sample| (column.read)(&sample.held)).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    })
}

/// Replaces what docs/benchmarks.md says about the last run, and its picture.
pub(super) fn write(section: Section, text: &str, picture: &str) -> Result<()> {
    let (mark, drawn) = section.names();
    let docs = shell::workspace()?.join("docs");
    let (path, drawn) = (docs.join("benchmarks.md"), docs.join(drawn));
    let page = shell::file(&path)?;
    let page = section.replace(&page, text).with_context(|| format!("{} has no line `{mark}`", path.display()))?;
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    fs::write(&drawn, picture).with_context(|| format!("cannot write {}", drawn.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn samples(held: impl Fn(u64) -> Held) -> Vec<Sample> {
        (0..90).map(|second| Sample { at: Duration::from_secs(second), held: held(second) }).collect()
    }

    #[test]
    fn what_comes_and_goes_has_not_grown() {
        let held = |second| Held { descriptors: 100 + second % 7, resident_kib: 40_000, ..Held::default() };
        assert_eq!(Table::of(&samples(held)).grown(), [""; 0]);
    }

    #[test]
    fn a_leak_of_one_descriptor_in_three_seconds_is_seen() {
        let held = |second| Held { descriptors: 100 + second / 3, resident_kib: 40_000, ..Held::default() };
        assert_eq!(Table::of(&samples(held)).grown(), ["descriptors"]);
    }

    #[test]
    fn growth_until_the_second_third_is_the_beginning() {
        let held = |second: u64| Held { resident_kib: 40_000 + 200 * second.min(30), ..Held::default() };
        assert_eq!(Table::of(&samples(held)).grown(), [""; 0]);
    }

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let page = "# Head\n\n<!-- Below: written by `cargo xtask soak --write`. -->\n\nold\n\n## Next\n\ntext\n";
        let expected = "# Head\n\n<!-- Below: written by `cargo xtask soak --write`. -->\n\nnew\n\n\
                        ![The same as curves over time](soak.svg)\n\n## Next\n\ntext\n";
        assert_eq!(Section::Plain.replace(page, "new").as_deref(), Some(expected));
        assert_eq!(Section::Tls.replace(page, "new"), None);
    }
}
