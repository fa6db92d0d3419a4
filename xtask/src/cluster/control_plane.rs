//! etcd and kube-apiserver on loopback, and `kubectl proxy`, which speaks clear text to this program.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::World;
use onlooker_tests::wait::{self, within};
use serde_json::{Value, json};

use crate::setup::kubernetes::{Programs, programs};
use crate::shell;

/// It is ready in 4 s on a quiet machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
const ADMIN: &str = "admin";

pub(super) struct ControlPlane {
    programs: Programs,
    dir: PathBuf,
    etcd_port: u16,
    port: u16,
    etcd: Running,
    api: Option<Running>,
    /// `kubectl proxy`, and its port.
    proxy: Option<(Running, u16)>,
}

/// A program of the control plane. It is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended, there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ControlPlane {
    pub(super) fn start(world: &World) -> Result<Self> {
        let (programs, dir) = (programs()?, world.dir().to_owned());
        let [etcd_port, peer_port, port] = free_ports()?;
        shell::read(Command::new("openssl").args(["genrsa", "-out", "sa.key", "2048"]).current_dir(&dir))?;
        fs::write(dir.join("tokens.csv"), format!("{ADMIN},admin,1,\"system:masters\"\n"))?;
        let (client, peer) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let mut etcd = Command::new(&programs.etcd);
        etcd.args(["--data-dir", "etcd", "--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--unsafe-no-fsync"]);
        let etcd = start(&dir, "etcd", &mut etcd)?;
        let mut control_plane = Self { programs, dir, etcd_port, port, etcd, api: None, proxy: None };
        control_plane.start_api()?;
        let mut proxy = control_plane.kubectl(&["proxy", "--port=0"]);
        let mut proxy = Running(proxy.stdout(Stdio::piped()).spawn().context("cannot start kubectl proxy")?);
        let mut line = String::new();
        BufReader::new(proxy.0.stdout.take().context("stdout is a pipe")?).read_line(&mut line)?;
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        control_plane.proxy = Some((proxy, port.with_context(|| format!("kubectl proxy printed {line:?}"))?));
        Ok(control_plane)
    }

    /// Starts kube-apiserver, and waits until it is ready.
    pub(super) fn start_api(&mut self) -> Result<()> {
        let mut api = Command::new(&self.programs.api_server);
        api.args([
            &format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            &format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--cert-dir=certs",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key",
            "--authorization-mode=RBAC",
            "--token-auth-file=tokens.csv",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            // Nothing makes the default accounts that it looks for.
            "--disable-admission-plugins=ServiceAccount",
        ]);
        self.api = Some(start(&self.dir, "kube-apiserver", &mut api)?);
        wait::until(within(READY_WITHIN), "a ready kube-apiserver", || {
            ensure!(self.etcd.0.try_wait()?.is_none(), "etcd has ended");
            Ok(shell::read(&mut self.kubectl(&["get", "--raw", "/readyz"])).ok())
        })?;
        Ok(())
    }

    /// Kills kube-apiserver, without a warning.
    pub(super) fn kill_api(&mut self) {
        self.api = None;
    }

    pub(super) fn version(&self) -> Result<String> {
        let version: Value = serde_json::from_str(&shell::read(&mut self.kubectl(&["get", "--raw", "/version"]))?)?;
        // What is built from the module has no version of its own.
        let minor = version["emulationMinor"].as_str().or(version["minor"].as_str()).unwrap_or_default();
        Ok(format!("{}.{minor}", version["emulationMajor"].as_str().or(version["major"].as_str()).unwrap_or_default()))
    }

    /// kubectl as the administrator.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new("kubectl");
        kubectl.current_dir(&self.dir).env("KUBECONFIG", "/dev/null");
        kubectl.arg(format!("--server=https://127.0.0.1:{}", self.port));
        kubectl.args(["--certificate-authority=certs/apiserver.crt", "--token", ADMIN]).args(arguments);
        kubectl
    }

    /// Writes a KUBECONFIG for the administrator, and returns its path.
    pub(super) fn administrator(&self) -> Result<PathBuf> {
        self.kubeconfig("kubeconfig-admin", ADMIN)
    }

    /// Writes a KUBECONFIG for who has this token, and returns its path.
    pub(super) fn kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        let server = format!("https://127.0.0.1:{}", self.port);
        let ca = self.dir.join("certs/apiserver.crt");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Sends an object, as the administrator. Returns the answer.
    pub(super) fn send(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Result<Value> {
        let (_, port) = self.proxy.as_ref().context("the proxy runs")?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let body = body.to_string();
        // With HTTP/1.0 the answer is not chunked, and ends with the connection.
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{method} {path}: no answer"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{method} {path}: {status} {body}");
        serde_json::from_str(body).with_context(|| format!("{method} {path}: {body:?}"))
    }
}

fn start(dir: &Path, name: &str, command: &mut Command) -> Result<Running> {
    let log = File::options().create(true).append(true).open(dir.join(format!("{name}.log")))?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(Running(command.spawn().with_context(|| format!("cannot start {name}"))?))
}

/// Ports of loopback on which nothing listens.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let listeners: Vec<_> =
        (0..COUNT).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
