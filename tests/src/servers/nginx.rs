//! nginx, with a generated configuration.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::STARTS_WITHIN;
use crate::accounts::{self, UserAccount};
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::require_program;
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// The user of nginx's workers, by the names that distributions use.
const ACCOUNTS: [&str; 3] = ["www-data", "nginx", "nobody"];

/// What nginx serves. Created by [`Nginx::proxy_to`], [`Nginx::files`] or [`Nginx::site`].
#[derive(Debug, Clone)]
pub struct Site {
    name: String,
    /// Another binary than the one on PATH.
    program: Option<PathBuf>,
    workers: u32,
    http: String,
    listen: String,
    server: String,
    watched: bool,
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    process: ChildProcess,
    port: Port,
}

impl Nginx {
    /// A proxy to `upstream` (`HOST:PORT` or `unix:PATH`) that keeps its connections open.
    #[must_use]
    pub fn proxy_to(upstream: &str) -> Site {
        Self::proxy("http", upstream)
    }

    /// The same, over TLS at both sides. `certificate` is the folder of its certificate.
    #[must_use]
    pub fn tls_proxy_to(upstream: &str, certificate: &str) -> Site {
        Self::proxy("https", upstream).tls(certificate)
    }

    fn proxy(scheme: &str, upstream: &str) -> Site {
        let server = format!(
            "location / {{
            proxy_pass {scheme}://upstream;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header Host $host;
        }}"
        );
        Site { http: format!("upstream upstream {{ server {upstream}; keepalive 10; }}"), ..Self::site(&server) }
    }

    /// Serves the files below `root`, with sendfile.
    #[must_use]
    pub fn files(root: &Path) -> Site {
        Self::site(&format!("root {};", root.display()))
    }

    /// Serves what `server` says: directives for nginx's `server` block.
    #[must_use]
    pub fn site(server: &str) -> Site {
        Site {
            name: "nginx".into(),
            program: None,
            workers: 1,
            http: String::new(),
            listen: String::new(),
            server: server.to_owned(),
            watched: true,
        }
    }

    /// `http://127.0.0.1:PORT/path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address())
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its master process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }
}

impl Site {
    /// Names the folder and the log. Needed for a second nginx in the same world.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Runs this copy of the binary.
    #[must_use]
    pub fn program(self, program: PathBuf) -> Self {
        Self { program: Some(program), ..self }
    }

    /// Number of worker processes; the default is 1.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// Runs outside of the watched cgroup.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Self { watched: false, ..self }
    }

    /// Adds directives to the `http` block, such as an `upstream`.
    #[must_use]
    pub fn http(self, directives: &str) -> Self {
        Self { http: format!("{}\n    {directives}", self.http), ..self }
    }

    /// Adds parameters to the `listen` directive, after the address.
    #[must_use]
    pub fn listen(self, parameters: &str) -> Self {
        Self { listen: parameters.to_owned(), ..self }
    }

    /// Serves HTTPS with the certificate in this folder.
    #[must_use]
    pub fn tls(self, certificate: &str) -> Self {
        let keys = format!("ssl_certificate {certificate}/cert.pem; ssl_certificate_key {certificate}/key.pem;");
        self.listen("ssl").http(&keys)
    }

    /// Starts nginx and waits until all its workers run.
    pub fn start(&self, world: &World) -> Result<Nginx> {
        self.start_on(world, Port::claim()?)
    }

    /// Like [`Site::start`], on a port that was reserved before.
    pub fn start_on(&self, world: &World, port: Port) -> Result<Nginx> {
        let dir = world.dir().join(&self.name);
        fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file = dir.join("nginx.conf");
        fs::write(&file, self.configuration(&port, &dir)?)
            .with_context(|| format!("cannot write {}", file.display()))?;

        let program = self.program.clone().map_or_else(|| require_program("nginx"), Ok)?;
        let mut command = world.command(program);
        // Without `-e`, nginx opens the system's log before it reads the configuration.
        command.args(["-e", "stderr", "-c"]).arg(&file).arg("-p").arg(&dir);
        let launch =
            Launch { name: &self.name, watched: self.watched, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        let workers = usize::try_from(self.workers).context("a count of processes fits in usize")?;
        process.wait_for_log(within(STARTS_WITHIN), "start worker process ", workers)?;
        Ok(Nginx { process, port })
    }

    fn configuration(&self, port: &Port, dir: &Path) -> Result<String> {
        let Self { workers, http, listen, server, .. } = self;
        let user = if accounts::is_root() {
            let account = UserAccount::first_of(&ACCOUNTS)?;
            format!("user {} {};", account.user, account.group)
        } else {
            String::new()
        };
        let dir = dir.display();
        let address = port.address();
        Ok(format!(
            "daemon off;
{user}
worker_processes {workers};
pid {dir}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {http}
    server {{
        listen {address} {listen};
        {server}
    }}
}}
"
        ))
    }
}
