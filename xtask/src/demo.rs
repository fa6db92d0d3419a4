//! `cargo xtask demo`: the main job, shown. A small shop of real servers, one request, one trace.

mod trace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onlooker_tests::servers::Workers;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Agent, Shop, World};

use crate::setup::{self, Part};
use crate::{run, shell};

/// Starts nginx, two Flask services, PostgreSQL and Redis, traces them, and prints the traces of a few requests.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trace with this agent, and install and build nothing.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
}

/// A span is exported within a second of its end; the rest is for a busy machine.
const TRACE_WITHIN: Duration = Duration::from_secs(20);

/// Fails unless one trace has the whole chain, with what is missing.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "tracing loads programs into the kernel and needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask demo`"
        );
    }
    if let Some(agent) = &options.agent {
        return show(agent);
    }
    setup::make_ready(&[Part::Ebpf, Part::Packages, Part::Python])?;
    shell::say("building the agent");
    let agent = run::build_agent()?;
    show(&agent)
}

/// Shows what `agent` traces of the shop.
pub(crate) fn show(agent: &Path) -> Result<()> {
    // From here on Ctrl-C too stops the servers.
    wait::handle_signals()?;
    World::story("the demo", |world| show_in(world, agent))
}

fn show_in(world: &World, agent: &Path) -> Result<()> {
    shell::say(
        "starting nginx -> storefront (Flask) -> inventory (Flask) -> PostgreSQL and Redis, none of them changed",
    );
    let shop = Shop::start(world, Workers::Threads(4))?;
    // So that they run as they would on any day: busy before somebody looks on, their connections open.
    world.curl(&[&shop.product(9)])?;

    let spans = world.dir().join("spans.jsonl");
    let (cgroup, file) = (world.cgroup().path().display().to_string(), spans.display().to_string());
    let options = ["--cgroup", &cgroup, "--export", "console", "--file", &file];
    shell::say(&format!("$ onlooker run {}", options.join(" ")));
    let mut agent = Agent::select_on_terminal(world, agent, &options)?;
    let said = agent.stderr()?;
    shell::say(&said);

    // The first is not in Redis yet, the second is, and the third exists nowhere.
    for number in [7, 7, 1] {
        let url = shop.product(number);
        let answer = world.curl(&[&url])?;
        shell::say(&format!("$ curl {url}\n{}\n", answer.trim()));
    }
    let mut faults = Vec::new();
    let whole = wait::until(within(TRACE_WITHIN), "whole trace from curl to PostgreSQL and Redis", || {
        faults = trace::faults(&spans)?;
        Ok(faults.is_empty().then_some(()))
    });
    shell::say(agent.finish()?.strip_prefix(&said).unwrap_or_default().trim());
    whole.with_context(|| format!("in what is nearest to it: {}", faults.join("; ")))?;
    shell::say("\none of these traces is whole: curl -> nginx -> storefront -> inventory -> PostgreSQL and Redis");
    Ok(())
}
