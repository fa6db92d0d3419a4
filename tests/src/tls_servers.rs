//! Servers of HTTPS. Their responses have the path and the client's port.

use std::any::Any;
use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};

use crate::accounts::{self, UserAccount};
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine;
use crate::ports::Port;
use crate::servers::{App, Gunicorn, Nginx, STARTS_WITHIN, wait_until_listening};
use crate::tls::Certificate;
use crate::wait::within;
use crate::world::World;

/// A row: a server.
pub struct TlsServer {
    pub name: &'static str,
    start: fn(&World, &str) -> Result<TlsServing>,
    /// The program, if it may be missing.
    program: Option<&'static str>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct TlsServing {
    pub port: u16,
    _server: Box<dyn Any>,
}

impl TlsServing {
    fn new(port: u16, server: impl Any) -> Self {
        Self { port, _server: Box::new(server) }
    }
}

impl TlsServer {
    /// Why it cannot run here.
    #[must_use]
    pub fn skip_reason(&self) -> Option<String> {
        let missing = self.program.filter(|program| machine::find_program(program).is_none())?;
        Some(format!("{missing} is not installed"))
    }

    /// Starts it, and waits until it listens.
    pub fn start(&self, world: &World, certificate: &Certificate) -> Result<TlsServing> {
        (self.start)(world, &certificate.dir())
    }
}

pub const NGINX: &TlsServer = &TlsServer {
    name: "nginx",
    start: |world, dir| {
        let site = Nginx::site("location /r/ { return 200 \"$uri $remote_port\\n\"; }").tls(dir);
        let nginx = site.start(world)?;
        Ok(TlsServing::new(nginx.port(), nginx))
    },
    program: None,
};

pub const GUNICORN: &TlsServer = &TlsServer {
    name: "gunicorn",
    start: |world, dir| {
        let gunicorn = Gunicorn::app("tls_app").tls(dir).start(world)?;
        Ok(TlsServing::new(gunicorn.port()?, gunicorn))
    },
    program: None,
};

pub const AIOHTTP: &TlsServer =
    &TlsServer { name: "aiohttp", start: |world, dir| python(world, "aiohttp", dir), program: None };

pub const UVICORN: &TlsServer =
    &TlsServer { name: "uvicorn", start: |world, dir| python(world, "uvicorn", dir), program: None };

pub const NODE: &TlsServer = &TlsServer {
    name: "Node https",
    start: |world, dir| {
        let app = App::node("tls_server").argument(dir).start(world)?;
        Ok(TlsServing::new(app.port(), app))
    },
    program: None,
};

pub const HAPROXY: &TlsServer = &TlsServer { name: "HAProxy", start: haproxy, program: Some("haproxy") };

pub const APACHE: &TlsServer = &TlsServer { name: "Apache (event)", start: apache, program: Some("apache2") };

/// All of them.
pub const SERVERS: [&TlsServer; 7] = [NGINX, APACHE, HAPROXY, GUNICORN, AIOHTTP, UVICORN, NODE];

/// Debian's modules of Apache that it needs, with their names in the configuration.
const APACHE_MODULES: [(&str, &str); 5] = [
    ("mpm_event_module", "mpm_event"),
    ("authz_core_module", "authz_core"),
    ("alias_module", "alias"),
    ("socache_shmcb_module", "socache_shmcb"),
    ("ssl_module", "ssl"),
];

/// Apache with threads. Its responses are a file, without the client's port.
fn apache(world: &World, dir: &str) -> Result<TlsServing> {
    let port = Port::claim()?;
    let home = world.dir().join("apache");
    fs::create_dir(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let (file, page, home) = (home.join("apache2.conf"), home.join("page"), home.display());
    let modules =
        APACHE_MODULES.map(|(name, file)| format!("LoadModule {name} /usr/lib/apache2/modules/mod_{file}.so\n"));
    let user = if accounts::is_root() {
        let account = UserAccount::first_of(&["www-data", "nobody"])?;
        format!("User {}\nGroup {}", account.user, account.group)
    } else {
        String::new()
    };
    let configuration = format!(
        "{}{user}
ServerName localhost
DefaultRuntimeDir {home}
PidFile {home}/pid
ErrorLog /dev/stderr
Mutex file:{home}
Listen {}
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 300
SSLEngine on
SSLCertificateFile {dir}/cert.pem
SSLCertificateKeyFile {dir}/key.pem
AliasMatch ^/r/ {}
<Directory {home}>
    Require all granted
</Directory>
",
        modules.concat(),
        port.address(),
        page.display()
    );
    fs::write(&page, "hello\n").with_context(|| format!("cannot write {}", page.display()))?;
    fs::write(&file, configuration).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = world.command(machine::require_program("apache2")?);
    command.arg("-DFOREGROUND").arg("-f").arg(&file);
    let launch = Launch { name: "apache", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
    let process = ChildProcess::start(world, &launch, &mut command)?;
    wait_until_listening(within(STARTS_WITHIN), port.number())?;
    Ok(TlsServing::new(port.number(), (process, port)))
}

fn python(world: &World, kind: &str, dir: &str) -> Result<TlsServing> {
    let app = App::python("tls_server").argument(kind).argument(dir).start(world)?;
    Ok(TlsServing::new(app.port(), app))
}

fn haproxy(world: &World, dir: &str) -> Result<TlsServing> {
    start_haproxy(
        world,
        dir,
        "mode http",
        "http-request return status 200 content-type text/plain lf-string \"%[path] %[src_port]\"",
    )
}

/// HAProxy that decrypts, and passes the bytes on to the server at `upstream` (`HOST:PORT`).
pub fn start_terminator(world: &World, certificate: &Certificate, upstream: &str) -> Result<TlsServing> {
    start_haproxy(
        world,
        &certificate.dir(),
        "mode tcp",
        &format!("default_backend out\nbackend out\n    server one {upstream}"),
    )
}

/// Starts HAProxy in `mode`, with a frontend that does what `frontend` says. It wants the certificate and its key in one file.
fn start_haproxy(world: &World, dir: &str, mode: &str, frontend: &str) -> Result<TlsServing> {
    let port = Port::claim()?;
    let (pem, file) = (world.dir().join("haproxy.pem"), world.dir().join("haproxy.cfg"));
    let part = |name: &str| fs::read_to_string(format!("{dir}/{name}")).with_context(|| format!("cannot read {name}"));
    fs::write(&pem, part("cert.pem")? + &part("key.pem")?)
        .with_context(|| format!("cannot write {}", pem.display()))?;
    let configuration = format!(
        "global
    nbthread 2
defaults
    {mode}
    timeout connect 30s
    timeout client 60s
    timeout server 60s
frontend in
    bind {} ssl crt {}
    {frontend}
",
        port.address(),
        pem.display()
    );
    fs::write(&file, configuration).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = world.command(machine::require_program("haproxy")?);
    command.arg("-db").arg("-f").arg(&file);
    let launch = Launch { name: "haproxy", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
    let process = ChildProcess::start(world, &launch, &mut command)?;
    wait_until_listening(within(STARTS_WITHIN), port.number())?;
    Ok(TlsServing::new(port.number(), (process, port)))
}
