//! A gateway in front of Zipkin.

use std::path::Path;

use anyhow::Result;
use onlooker_tests::servers::{Tier, Workers, Zipkin, deployed};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Agent, Shop, World, spans};

use super::traces::Traces;
use super::{ARRIVES_WITHIN, environment};
use crate::shell;

/// Sends traces with errors through a gateway, and fails unless Zipkin's API has every span of each.
pub(super) fn show(world: &World, agent: &Path) -> Result<()> {
    let zipkin = Zipkin::start(world)?;
    let shop = Shop::start(world, Workers::Threads(4))?;
    let files = ["gateway.yaml", "backends/zipkin.yaml"].map(deployed);
    let url = zipkin.spans_url();
    let gateway = Tier::start(world, "gateway", &files, &environment("ZIPKIN", &url))?;
    let exported = world.dir().join("spans.jsonl");
    let [cgroup, file] = [world.cgroup().path(), &exported].map(|path| path.display().to_string());
    let endpoint = gateway.http_endpoint();
    let options = ["--cgroup", &cgroup, "--endpoint", &endpoint, "--export", "otlp", "--file", &file];
    let mut agent = Agent::select(world, agent, &options, &[])?;
    for _ in 0..3 {
        // No such product: an error, so the trace is kept.
        world.curl(&[&shop.product(1)])?;
    }
    agent.finish()?;
    let sent = Traces::of(spans::from_requests(&spans::read_lines(&exported)?)?);
    for (id, trace) in sent.iter() {
        wait::until(within(ARRIVES_WITHIN), "all spans of the trace in Zipkin", || {
            let found = zipkin.trace(world, id)?;
            Ok(trace.iter().all(|span| found.contains(&span.span_id)).then_some(()))
        })?;
    }
    shell::say(&format!("Zipkin has all {} spans of {} traces", sent.spans(), sent.len()));
    Ok(())
}
