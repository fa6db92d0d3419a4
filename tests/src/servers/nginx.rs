//! nginx with a configuration written for one site.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::STARTS_WITHIN;
use crate::accounts::{self, Account};
use crate::machine::need_program;
use crate::ports::Port;
use crate::process::{Launch, Process, Stdout};
use crate::wait::within;
use crate::world::World;

/// Whom its workers run as: what the distributions call it.
const ACCOUNTS: [&str; 3] = ["www-data", "nginx", "nobody"];

/// What an nginx is to serve. Made by [`Nginx::proxy_to`], [`Nginx::files`] or [`Nginx::site`].
#[derive(Debug, Clone)]
pub struct Site {
    name: String,
    /// Another nginx than that of the PATH.
    program: Option<PathBuf>,
    workers: u32,
    http: String,
    listen: String,
    server: String,
    watched: bool,
}

/// An nginx on a port of its own.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: Port,
}

impl Nginx {
    /// A proxy with connections kept alive to `upstream`, which is `HOST:PORT` or `unix:PATH`.
    #[must_use]
    pub fn proxy_to(upstream: &str) -> Site {
        let server = "location / {
            proxy_pass http://upstream;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header Host $host;
        }";
        Site { http: format!("upstream upstream {{ server {upstream}; keepalive 10; }}"), ..Self::site(server) }
    }

    /// A server of the files below `root`, by sendfile.
    #[must_use]
    pub fn files(root: &Path) -> Site {
        Self::site(&format!("root {};", root.display()))
    }

    /// What `server` says: directives inside of nginx's `server` block.
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
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Site {
    /// Calls its folder and log by another name than "nginx": for a second one in the same world.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Served by this copy of the program.
    #[must_use]
    pub fn program(self, program: PathBuf) -> Self {
        Self { program: Some(program), ..self }
    }

    /// How many worker processes; one, unless this says otherwise.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// Outside of the watched cgroup.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Self { watched: false, ..self }
    }

    /// More directives for the `http` block, such as an `upstream`.
    #[must_use]
    pub fn http(self, directives: &str) -> Self {
        Self { http: format!("{}\n    {directives}", self.http), ..self }
    }

    /// Parameters for its `listen` directive, after the address.
    #[must_use]
    pub fn listen(self, parameters: &str) -> Self {
        Self { listen: parameters.to_owned(), ..self }
    }

    /// Starts nginx and waits until it has its workers.
    pub fn start(&self, world: &World) -> Result<Nginx> {
        self.start_on(world, Port::claim()?)
    }

    /// The same on a port that is known before.
    pub fn start_on(&self, world: &World, port: Port) -> Result<Nginx> {
        let dir = world.dir().join(&self.name);
        fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file = dir.join("nginx.conf");
        fs::write(&file, self.configuration(&port, &dir)?)
            .with_context(|| format!("cannot write {}", file.display()))?;

        let program = self.program.clone().map_or_else(|| need_program("nginx"), Ok)?;
        let mut command = world.command(program);
        // The log has to be named before the configuration is read, or nginx opens the system's first.
        command.args(["-e", "stderr", "-c"]).arg(&file).arg("-p").arg(&dir);
        let launch =
            Launch { name: &self.name, watched: self.watched, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, &mut command)?;
        let workers = usize::try_from(self.workers).context("a count of processes fits in usize")?;
        process.logged(within(STARTS_WITHIN), "start worker process ", workers)?;
        Ok(Nginx { process, port })
    }

    fn configuration(&self, port: &Port, dir: &Path) -> Result<String> {
        let Self { workers, http, listen, server, .. } = self;
        let user = if accounts::is_root() {
            let account = Account::first_of(&ACCOUNTS)?;
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
