//! Clients of HTTP/2 against servers of HTTP/2, pair by pair, and what the agent must report of each pair.
//!
//! Clients and servers are tables with one row each. Every client talks to every server that it can talk to. The spans of a pair are
//! right if
//!
//! - each request is one span at each end, with method, path and status, or with the method and status of its call;
//! - each request that is received is joined with the call at the other end of its connection;
//! - all request ends are exported;
//! - no span of the client is longer than the client says.
//!
//! A client that has 50 requests in flight measures its own work too: the time before it writes a request, and after it has read the
//! response. So many spans are shorter than it says, and how many are about as long is only shown.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::machine;
use crate::recording::Recording;
use crate::servers::{App, AppOptions, Nghttpx, Nginx, ProxyProgram};
use crate::spans::Span;
use crate::world::World;

/// What a pair exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// GETs of `/items/N`.
    Http,
    /// Unary calls of `shop.Cart/Get`.
    Grpc,
}

/// What a client does.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub requests: usize,
    /// How many are in flight at a time, over all connections.
    pub streams: usize,
    pub connections: usize,
}

/// A row of [`CLIENTS`].
#[derive(Debug)]
pub struct Client {
    pub name: &'static str,
    pub kind: Kind,
    /// It begins with HTTP/1 and asks for an upgrade. Other clients know that the server speaks HTTP/2.
    upgrades: bool,
    run: fn(&World, &str, &Load) -> Result<Vec<Duration>>,
}

/// A row of [`SERVERS`].
#[derive(Debug)]
pub struct Server {
    pub name: &'static str,
    kinds: &'static [Kind],
    /// It upgrades connections of HTTP/1.
    upgrades: bool,
    start: fn(&World, Kind) -> Result<Running>,
}

/// A server, and what is behind it.
struct Running {
    address: String,
    /// How many calls a request becomes, one behind the other.
    hops: usize,
    _kept: Vec<Box<dyn Any>>,
}

/// What a pair showed.
#[derive(Debug)]
pub struct Verdict {
    pub requests: usize,
    /// How many spans of the client are as long as the client says. `None` if it does not say that.
    pub as_long: Option<usize>,
}

/// All clients.
pub const CLIENTS: &[Client] = &[
    Client { name: "h2load", kind: Kind::Http, upgrades: false, run: h2load },
    Client { name: "curl", kind: Kind::Http, upgrades: true, run: curl },
    http("Go net/http", |world, url, load| run(&App::go("http2_load"), world, url, load)),
    http("Node http2", |world, url, load| run(&App::node("http2_load"), world, url, load)),
    http("httpx", |world, url, load| run(&App::python("http2_load").with_http2(), world, url, load)),
    http("hyper", |world, url, load| run(&rust("hyper_load"), world, url, load)),
    http("reqwest", |world, url, load| run(&rust("reqwest_load"), world, url, load)),
    Client {
        name: "JDK HttpClient",
        kind: Kind::Http,
        upgrades: true,
        run: |world, url, load| run(&App::java("Http2Load"), world, url, load),
    },
    grpc("grpc-go", |world, url, load| run(&App::go("grpc/rpc_load"), world, url, load)),
    grpc("grpcio", |world, url, load| run(&App::python("rpc_load").with_http2(), world, url, load)),
    grpc("grpc.aio", |world, url, load| run(&App::python("rpc_load_aio").with_http2(), world, url, load)),
    grpc("Node http2 (gRPC)", |world, url, load| run(&App::node("http2_load").env("GRPC", "1"), world, url, load)),
    grpc("grpc-js", |world, url, load| run(&grpc_js("grpc_js_load"), world, url, load)),
    grpc("grpc-java", |world, url, load| run(&grpc_java("GrpcLoad"), world, url, load)),
    grpc("tonic", |world, url, load| run(&rust("tonic_load"), world, url, load)),
];

/// All servers.
pub const SERVERS: &[Server] = &[
    of_http("nginx", false, |world, _| {
        let nginx = nginx().start(world)?;
        Ok(Running::alone(nginx.address(), nginx))
    }),
    of_http("Go net/http", false, |world, _| app(world, &App::go("h2c"))),
    of_http("Node http2", false, |world, _| app(world, &App::node("http2"))),
    of_http("hypercorn", true, |world, _| app(world, &App::python("asgi_http2").with_http2())),
    of_http("hyper", false, |world, _| app(world, &rust("hyper_server"))),
    proxy("HAProxy", false, |world, kind| behind(world, kind, ProxyProgram::HaProxyHttp2)),
    proxy("Envoy", false, |world, kind| behind(world, kind, ProxyProgram::EnvoyHttp2)),
    proxy("nghttpx", true, |world, kind| {
        let behind = backend(world, kind)?;
        let nghttpx = Nghttpx::start(world, &behind.address)?;
        Ok(behind.before(nghttpx.address(), nghttpx))
    }),
    of_grpc("grpc-go", |world, _| app(world, &App::go("grpc/rpc_caller"))),
    of_grpc("connect-go", |world, _| app(world, &App::go("grpc/connect_server"))),
    of_grpc("grpcio", |world, _| app(world, &App::python("rpc_server").with_http2())),
    of_grpc("grpc.aio", |world, _| app(world, &App::python("rpc_server_aio").with_http2())),
    of_grpc("Node http2 (gRPC)", |world, _| app(world, &App::node("rpc_server"))),
    of_grpc("grpc-js", |world, _| app(world, &grpc_js("grpc_js_server"))),
    of_grpc("grpc-java", |world, _| app(world, &grpc_java("GrpcServer"))),
    of_grpc("tonic", |world, _| app(world, &rust("tonic_server"))),
];

/// The JVM that runs grpc-java.
const GRPC_JAVA: u32 = 17;

type Run = fn(&World, &str, &Load) -> Result<Vec<Duration>>;
type Start = fn(&World, Kind) -> Result<Running>;

const fn http(name: &'static str, run: Run) -> Client {
    Client { name, kind: Kind::Http, upgrades: false, run }
}

const fn grpc(name: &'static str, run: Run) -> Client {
    Client { name, kind: Kind::Grpc, upgrades: false, run }
}

const fn of_http(name: &'static str, upgrades: bool, start: Start) -> Server {
    Server { name, kinds: &[Kind::Http], upgrades, start }
}

const fn of_grpc(name: &'static str, start: Start) -> Server {
    Server { name, kinds: &[Kind::Grpc], upgrades: false, start }
}

const fn proxy(name: &'static str, upgrades: bool, start: Start) -> Server {
    Server { name, kinds: &[Kind::Http, Kind::Grpc], upgrades, start }
}

/// The client of this name.
pub fn client(name: &str) -> Result<&'static Client> {
    CLIENTS.iter().find(|client| client.name == name).with_context(|| format!("there is no client {name}"))
}

/// The server of this name that speaks `kind`.
pub fn server(name: &str, kind: Kind) -> Result<&'static Server> {
    let mut servers = SERVERS.iter().filter(|server| server.kinds.contains(&kind));
    servers.find(|server| server.name == name).with_context(|| format!("there is no server {name}"))
}

impl Client {
    /// Whether it can talk to the server.
    #[must_use]
    pub fn talks_to(&self, server: &Server) -> bool {
        server.kinds.contains(&self.kind) && (server.upgrades || !self.upgrades)
    }

    /// Runs the load against the server, traced by `agent`, and judges the spans. Fails if one is missing or wrong.
    pub fn against(&self, server: &Server, load: &Load, agent: &Path) -> Result<Verdict> {
        let name = format!("{} to {} over {}", self.name, server.name, load.connections);
        World::story(&name, |world| {
            let running = (server.start)(world, self.kind)?;
            let recording = Recording::start_agent(world, agent)?;
            let took = (self.run)(world, &format!("http://{}", running.address), load)?;
            let outcome = recording.finish(2 * running.hops * load.requests)?;
            self.expect_right(&outcome.spans, running.hops, load)?;
            Ok(Verdict { requests: load.requests, as_long: compare_lengths(&outcome.spans, took)? })
        })
    }

    fn expect_right(&self, spans: &[Span], hops: usize, load: &Load) -> Result<()> {
        let expected = match self.kind {
            Kind::Http => ["GET /items/{id}", "200", ""],
            Kind::Grpc => ["shop.Cart/Get", "OK", "1 1"],
        };
        let mut seen: BTreeMap<_, usize> = BTreeMap::new();
        let mut paths: BTreeSet<(&str, &str, u64)> = BTreeSet::new();
        for span in spans {
            let counts =
                ["onlooker.rpc.request.messages", "onlooker.rpc.response.messages"].map(|key| match span.get(key) {
                    "" if self.kind == Kind::Grpc => "?",
                    count => count,
                });
            let status = [span.get("http.response.status_code"), span.get("rpc.response.status_code")].concat();
            let counts = counts.join(" ").trim().to_owned();
            *seen.entry([span.name.clone(), status, counts]).or_default() += 1;
            let url = [span.get("url.full"), span.get("url.path")].concat();
            let number = url.rsplit('/').next().and_then(|number| number.parse().ok());
            paths.insert((&span.service, &span.kind, number.unwrap_or_default()));
        }
        let only = seen.len() == 1 && seen.contains_key(&expected.map(str::to_owned));
        ensure!(only, "not all spans are {expected:?}: {seen:#?}");
        let joined = spans.iter().filter(|span| span.get("onlooker.parent.evidence") == "host").count();
        ensure!(joined == hops * load.requests, "{joined} of {} requests are joined", hops * load.requests);
        // h2load asks for one path, and calls have no number.
        if self.kind == Kind::Http && self.name != "h2load" {
            let ends = 2 * hops * load.requests;
            ensure!(paths.len() == ends, "{} of {ends} paths differ", paths.len());
        }
        Ok(())
    }
}

/// How many client spans are as long as the client says: within 1 ms, or 5 %. `None` if the client says nothing. Fails if one is longer.
///
/// They are compared in the order of their lengths, because not every client says which request it was. If each span is shorter than
/// what the client measured of it, the same holds in that order.
fn compare_lengths(spans: &[Span], mut took: Vec<Duration>) -> Result<Option<usize>> {
    const SLACK: Duration = Duration::from_millis(1);
    if took.is_empty() {
        return Ok(None);
    }
    let roots = spans.iter().filter(|span| span.parent.is_none());
    let mut lengths: Vec<_> = roots.map(Span::duration).collect();
    lengths.sort();
    took.sort();
    let mut as_long = 0;
    for (length, took) in lengths.into_iter().zip(took) {
        let slack = SLACK.max(took / 20);
        ensure!(length <= took + slack, "a span lasts {length:?}, and its client says {took:?}");
        as_long += usize::from(length + slack >= took);
    }
    Ok(Some(as_long))
}

fn run(app: &AppOptions, world: &World, url: &str, load: &Load) -> Result<Vec<Duration>> {
    let numbers = [load.requests, load.streams, load.connections];
    let app = numbers.iter().fold(app.clone().argument(url), |app, number| app.argument(&number.to_string()));
    let printed = app.run(world)?;
    printed.lines().map(|line| Ok(Duration::from_nanos(line.parse().context("nanoseconds")?))).collect()
}

fn h2load(world: &World, url: &str, load: &Load) -> Result<Vec<Duration>> {
    let log = world.dir().join("h2load.tsv");
    let mut command = world.command("h2load");
    command.args(["-n", &load.requests.to_string(), "-c", &load.connections.to_string()]);
    command.args(["-m", &(load.streams / load.connections).to_string()]);
    command.arg(format!("--log-file={}", log.display())).arg(format!("{url}/items/7"));
    world.run(&mut command)?;
    let lines = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let took = |line: &str| Some(Duration::from_micros(line.split('\t').nth(2)?.trim().parse().ok()?));
    lines.lines().map(|line| took(line).with_context(|| format!("no line of h2load's log: {line}"))).collect()
}

/// It upgrades as many connections as it likes, and says nothing about times. Curl 7.88 does not use a connection twice that it opened
/// by prior knowledge.
fn curl(world: &World, url: &str, load: &Load) -> Result<Vec<Duration>> {
    let urls = format!("{url}/items/[0-{}]", load.requests - 1);
    world.curl(&["--http2", "--parallel", "--parallel-max", &load.streams.to_string(), "--fail", &urls])?;
    Ok(Vec::new())
}

/// A program of grpc-js.
#[must_use]
pub fn grpc_js(name: &str) -> AppOptions {
    App::node(name).package("@grpc/grpc-js")
}

/// A program of grpc-java, with Netty.
#[must_use]
pub fn grpc_java(name: &str) -> AppOptions {
    App::java(name).jvm(GRPC_JAVA, &[]).libraries()
}

/// The package of tests/apps/rust that has the Rust programs.
pub const RUST: &str = "http2";

fn rust(name: &str) -> AppOptions {
    App::rust(&format!("{RUST}/{name}"))
}

fn nginx() -> crate::servers::Site {
    Nginx::site("keepalive_requests 100000; location / { return 200 'hello'; }").listen("http2")
}

fn app(world: &World, options: &AppOptions) -> Result<Running> {
    let app = options.start(world)?;
    Ok(Running::alone(app.address(), app))
}

/// What proxies pass requests on to.
fn backend(world: &World, kind: Kind) -> Result<Running> {
    match kind {
        Kind::Http => {
            let nginx = nginx().named("backend").start(world)?;
            Ok(Running::alone(nginx.address(), nginx))
        }
        Kind::Grpc => app(world, &App::go("grpc/rpc_caller")),
    }
}

fn behind(world: &World, kind: Kind, program: ProxyProgram) -> Result<Running> {
    let behind = backend(world, kind)?;
    let proxy = program.start(world, &behind.address)?;
    Ok(behind.before(proxy.address(), proxy))
}

impl Running {
    fn alone(address: String, server: impl Any) -> Self {
        Self { address, hops: 1, _kept: vec![Box::new(server)] }
    }

    /// A proxy at `address` is before it.
    fn before(mut self, address: String, proxy: impl Any) -> Self {
        self._kept.insert(0, Box::new(proxy));
        Self { address, hops: self.hops + 1, ..self }
    }
}

/// Why the pair cannot run on this machine, if so.
#[must_use]
pub fn skip_reason(client: &Client, server: &Server) -> Option<String> {
    let is_go = |name: &str| name.contains("Go") || name.contains("-go");
    let envoy = (server.name == "Envoy").then(|| ProxyProgram::EnvoyHttp2.skip_reason()).flatten();
    let needs_go = is_go(client.name) || is_go(server.name) || (client.kind == Kind::Grpc && server.kinds.len() > 1);
    let go = (needs_go && machine::find_program("go").is_none()).then(|| "go is not installed".to_owned());
    let java =
        (client.name.starts_with("JDK") && machine::java(0).is_none()).then(|| "Java is not installed".to_owned());
    let of = |name: &str| client.name == name || server.name == name;
    let is_rust = ["hyper", "reqwest", "tonic"].into_iter().any(of);
    let rust = is_rust.then(|| rust("hyper_load").skip_reason()).flatten();
    let grpc_js = of("grpc-js").then(|| grpc_js("grpc_js_load").skip_reason()).flatten();
    let grpc_java = of("grpc-java").then(|| grpc_java("GrpcLoad").skip_reason()).flatten();
    envoy.or(go).or(java).or(rust).or(grpc_js).or(grpc_java)
}
