//! `cargo xtask http2-matrix`: every client of HTTP/2 against every server that it can talk to.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use onlooker_tests::http2_matrix::{CLIENTS, Client, Load, RUST, SERVERS, Server, skip_reason};
use onlooker_tests::servers::build_rust;
use onlooker_tests::wait;

use crate::build::{self, Profile};
use crate::{Verb, setup, shell};

/// Trace every client of HTTP/2 with every server that it can talk to, and check their spans (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trace with this agent, and install and build nothing.
    #[arg(long, value_name = "PATH")]
    agent: Option<std::path::PathBuf>,
    /// Write the result into docs/http2.md. Pairs that were not run keep their rows.
    #[arg(long)]
    write: bool,
    /// Run only pairs with this client or server, or one pair, such as `curl to nghttpx`. It may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Requests of each pair.
    #[arg(long, default_value_t = 2_000)]
    requests: usize,
    /// How many of them are in flight. Fewer than ten use one connection only.
    #[arg(long, default_value_t = 50, conflicts_with = "write")]
    streams: usize,
}

/// Over how many connections they are sent.
const CONNECTIONS: [usize; 2] = [1, 10];

/// Everything below this line of docs/http2.md is written by `--write`.
const MARK: &str = "<!-- Below: written by `cargo xtask http2-matrix --write`. -->";

impl Verb for Options {
    /// Fails unless every pair that can run is right.
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("http2-matrix", "the matrix loads programs into the kernel, which needs root")?;
        let agent = match &self.agent {
            Some(agent) => agent.clone(),
            None => {
                setup::make_ready(&[
                    &setup::EBPF,
                    &setup::PACKAGES,
                    &setup::JAVA,
                    &setup::PYTHON,
                    &setup::NODE,
                    &setup::GO,
                    &setup::ENVOY,
                ])?;
                shell::say(&format!("building tests/apps/rust/{RUST}"));
                build_rust(RUST, true)?;
                build::agent(Profile::Release)?
            }
        };
        wait::handle_signals()?;
        let mut rows = Vec::new();
        let mut failed = 0;
        for (client, server) in pairs().filter(|(client, server)| self.wants(client, server)) {
            if let Some(reason) = skip_reason(client, server) {
                shell::say(&format!("{} to {}: skipped: {reason}", client.name, server.name));
                rows.push(vec![client.name.to_owned(), server.name.to_owned(), format!("skipped: {reason}")]);
                continue;
            }
            let mut row = vec![client.name.to_owned(), server.name.to_owned()];
            for connections in CONNECTIONS.into_iter().filter(|&connections| connections <= self.streams) {
                let load = Load { requests: self.requests, streams: self.streams, connections };
                let cell = match client.against(server, &load, &agent) {
                    Ok(verdict) => match verdict.as_long {
                        Some(as_long) => format!("all, {} %", as_long * 100 / verdict.requests),
                        None => "all".to_owned(),
                    },
                    Err(error) => {
                        failed += 1;
                        shell::error(&error);
                        "**no**".to_owned()
                    }
                };
                shell::say(&format!("{} to {} over {connections}: {cell}", client.name, server.name));
                row.push(cell);
                anyhow::ensure!(!wait::interrupted(), "interrupted");
            }
            rows.push(row);
        }
        if self.write {
            write(&rows, self.requests)?;
        }
        shell::say(&format!("{} pairs, {failed} runs failed", rows.len()));
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Options {
    fn wants(&self, client: &Client, server: &Server) -> bool {
        let pair = format!("{} to {}", client.name, server.name);
        let is_wanted = |name: &String| [client.name, server.name, &pair].contains(&name.as_str());
        self.only.is_empty() || self.only.iter().any(is_wanted)
    }
}

fn pairs() -> impl Iterator<Item = (&'static Client, &'static Server)> {
    let with_servers = |client: &'static Client| SERVERS.iter().map(move |server| (client, server));
    CLIENTS.iter().flat_map(with_servers).filter(|(client, server)| client.talks_to(server))
}

/// Writes the rows into the documentation. Pairs that were not run keep their rows.
fn write(rows: &[Vec<String>], requests: usize) -> Result<()> {
    let path = shell::workspace()?.join("docs/http2.md");
    let text = shell::file(&path)?;
    let (head, below) = text.split_once(MARK).with_context(|| format!("{} has no line `{MARK}`", path.display()))?;
    let each = format!("{requests} requests each.");
    let is_kept = below.lines().any(|line| line == each);
    let kept: Vec<Vec<String>> = below.lines().filter(|_| is_kept).map(cells).collect();
    let mut text = format!("{head}{MARK}\n\n{each}\n\n");
    text.push_str("| client | server | one connection | ten connections |\n|---|---|---|---|\n");
    for (client, server) in pairs() {
        let is_of = |row: &&Vec<String>| row.starts_with(&[client.name.to_owned(), server.name.to_owned()]);
        let Some(row) = rows.iter().find(is_of).or_else(|| kept.iter().find(is_of)) else { continue };
        let missing = 4_usize.saturating_sub(row.len());
        text.push_str(&format!("| {} |{}\n", row.join(" | "), " |".repeat(missing)));
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The cells of a row.
fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}
