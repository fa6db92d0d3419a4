//! `cargo xtask demo`: starts a small shop of real servers, sends three requests, and prints their traces.

mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onlooker_tests::servers::Workers;
use onlooker_tests::tls::Certificate;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Agent, SecureClient, Shop, World};

use crate::build::{self, Profile};
use crate::{Verb, setup, shell};

/// Start nginx, two Flask services, PostgreSQL and Redis, trace them, and print the traces of three requests (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trace with this agent, and install and build nothing.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Use TLS on every connection. All of them are open before the agent starts.
    #[arg(long)]
    tls: bool,
}

/// A span is exported within a second of its end. The rest is for a busy machine.
const TRACE_WITHIN: Duration = Duration::from_secs(20);

impl Verb for Options {
    /// Fails unless one trace has the whole chain. The error lists what is missing.
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("demo", "the demo loads programs into the kernel, which needs root")?;
        if let Some(agent) = &self.agent {
            show(agent, self.tls)?;
            return Ok(ExitCode::SUCCESS);
        }
        setup::make_ready(&[&setup::EBPF, &setup::PACKAGES, &setup::PYTHON])?;
        shell::say("building the agent");
        show(&build::agent(Profile::Dev)?, self.tls)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Traces the shop with `agent`.
pub(crate) fn show(agent: &Path, with_tls: bool) -> Result<()> {
    // Ctrl-C must stop the servers too.
    wait::handle_signals()?;
    World::story(
        "the demo",
        |world| if with_tls { show_with_tls(world, agent) } else { show_in_clear_text(world, agent) },
    )
}

fn show_in_clear_text(world: &World, agent: &Path) -> Result<()> {
    shell::say("starting nginx -> storefront (Flask) -> inventory (Flask) -> PostgreSQL and Redis, all unmodified");
    let shop = Shop::start(world, Workers::Threads(4))?;
    // The servers have open connections before the agent starts, as on any running system.
    world.curl(&[&shop.product(9)])?;
    trace_requests(world, agent, "curl", |number| {
        let url = shop.product(number);
        let response = world.curl(&[&url])?;
        shell::say(&format!("$ curl {url}\n{}\n", response.trim()));
        Ok(())
    })
}

fn show_with_tls(world: &World, agent: &Path) -> Result<()> {
    shell::say(
        "starting the same five servers with TLS: nginx, storefront, inventory, PostgreSQL and Redis, all unmodified",
    );
    let shop = Shop::start_with_tls(world, Workers::Threads(1), &Certificate::make(world)?)?;
    let address = shop.nginx.address();
    shell::say(&format!("$ openssl s_client -quiet -connect {address}"));
    let mut client = SecureClient::connect(world, &address)?;
    client.get("/products/9")?;
    trace_requests(world, agent, SecureClient::NAME, |number| {
        let path = format!("/products/{number}");
        let response = client.get(&path)?;
        shell::say(&format!("GET {path} HTTP/1.1\n{}\n", response.trim()));
        Ok(())
    })
}

/// Starts the agent and has the client, whose service name is `client`, request products. Fails unless one trace is whole.
fn trace_requests(world: &World, agent: &Path, client: &str, mut get: impl FnMut(u32) -> Result<()>) -> Result<()> {
    let spans = world.dir().join("spans.jsonl");
    let (cgroup, file) = (world.cgroup().path().display().to_string(), spans.display().to_string());
    let options = ["--cgroup", &cgroup, "--export", "console", "--file", &file];
    shell::say(&format!("$ onlooker run {}", options.join(" ")));
    let mut agent = Agent::select_on_terminal(world, agent, &options)?;
    let ready = agent.stderr()?;
    shell::say(&ready);

    // The first product is read from PostgreSQL, the second time from Redis. The last one does not exist.
    for number in [7, 7, 1] {
        get(number)?;
    }
    let mut faults = Vec::new();
    let whole = wait::until(within(TRACE_WITHIN), "whole trace from curl to PostgreSQL and Redis", || {
        faults = trace::faults(&spans, client)?;
        Ok(faults.is_empty().then_some(()))
    });
    shell::say(agent.finish()?.strip_prefix(&ready).unwrap_or_default().trim());
    whole.with_context(|| format!("the most complete trace has these faults: {}", faults.join("; ")))?;
    let chain = "nginx -> storefront -> inventory -> PostgreSQL and Redis";
    shell::say(&format!("\none of these traces is whole: {client} -> {chain}"));
    Ok(())
}
