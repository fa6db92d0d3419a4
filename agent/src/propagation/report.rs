//! What was found, for people and for programs.

use std::fmt;

use onlooker_protocols::propagation::Format;
use serde::Serialize;

/// What became of a mark at a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The trace id arrived.
    Survived,
    /// A request arrived without it.
    Lost,
    /// No request arrived.
    NotReached,
}

/// Who saw what arrived at a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// An agent on this host.
    Agent,
    /// The answer of the hop, which repeats the trace id.
    Answer,
}

/// One hop.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) hop: String,
    pub(super) witness: Witness,
    /// One for each format.
    pub(super) findings: Vec<Finding>,
}

/// What was found of all formats at all hops.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub url: String,
    /// Whether every format arrived at every hop.
    pub survives: bool,
    pub formats: Vec<Row>,
}

/// One format.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub format: &'static str,
    /// The hops at which the trace id did not arrive: the first is where to look.
    pub lost_at: Option<String>,
    pub hops: Vec<AtHop>,
}

/// What became of a format's mark at a hop.
#[derive(Debug, Clone, Serialize)]
pub struct AtHop {
    pub hop: String,
    pub finding: Finding,
    pub seen_by: Witness,
}

impl Report {
    pub(super) fn new(url: &str, formats: &[&'static Format]) -> Self {
        let row = |format: &&'static Format| Row { format: format.name, lost_at: None, hops: Vec::new() };
        Self { url: url.to_owned(), survives: true, formats: formats.iter().map(row).collect() }
    }

    pub(super) fn add(&mut self, Hop { hop, witness, findings }: Hop) {
        for (row, finding) in self.formats.iter_mut().zip(findings) {
            if finding != Finding::Survived {
                row.lost_at.get_or_insert_with(|| hop.clone());
                self.survives = false;
            }
            row.hops.push(AtHop { hop: hop.clone(), finding, seen_by: witness });
        }
    }
}

impl Finding {
    const fn name(self) -> &'static str {
        match self {
            Self::Survived => "arrived",
            Self::Lost => "LOST",
            Self::NotReached => "NOT REACHED",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.formats {
            match &row.lost_at {
                None => writeln!(f, "{}: arrives everywhere", row.format)?,
                Some(hop) => writeln!(f, "{}: does not arrive at {hop}", row.format)?,
            }
            for AtHop { hop, finding, seen_by } in &row.hops {
                let by = if *seen_by == Witness::Agent { "" } else { " (by its answer)" };
                writeln!(f, "  {:<12} {hop}{by}", finding.name())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::propagation::FORMATS;

    use super::*;

    #[test]
    fn the_first_hop_without_the_trace_id_is_named() {
        let mut report = Report::new("http://a/", &FORMATS[..2]);
        let hop = |hop: &str, findings: [Finding; 2]| Hop {
            hop: hop.to_owned(),
            witness: Witness::Agent,
            findings: findings.to_vec(),
        };
        report.add(hop("http://a/", [Finding::Survived; 2]));
        assert!(report.survives);
        report.add(hop("http://b/", [Finding::Survived, Finding::Lost]));
        report.add(hop("http://c/", [Finding::Survived, Finding::NotReached]));
        let expected = "tracecontext: arrives everywhere\n  arrived      http://a/\n  arrived      http://b/\n  arrived      http://c/\n\
             b3: does not arrive at http://b/\n  arrived      http://a/\n  LOST         http://b/\n  NOT REACHED  http://c/\n";
        assert_eq!((report.to_string().as_str(), report.survives), (expected, false));
    }
}
