//! `cargo xtask gateway`: runs the two tiers of deploy/collector with the real Collector, and checks what they did with the traffic of
//! the demo.

mod traces;
mod zipkin;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::{Collector, Tier, Workers, deployed};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Agent, Shop, World};

use self::traces::Traces;
use crate::build::{self, Profile};
use crate::{Verb, setup, shell};

/// Run the two tiers of deploy/collector, send the demo's traffic through them, and check what arrives (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests of each of two kinds.
    #[arg(long, default_value_t = 300)]
    requests: u32,
    /// Trace with this agent instead of building one.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
}

/// Every combination that the documentation describes. Each must be valid.
const CONFIGURATIONS: [&[&str]; 7] = [
    &["balancer.yaml"],
    &["gateway.yaml"],
    &["gateway.yaml", "backends/tempo.yaml"],
    &["gateway.yaml", "backends/jaeger.yaml"],
    &["gateway.yaml", "backends/zipkin.yaml"],
    &["gateway.yaml", "backends/otlp.yaml"],
    &["../compose/collector.yaml"],
];

/// A request that lasts as long is slow. Others last some milliseconds, or more on a busy machine.
const SLOW: Duration = Duration::from_millis(400);

/// Traces are collected this long before they are judged.
const DECISION_WAIT: Duration = Duration::from_secs(3);

/// Of the requests for products, this share is kept, and of the others 5 %: gateway.yaml.
const ROUTES: &str = "[/products/.*]";

/// The shares of the policies, as gateway.yaml has them.
const ROUTE_SHARE: f64 = 0.5;
const REST_SHARE: f64 = 0.05;

/// A busy machine needs as long to pass everything on.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

impl Verb for Options {
    /// Fails unless every trace is whole, every decision is as configured, and no span is missing from the metrics.
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("gateway", "tracing the demo needs root")?;
        setup::make_ready(&[
            &setup::EBPF,
            &setup::PACKAGES,
            &setup::PYTHON,
            &setup::COLLECTOR,
            &setup::GATEWAY,
            &setup::ZIPKIN,
        ])?;
        let agent = match &self.agent {
            Some(agent) => agent.canonicalize().with_context(|| format!("cannot find {}", agent.display()))?,
            None => build::agent(Profile::Release)?,
        };
        wait::handle_signals()?;
        World::story("the gateway", |world| {
            for files in CONFIGURATIONS {
                let files: Vec<_> = files.iter().copied().map(deployed).collect();
                Tier::validate(world, &files).with_context(|| format!("{files:?}"))?;
            }
            shell::say(&format!("{} configurations are valid", CONFIGURATIONS.len()));
            self.show(world, &agent)
        })?;
        World::story("Zipkin", |world| zipkin::show(world, &agent))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Options {
    fn show(&self, world: &World, agent: &Path) -> Result<()> {
        let mut shop = Shop::start(world, Workers::Threads(4))?;
        let backend = Collector::start(world)?;
        let tiers = Tiers::start(world, &backend)?;
        let exported = world.dir().join("spans.jsonl");
        let [cgroup, file] = [world.cgroup().path(), &exported].map(|path| path.display().to_string());
        let endpoint = tiers.balancer.http_endpoint();
        let options = ["--cgroup", &cgroup, "--endpoint", &endpoint, "--export", "otlp", "--file", &file];
        let mut agent = Agent::select(world, agent, &options, &[])?;

        for _ in 0..self.requests {
            world.curl(&[&shop.product(7)])?;
            world.curl(&[&shop.inventory.url("/stock/8")?])?;
        }
        // No such product: the client spans are errors.
        for _ in 0..10 {
            world.curl(&[&shop.product(1)])?;
        }
        // inventory asks Redis, which answers late.
        shop.redis.process().signal(libc::SIGSTOP)?;
        let late = shop.product(9);
        let slow = thread::scope(|scope| {
            let request = scope.spawn(|| world.curl(&[&late]));
            thread::sleep(SLOW + Duration::from_millis(100));
            shop.redis.process().signal(libc::SIGCONT)?;
            request.join().ok().context("the request's thread panicked")?
        });
        slow?;
        agent.finish()?;
        let sent = Traces::of(spans::from_requests(&spans::read_lines(&exported)?)?);
        self.check(world, &sent, &tiers, &backend)
    }

    fn check(&self, world: &World, sent: &Traces, tiers: &Tiers, backend: &Collector) -> Result<()> {
        let calls = |metric: &str, labels: &[&str]| -> Result<Vec<u64>> {
            tiers.gateways.iter().map(|gateway| metric_sum(world, gateway, metric, labels)).collect()
        };
        let spans: u64 = u64::try_from(sent.spans())?;
        let mut measured = Vec::new();
        let all = wait::until(within(ARRIVES_WITHIN), "all spans in the span metrics", || {
            measured = calls("traces_span_metrics_calls_total", &[])?;
            Ok((measured.iter().sum::<u64>() >= spans).then_some(()))
        });
        all.with_context(|| format!("{spans} spans were sent, {measured:?} measured"))?;
        ensure!(measured.iter().sum::<u64>() == spans, "{spans} spans were sent, and {measured:?} measured");
        ensure!(measured.iter().all(|&spans| spans > 0), "a gateway received nothing: {measured:?}");

        let must: Vec<_> = sent.iter().filter(|(_, trace)| must_be_kept(trace)).map(|(id, _)| id.clone()).collect();
        let received = || Ok::<_, anyhow::Error>(Traces::of(spans::from_requests(&backend.received()?)?));
        wait::until(within(ARRIVES_WITHIN), "all errors and slow traces at the backend", || {
            let kept = received()?;
            Ok(must.iter().all(|id| kept.contains(id)).then_some(()))
        })?;
        // The last of them was sent last. Whatever else is kept was decided on before, and is on its way.
        thread::sleep(DECISION_WAIT);
        let kept = received()?;
        kept.are_whole(sent)?;

        let is_product = |trace: &[Span]| trace.iter().any(|span| span.get("url.template").starts_with("/products/"));
        let (products, others): (Vec<_>, Vec<_>) =
            sent.iter().filter(|(_, trace)| !must_be_kept(trace)).partition(|(_, trace)| is_product(trace));
        let count = |traces: &[(&String, &Vec<Span>)]| traces.iter().filter(|(id, _)| kept.contains(id)).count();
        let (kept_products, kept_others) = (count(&products), count(&others));
        let route_share = 1.0 - (1.0 - ROUTE_SHARE) * (1.0 - REST_SHARE);
        ensure!(
            is_likely(kept_products, products.len(), route_share),
            "{kept_products} of {} products",
            products.len()
        );
        ensure!(is_likely(kept_others, others.len(), REST_SHARE), "{kept_others} of {} others", others.len());

        // curl and nginx are the two ends of each request for a product, which the graph has found in one gateway.
        wait::until(within(ARRIVES_WITHIN), "the edge of the service graph", || {
            let edge = calls("traces_service_graph_request_total", &["client=\"curl\"", "server=\"nginx\""])?;
            Ok((edge.iter().sum::<u64>() == u64::from(self.requests) + 11).then_some(()))
        })?;
        shell::say(&format!(
            "{} traces with {spans} spans were sent: all spans are measured once, {measured:?} by the two gateways\n\
             errors and slow: {} of {} kept\n/products/{{id}}: {kept_products} of {} kept (expected {:.0})\n\
             the rest: {kept_others} of {} kept (expected {:.0})\nall {} traces at the backend are whole",
            sent.len(),
            must.len(),
            must.len(),
            products.len(),
            products.len() as f64 * route_share,
            others.len(),
            others.len() as f64 * REST_SHARE,
            kept.len(),
        ));
        Ok(())
    }
}

/// Both tiers, which send what they keep to a backend.
struct Tiers {
    // Dropped first: it sends to the others.
    balancer: Tier,
    gateways: Vec<Tier>,
}

impl Tiers {
    fn start(world: &World, backend: &Collector) -> Result<Self> {
        let address = backend.grpc_endpoint();
        let address = address.trim_start_matches("http://");
        let gateway =
            |name: &str| Tier::start(world, name, &[deployed("gateway.yaml")], &environment("BACKEND", address));
        let gateways = vec![gateway("gateway-1")?, gateway("gateway-2")?];
        let addresses = format!("[{}, {}]", gateways[0].grpc(), gateways[1].grpc());
        let balancer = Tier::start(world, "balancer", &[deployed("balancer.yaml")], &[("GATEWAYS", addresses)])?;
        Ok(Self { balancer, gateways })
    }
}

/// The variables of a gateway. `variable` is the one that says where its backend is.
fn environment(variable: &'static str, backend: &str) -> [(&'static str, String); 5] {
    [
        (variable, backend.to_owned()),
        ("ROUTES", ROUTES.to_owned()),
        ("SLOW_MS", SLOW.as_millis().to_string()),
        ("DECISION_WAIT", format!("{}s", DECISION_WAIT.as_secs())),
        ("METRICS_INTERVAL", "1s".to_owned()),
    ]
}

fn must_be_kept(trace: &[Span]) -> bool {
    let first = trace.iter().map(|span| span.start).min().unwrap_or(0);
    let last = trace.iter().map(|span| span.end).max().unwrap_or(0);
    // The policy compares whole milliseconds.
    let is_slow = Duration::from_nanos(last - first).as_millis() >= SLOW.as_millis();
    is_slow || trace.iter().any(|span| span.status == "error")
}

/// Whether `kept` of `all` is what a share gives, within four standard deviations.
fn is_likely(kept: usize, all: usize, share: f64) -> bool {
    let (kept, all) = (kept as f64, all as f64);
    (kept - all * share).abs() <= 4.0 * (all * share * (1.0 - share)).sqrt()
}

/// The sum of a counter's series with these labels at one gateway.
fn metric_sum(world: &World, gateway: &Tier, metric: &str, labels: &[&str]) -> Result<u64> {
    let mut curl = world.command("curl");
    let text = world.run_unwatched(curl.args(["--silent", "--show-error", "--fail"]).arg(gateway.metrics_url()))?;
    Ok(sum(&String::from_utf8_lossy(&text.stdout), metric, labels))
}

/// The sum of a counter in Prometheus' text format.
fn sum(text: &str, metric: &str, labels: &[&str]) -> u64 {
    let values = text.lines().filter_map(|line| {
        let series = line.strip_prefix(metric)?.strip_prefix('{')?;
        let (series, value) = series.rsplit_once("} ")?;
        labels.iter().all(|label| series.contains(label)).then(|| value.parse::<f64>().ok())?
    });
    // Counts are far below the numbers that f64 cannot hold exactly.
    values.map(|value| value as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::{is_likely, sum};

    #[test]
    fn series_are_summed_by_their_labels() {
        let text = "# TYPE calls_total counter\ncalls_total{client=\"curl\",server=\"nginx\"} 3\n\
                    calls_total{client=\"curl\",server=\"redis\"} 4\ncalls_total_created{client=\"curl\"} 9\n";
        assert_eq!(sum(text, "calls_total", &["client=\"curl\""]), 7);
        assert_eq!(sum(text, "calls_total", &["client=\"curl\"", "server=\"nginx\""]), 3);
    }

    #[test]
    fn a_share_is_likely_within_its_spread() {
        assert!(is_likely(150, 300, 0.5) && is_likely(15, 300, 0.05));
        assert!(!is_likely(300, 300, 0.5) && !is_likely(0, 300, 0.5));
    }
}
