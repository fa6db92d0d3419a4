//! PostgreSQL, with a new cluster for each test.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::STARTS_WITHIN;
use crate::accounts::{self, UserAccount};
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine;
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// The user that runs it: PostgreSQL refuses to run as root.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// A running PostgreSQL on a TCP port and on a unix socket in [`Postgres::socket_dir`]. The user `postgres` needs no
/// password.
#[derive(Debug)]
pub struct Postgres {
    process: ChildProcess,
    port: Port,
    programs: PathBuf,
    home: PathBuf,
}

impl Postgres {
    /// Creates a cluster, starts the server, and waits until it accepts connections.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_as(world, None)
    }

    /// The same, with TLS for clients that ask for it. `certificate` is the folder of its certificate.
    pub fn start_with_tls(world: &World, certificate: &str) -> Result<Self> {
        Self::start_as(world, Some(certificate))
    }

    fn start_as(world: &World, certificate: Option<&str>) -> Result<Self> {
        let programs = machine::postgres_programs().context("PostgreSQL is not installed: run `cargo xtask setup`")?;
        let account = accounts::is_root().then(|| UserAccount::first_of(&ACCOUNTS)).transpose()?;
        let port = Port::claim()?;
        let home = world.dir().join("postgres");
        fs::create_dir(&home).with_context(|| format!("cannot create {}", home.display()))?;
        if let Some(account) = &account {
            chown(&home, Some(account.uid), Some(account.gid))
                .with_context(|| format!("cannot give {} to {}", home.display(), account.user))?;
        }
        let cluster = home.join("cluster");

        let mut initdb = as_account(world, &programs.join("initdb"), &home, account.as_ref());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"]);
        world.run_unwatched(initdb.arg(&cluster))?;

        let mut server = as_account(world, &programs.join("postgres"), &home, account.as_ref());
        server.arg("-D").arg(&cluster).args(["-p", &port.to_string(), "-k"]).arg(&home);
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "logging_collector=off",
            "max_connections=200",
            "log_statement=all",
            "log_line_prefix=",
        ] {
            server.args(["-c", setting]);
        }
        if let Some(dir) = certificate {
            // It accepts only a key that nobody else can read.
            for file in ["cert.pem", "key.pem"] {
                let copy = home.join(file);
                fs::copy(Path::new(dir).join(file), &copy).with_context(|| format!("cannot copy {file}"))?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
                if let Some(account) = &account {
                    chown(&copy, Some(account.uid), Some(account.gid))?;
                }
            }
            let home = home.display();
            for setting in
                ["ssl=on".to_owned(), format!("ssl_cert_file={home}/cert.pem"), format!("ssl_key_file={home}/key.pem")]
            {
                server.args(["-c", &setting]);
            }
        }
        // SIGINT requests a fast shutdown, which does not wait for clients to disconnect.
        let launch = Launch { name: "postgres", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGINT };
        let mut process = ChildProcess::start(world, &launch, &mut server)?;
        process.wait_for_log(within(STARTS_WITHIN), "database system is ready to accept connections", 1)?;
        Ok(Self { process, port, programs, home })
    }

    /// Runs SQL with psql, outside of the watched cgroup.
    pub fn execute(&self, sql: &str) -> Result<()> {
        let world = self.process.world();
        let mut psql = world.command(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--username=postgres", "--dbname=postgres"])
            .args(["--port", &self.port.to_string(), "--command", sql, "--host"])
            .arg(&self.home);
        world.run_unwatched(&mut psql)?;
        Ok(())
    }

    /// Returns how many statements the server has received, according to its log.
    pub fn statement_count(&self) -> Result<usize> {
        // Simple and extended queries. The further lines of a statement are indented.
        let is_statement = |line: &&str| line.starts_with("LOG:  statement: ") || line.starts_with("LOG:  execute ");
        Ok(self.process.log()?.lines().filter(is_statement).count())
    }

    /// `postgresql://postgres@127.0.0.1:PORT/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgresql://postgres@{}/postgres", self.port.address())
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The folder of its unix socket, which libpq accepts as a host name.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.home
    }

    /// The main server process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }
}

fn as_account(world: &World, program: &Path, home: &Path, account: Option<&UserAccount>) -> Command {
    let mut command = world.command(program);
    command.current_dir(home);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}
