//! HAProxy and Envoy, each with two threads and at most ten connections to the server behind it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{STARTS_WITHIN, wait_until_listening};
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine;
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// A program that passes requests on.
#[derive(Debug, Clone, Copy)]
pub enum ProxyProgram {
    HaProxy,
    /// HAProxy that speaks HTTP/2 in clear text with both sides, and opens as many connections as it likes.
    HaProxyHttp2,
    Envoy,
    /// Envoy that speaks HTTP/2 with its upstream.
    EnvoyHttp2,
    /// The same, which also makes calls of gRPC out of those of gRPC-Web.
    EnvoyGrpcWeb,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    _process: ChildProcess,
    port: Port,
}

impl ProxyProgram {
    /// Why it cannot run on this machine, if so: the reason to skip a test.
    #[must_use]
    pub fn skip_reason(self) -> Option<String> {
        self.find().is_none().then(|| format!("{self:?} is not installed"))
    }

    fn find(self) -> Option<PathBuf> {
        match self {
            Self::HaProxy | Self::HaProxyHttp2 => machine::find_program("haproxy"),
            Self::Envoy | Self::EnvoyHttp2 | Self::EnvoyGrpcWeb => {
                let program = machine::envoy().ok()?.join("envoy/_bin/envoy");
                program.is_file().then_some(program)
            }
        }
    }

    /// Starts it in front of the server at `upstream` (`HOST:PORT`), and waits until it listens.
    pub fn start(self, world: &World, upstream: &str) -> Result<Proxy> {
        let port = Port::claim()?;
        let (name, configuration) = match self {
            Self::HaProxy => ("haproxy.cfg", haproxy(&port.address(), &format!("{upstream} maxconn 10"))),
            Self::HaProxyHttp2 => {
                ("haproxy.cfg", haproxy(&format!("{} proto h2", port.address()), &format!("{upstream} proto h2")))
            }
            Self::Envoy | Self::EnvoyHttp2 | Self::EnvoyGrpcWeb => ("envoy.json", self.envoy(port.number(), upstream)?),
        };
        let file = world.dir().join(name);
        fs::write(&file, configuration).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = world.command(self.find().with_context(|| format!("{self:?} is not installed"))?);
        match self {
            Self::HaProxy | Self::HaProxyHttp2 => command.arg("-db").arg("-f").arg(&file),
            Self::Envoy | Self::EnvoyHttp2 | Self::EnvoyGrpcWeb => {
                command.args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning", "-c"]).arg(&file)
            }
        };
        let launch = Launch { name: "proxy", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let process = ChildProcess::start(world, &launch, &mut command)?;
        wait_until_listening(within(STARTS_WITHIN), port.number())?;
        Ok(Proxy { _process: process, port })
    }
}

impl Proxy {
    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }
}

fn haproxy(address: &str, upstream: &str) -> String {
    format!(
        "global
    nbthread 2
defaults
    mode http
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    timeout queue 60s
frontend in
    bind {address}
    default_backend out
backend out
    server one {upstream}
"
    )
}

impl ProxyProgram {
    /// The configuration of Envoy.
    fn envoy(self, port: u16, upstream: &str) -> Result<String> {
        let (host, upstream_port) = upstream.split_once(':').context("an upstream is HOST:PORT")?;
        let upstream_port: u16 = upstream_port.parse().context("a port is a number")?;
        let at = |address: &str, port: u16| json!({ "socket_address": { "address": address, "port_value": port } });
        let named = |name: &str, kind: &str, mut configuration: serde_json::Value| {
            configuration["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.{kind}"));
            json!({ "name": name, "typed_config": configuration })
        };
        let router = named("envoy.filters.http.router", "http.router.v3.Router", json!({}));
        let web = named("envoy.filters.http.grpc_web", "http.grpc_web.v3.GrpcWeb", json!({}));
        let filters = if matches!(self, Self::EnvoyGrpcWeb) { vec![web, router] } else { vec![router] };
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "out", "timeout": "60s" } });
        let manager = json!({
            "stat_prefix": "in",
            "http_filters": filters,
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
        });
        let kind = "network.http_connection_manager.v3.HttpConnectionManager";
        let manager = named("envoy.filters.network.http_connection_manager", kind, manager);
        let limits = json!({ "max_connections": 10, "max_pending_requests": 1000, "max_requests": 1000 });
        let mut options = json!({});
        if !matches!(self, Self::Envoy) {
            let kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
            options[kind] = json!({
                "@type": format!("type.googleapis.com/{kind}"),
                "explicit_http_config": { "http2_protocol_options": {} },
            });
        }
        let cluster = json!({
            "name": "out",
            "type": "STATIC",
            "typed_extension_protocol_options": options,
            "circuit_breakers": { "thresholds": [limits] },
            "load_assignment": {
                "cluster_name": "out",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": at(host, upstream_port) } }] }],
            },
        });
        let listener = json!({ "address": at("127.0.0.1", port), "filter_chains": [{ "filters": [manager] }] });
        Ok(json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } }).to_string())
    }
}
