//! A Flask application of tests/apps/python, served by gunicorn.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::{self, require_file};
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// How gunicorn's workers serve requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One request at a time, with a new connection for each: `--worker-class sync`.
    Sync,
    /// A pool of this many threads, with keep-alive connections: `--worker-class gthread`.
    Threads(u32),
}

/// An application to be started. Created by [`Gunicorn::app`].
#[derive(Debug, Clone)]
pub struct GunicornOptions {
    module: String,
    processes: u32,
    workers: Workers,
    unix_socket: bool,
    environment: Vec<(String, String)>,
    /// The folder of a certificate.
    certificate: Option<String>,
}

/// A running gunicorn.
#[derive(Debug)]
pub struct Gunicorn {
    process: ChildProcess,
    bound: Bound,
}

#[derive(Debug)]
enum Bound {
    Port(Port),
    UnixSocket(PathBuf),
}

impl Gunicorn {
    /// The line that each worker logs when it has loaded the application.
    pub const WORKER_READY: &str = "worker has loaded the application";

    /// The object `app` in the module `module` of tests/apps/python. The default is one process with 20 threads.
    #[must_use]
    pub fn app(module: &str) -> GunicornOptions {
        GunicornOptions {
            module: module.to_owned(),
            processes: 1,
            workers: Workers::Threads(20),
            unix_socket: false,
            environment: Vec::new(),
            certificate: None,
        }
    }

    /// The port it listens on. Fails if it listens on a unix socket.
    pub fn port(&self) -> Result<u16> {
        match &self.bound {
            Bound::Port(port) => Ok(port.number()),
            Bound::UnixSocket(socket) => Err(anyhow::anyhow!("{} has no port", socket.display())),
        }
    }

    /// The address in nginx's syntax: `127.0.0.1:PORT` or `unix:PATH`.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.bound {
            Bound::Port(port) => port.address(),
            Bound::UnixSocket(path) => format!("unix:{}", path.display()),
        }
    }

    /// `http://127.0.0.1:PORT/path`. Fails if it listens on a unix socket.
    pub fn url(&self, path: &str) -> Result<String> {
        match &self.bound {
            Bound::Port(port) => Ok(format!("http://{}{path}", port.address())),
            Bound::UnixSocket(socket) => Err(anyhow::anyhow!("{} has no URL", socket.display())),
        }
    }

    /// The first process, which manages the workers and serves nothing itself.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }
}

impl GunicornOptions {
    /// How its workers serve requests.
    #[must_use]
    pub fn workers(self, workers: Workers) -> Self {
        Self { workers, ..self }
    }

    /// Number of worker processes.
    #[must_use]
    pub fn processes(self, processes: u32) -> Self {
        Self { processes, ..self }
    }

    /// Listens on `MODULE.sock` in the world's folder instead of a port.
    #[must_use]
    pub fn unix_socket(self) -> Self {
        Self { unix_socket: true, ..self }
    }

    /// Serves HTTPS with the certificate in this folder.
    #[must_use]
    pub fn tls(self, certificate: &str) -> Self {
        Self { certificate: Some(certificate.to_owned()), ..self }
    }

    /// Sets a variable in the application's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it and waits until every worker has loaded the application.
    pub fn start(&self, world: &World) -> Result<Gunicorn> {
        let bound = if self.unix_socket {
            Bound::UnixSocket(world.dir().join(format!("{}.sock", self.module)))
        } else {
            Bound::Port(Port::claim()?)
        };
        let settings = world.dir().join(format!("{}.conf.py", self.module));
        fs::write(&settings, self.settings()).with_context(|| format!("cannot write {}", settings.display()))?;

        let gunicorn = require_file(machine::python_environment()?.join("bin/gunicorn"))?;
        let mut command = world.command(gunicorn);
        command.arg("--config").arg(&settings).arg("--bind");
        match &bound {
            Bound::Port(port) => command.arg(port.address()),
            Bound::UnixSocket(path) => command.arg(format!("unix:{}", path.display())),
        };
        command
            .arg(format!("{}:app", self.module))
            .current_dir(machine::apps("python"))
            // Keep bytecode out of the repository.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let launch = Launch { name: &self.module, watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        let count = usize::try_from(self.processes).context("a count of processes fits in usize")?;
        process.wait_for_log(within(STARTS_WITHIN), Gunicorn::WORKER_READY, count)?;
        Ok(Gunicorn { process, bound })
    }

    /// gunicorn's configuration file, which is Python code.
    fn settings(&self) -> String {
        let (class, threads) = match self.workers {
            Workers::Sync => ("sync", 1),
            Workers::Threads(threads) => ("gthread", threads),
        };
        let (processes, ready) = (self.processes, Gunicorn::WORKER_READY);
        // Connections wait until the agent has started, which takes longer than the 2 s after which gunicorn closes them.
        let tls = self.certificate.as_ref().map_or_else(String::new, |dir| {
            format!("certfile = \"{dir}/cert.pem\"\nkeyfile = \"{dir}/key.pem\"\nkeepalive = 75\n")
        });
        format!(
            "worker_class = \"{class}\"
workers = {processes}
threads = {threads}
graceful_timeout = 1
control_socket_disable = True
{tls}
def post_worker_init(worker):
    worker.log.info(\"{ready}\")
"
        )
    }
}
