//! `cargo xtask tls-matrix`: clients and servers of TLS, traced at both ends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use onlooker_tests::tls_matrix::{Pair, ROUNDS, pairs};
use onlooker_tests::wait;

use crate::build::{self, Profile};
use crate::{Verb, setup, shell};

/// Trace clients and servers of TLS, and compare the sockets of their spans with those that were used (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trace with this agent, and install and build nothing.
    #[arg(long, value_name = "PATH")]
    agent: Option<std::path::PathBuf>,
    /// Write the result into docs/tls.md.
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// Run only pairs with this client or server. It may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Requests of each round.
    #[arg(long, default_value_t = 100)]
    requests: usize,
}

/// Everything below this line of docs/tls.md is written by `--write`.
const MARK: &str = "<!-- Below: written by `cargo xtask tls-matrix --write`. -->";

/// What is in no row, and why.
const NOT_RUN: &str = "Not run: uvloop, undici's own pool, grpcio, netty-tcnative, Deno, Bun. Go, rustls, Java, \
                       stripped executables, curl and wget have tests of their own: see above.";

/// The files of a library, by its name.
type Libraries = BTreeMap<String, Vec<String>>;

impl Verb for Options {
    /// Fails unless every pair that can run is right.
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("tls-matrix", "the matrix loads programs into the kernel, which needs root")?;
        let agent = match &self.agent {
            Some(agent) => agent.canonicalize().with_context(|| format!("cannot find {}", agent.display()))?,
            None => {
                setup::make_ready(&[&setup::EBPF, &setup::PACKAGES, &setup::PYTHON, &setup::NODE])?;
                build::agent(Profile::Release)?
            }
        };
        wait::handle_signals()?;
        let (mut rows, mut libraries, mut failed) = (Vec::new(), Libraries::new(), 0);
        for pair in pairs().iter().filter(|pair| self.wants(pair)) {
            let mut row = vec![pair.server().to_owned(), pair.client.name.to_owned()];
            match pair.skip_reason() {
                Some(reason) => row.push(format!("skipped: {reason}")),
                None => failed += self.run_pair(pair, &agent, &mut row, &mut libraries)?,
            }
            rows.push(row);
        }
        if self.write {
            write(&rows, &libraries, self.requests)?;
        }
        shell::say(&format!("{} pairs, {failed} rounds failed", rows.len()));
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Options {
    fn wants(&self, pair: &Pair) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| pair.client.name == name || pair.server() == name)
    }

    /// Appends a cell for each round. Returns how many failed.
    fn run_pair(&self, pair: &Pair, agent: &Path, row: &mut Vec<String>, libraries: &mut Libraries) -> Result<usize> {
        let mut failed = 0;
        for round in &ROUNDS {
            let cell = match pair.run(round, self.requests, agent) {
                Ok(verdict) => {
                    failed += usize::from(!verdict.is_right());
                    for (library, file) in &verdict.libraries {
                        let files = libraries.entry(library.clone()).or_default();
                        let name = Path::new(file).file_name().map_or(file.clone(), |name| name.display().to_string());
                        if !files.contains(&name) {
                            files.push(name);
                        }
                    }
                    verdict.to_string()
                }
                Err(error) => {
                    failed += 1;
                    shell::error(&error);
                    "**no**".to_owned()
                }
            };
            shell::say(&format!("{} and {}, {}: {cell}", pair.server(), pair.client.name, round.name));
            row.push(cell);
            anyhow::ensure!(!wait::interrupted(), "interrupted");
        }
        Ok(failed)
    }
}

/// Writes the rows into the documentation.
fn write(rows: &[Vec<String>], libraries: &Libraries, requests: usize) -> Result<()> {
    let path = shell::workspace()?.join("docs/tls.md");
    let text = shell::file(&path)?;
    let (head, _) = text.split_once(MARK).with_context(|| format!("{} has no line `{MARK}`", path.display()))?;
    let names: Vec<_> = ROUNDS.iter().map(|round| round.name).collect();
    let mut text = format!("{head}{MARK}\n\n{requests} requests in each round.\n\n");
    writeln!(text, "| server | client | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    for row in rows {
        let missing = (2 + names.len()).saturating_sub(row.len());
        writeln!(text, "| {} |{}", row.join(" | "), " |".repeat(missing))?;
    }
    writeln!(text, "\n{NOT_RUN}\n\nThe files in which the functions were found:\n")?;
    for (library, files) in libraries {
        writeln!(text, "- {library}: `{}`", files.join("`, `"))?;
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
