//! PostgreSQL with a cluster of its own, made for the occasion.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::STARTS_WITHIN;
use crate::accounts::{self, Account};
use crate::machine;
use crate::ports::Port;
use crate::process::{Launch, Process, Stdout};
use crate::wait::within;
use crate::world::World;

/// It refuses to run as root.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// A PostgreSQL server on a port of its own, and on a unix socket in [`Postgres::socket_dir`]; anybody may log in as
/// `postgres`.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Port,
    programs: PathBuf,
    home: PathBuf,
}

impl Postgres {
    /// Makes a cluster, starts the server, and waits until it accepts connections.
    pub fn start(world: &World) -> Result<Self> {
        let programs = machine::postgres_programs().context("PostgreSQL is not installed: run `cargo xtask setup`")?;
        let account = accounts::is_root().then(|| Account::first_of(&ACCOUNTS)).transpose()?;
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
        // SIGINT is its fast shutdown: it does not wait for clients to leave.
        let launch = Launch { name: "postgres", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGINT };
        let mut process = Process::start(world, &launch, &mut server)?;
        process.logged(within(STARTS_WITHIN), "database system is ready to accept connections", 1)?;
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

    /// How many statements it was sent until now, by its own log.
    pub fn asked(&self) -> Result<usize> {
        // Of simple and extended queries. What follows in a statement of several lines is indented.
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

    /// The folder of its unix socket, which takes the place of a host's name.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.home
    }

    /// Its first process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn as_account(world: &World, program: &Path, home: &Path, account: Option<&Account>) -> Command {
    let mut command = world.command(program);
    command.current_dir(home);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}
