//! Programs that contain a TLS library and have no symbols.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use serde_json::{Value, json};

use super::{STARTS_WITHIN, wait_until_listening};
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::{self, require_program};
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// A running program.
#[derive(Debug)]
pub struct Stripped {
    _process: ChildProcess,
    port: Port,
}

/// A self-signed certificate and its key.
struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Stripped {
    /// Why Envoy cannot run on this machine, if so: the reason to skip a test.
    #[must_use]
    pub fn envoy_skip_reason() -> Option<String> {
        envoy_program().is_none().then(|| "Envoy is not installed".to_owned())
    }

    /// Envoy, which contains BoringSSL. It terminates TLS, and passes requests on to `upstream` (`HOST:PORT`) over TLS.
    pub fn envoy(world: &World, upstream: &str) -> Result<Self> {
        let port = Port::claim()?;
        let certificate = Certificate::make(world)?;
        let file = world.dir().join("envoy.json");
        let configuration = envoy_configuration(port.number(), upstream, &certificate)?;
        fs::write(&file, configuration.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = world.command(envoy_program().context("Envoy is not installed")?);
        command.args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning", "-c"]).arg(&file);
        Self::start(world, "envoy", port, &mut command)
    }

    /// Why the server of tests/apps/c cannot be built on this machine, if so.
    #[must_use]
    pub fn openssl_skip_reason() -> Option<String> {
        let is_missing = machine::find_program("gcc").is_none() || machine::static_openssl().is_none();
        is_missing.then(|| "gcc or libssl-dev is not installed".to_owned())
    }

    /// A server that is statically linked with OpenSSL.
    pub fn openssl(world: &World) -> Result<Self> {
        let port = Port::claim()?;
        let Certificate { certificate, key } = Certificate::make(world)?;
        let program = world.dir().join("tls_server");
        let mut compiler = world.command(require_program("gcc")?);
        compiler.args(["-O2", "-s", "-o"]).arg(&program).arg("tls_server.c");
        compiler.args(["-l:libssl.a", "-l:libcrypto.a", "-ldl", "-lpthread"]).current_dir(machine::apps("c"));
        world.run_unwatched(&mut compiler)?;
        let mut command = world.command(program);
        command.arg(port.number().to_string()).arg(certificate).arg(key);
        Self::start(world, "tls_server", port, &mut command)
    }

    fn start(world: &World, name: &str, port: Port, command: &mut std::process::Command) -> Result<Self> {
        let launch = Launch { name, watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let process = ChildProcess::start(world, &launch, command)?;
        wait_until_listening(within(STARTS_WITHIN), port.number())?;
        Ok(Self { _process: process, port })
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }
}

impl Certificate {
    fn make(world: &World) -> Result<Self> {
        let (certificate, key) = (world.dir().join("cert.pem"), world.dir().join("key.pem"));
        let mut openssl = world.command(require_program("openssl")?);
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=shop.test", "-out"])
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key);
        world.run_unwatched(&mut openssl)?;
        Ok(Self { certificate, key })
    }
}

fn envoy_program() -> Option<PathBuf> {
    Some(Cache::locate().ok()?.dir().join("envoy/envoy/_bin/envoy")).filter(|program| program.is_file())
}

fn envoy_configuration(port: u16, upstream: &str, certificate: &Certificate) -> Result<Value> {
    const API: &str = "type.googleapis.com/envoy.extensions";
    let (host, upstream_port) = upstream.split_once(':').context("the upstream has no port")?;
    let upstream_port: u16 = upstream_port.parse().context("the upstream's port is no number")?;
    let socket = |host: &str, port: u16| json!({"socket_address": {"address": host, "port_value": port}});
    let manager = json!({
        "@type": format!("{API}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("{API}.filters.http.router.v3.Router")}}],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
        }]},
    });
    let terminates = json!({
        "@type": format!("{API}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {"tls_certificates": [{
            "certificate_chain": {"filename": certificate.certificate},
            "private_key": {"filename": certificate.key},
        }]},
    });
    let originates = json!({"@type": format!("{API}.transport_sockets.tls.v3.UpstreamTlsContext"), "sni": "shop.test"});
    Ok(json!({"static_resources": {
        "listeners": [{
            "address": socket("127.0.0.1", port),
            "filter_chains": [{
                "transport_socket": {"name": "tls", "typed_config": terminates},
                "filters": [{"name": "http", "typed_config": manager}],
            }],
        }],
        "clusters": [{
            "name": "upstream",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "upstream",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(host, upstream_port)}}]}],
            },
            "transport_socket": {"name": "tls", "typed_config": originates},
        }],
    }}))
}
