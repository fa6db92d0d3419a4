//! What is wrong with a configuration file, in one sentence each.

use std::fmt;
use std::path::Path;

/// A sentence about a line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    pub sentence: String,
}

impl Problem {
    pub(super) fn new(line: usize, sentence: impl Into<String>) -> Self {
        Self { line, sentence: sentence.into() }
    }

    /// The sentence, after the file and the line.
    #[must_use]
    pub fn of(&self, file: &Path) -> String {
        format!("{}:{}: {}", file.display(), self.line, self.sentence)
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// A sentence for each problem, with file and line. There is at least one.
    pub sentences: Vec<String>,
}

impl fmt::Display for Unusable {
    /// The first problem, and how to see the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentences.first().map_or("the configuration is unusable", String::as_str))?;
        match self.sentences.len() {
            0 | 1 => Ok(()),
            several => write!(f, " (and {} more; `onlooker config check` shows all)", several - 1),
        }
    }
}

impl std::error::Error for Unusable {}

/// `; did you mean "endpoint"?` if one of the names is like the unknown one, or else the names themselves if they are few.
pub(super) fn nearest<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    /// Below this, names have nothing in common but a few letters.
    const SIMILAR: f64 = 0.75;
    /// So many names still fit into a sentence.
    const FEW: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    let unknown = unknown.to_lowercase();
    let similarity = |name: &str| {
        // One slip of the keyboard, also in a short name.
        let is_slip = name.len() > 1 && strsim::damerau_levenshtein(&unknown, name) == 1;
        if is_slip { 1.0 } else { strsim::jaro_winkler(&unknown, name) }
    };
    let best = names.iter().map(|name| (similarity(name), *name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((similarity, name)) if similarity >= SIMILAR => format!("; did you mean {name:?}?"),
        Some(_) if names.len() <= FEW => format!("; known are {}", names.join(", ")),
        _ => String::new(),
    }
}
