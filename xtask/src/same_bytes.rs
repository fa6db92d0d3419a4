//! `cargo xtask same-bytes`: what arrives of the requests of every client, traced and not.

use std::process::ExitCode;

use anyhow::Result;
use onlooker_tests::same_bytes::{CLIENTS, Client, Load};
use onlooker_tests::wait;

use crate::build::{self, Profile};
use crate::{Verb, setup, shell};

/// Compare what arrives of the requests of every HTTP/1 client, with an agent and without (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trace with this agent, and install and build nothing.
    #[arg(long, value_name = "PATH")]
    agent: Option<std::path::PathBuf>,
    /// Run only this client.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Requests of each client.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Send them over TLS, without `--inject`. Clients that cannot be given a certificate are left out.
    #[arg(long)]
    tls: bool,
    /// The most bytes of a body. There are as many of each order of magnitude.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    most: usize,
}

impl Verb for Options {
    /// Fails unless every client that can run is right.
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("same-bytes", "the comparison loads programs into the kernel, which needs root")?;
        let agent = match &self.agent {
            Some(agent) => agent.clone(),
            None => {
                setup::make_ready(&[&setup::EBPF, &setup::PACKAGES, &setup::PYTHON, &setup::NODE, &setup::GO])?;
                build::agent(Profile::Release)?
            }
        };
        wait::handle_signals()?;
        let load = Load { requests: self.requests, most: self.most };
        let mut failed = 0;
        let is_wanted = |client: &&Client| self.only.as_deref().is_none_or(|name| name == client.name);
        for client in CLIENTS.iter().filter(is_wanted).filter(|client| client.has_tls || !self.tls) {
            let said = match client.skip_reason() {
                Some(reason) => format!("skipped: {reason}"),
                None => {
                    match if self.tls { client.compare_over_tls(&load, &agent) } else { client.compare(&load, &agent) }
                    {
                        Ok(verdict) => verdict.to_string(),
                        Err(error) => {
                            failed += 1;
                            shell::error(&error);
                            "not the same".to_owned()
                        }
                    }
                }
            };
            shell::say(&format!("{}: {said}", client.name));
            anyhow::ensure!(!wait::interrupted(), "interrupted");
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
