//! The measured processes, each with both ends of a TLS connection.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::World;
use onlooker_tests::machine::find_program;
use onlooker_tests::tls::Certificate;

use crate::cpu;

/// A process that is measured. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Load {
    child: Child,
    commands: Option<ChildStdin>,
    results: BufReader<ChildStdout>,
    program: PathBuf,
}

impl Load {
    /// A program in C with the system's OpenSSL.
    pub(super) fn openssl(world: &World, certificate: &Certificate) -> Result<Self> {
        let program = world.dir().join("openssl_load");
        let mut compiler = world.command(find_program("gcc").context("gcc is not installed")?);
        compiler.args(["-O2", "-o"]).arg(&program).arg(source("openssl.c")).args(["-lssl", "-lcrypto"]);
        world.run_unwatched(&mut compiler).context("cannot compile; libssl-dev is needed")?;
        Self::start(world, program, certificate)
    }

    /// A program in Go with crypto/tls.
    pub(super) fn go(world: &World, certificate: &Certificate) -> Result<Self> {
        let program = world.dir().join("go_load");
        let mut compiler = world.command(find_program("go").context("Go is not installed")?);
        compiler.env("CGO_ENABLED", "0").args(["build", "-o"]).arg(&program).arg(source("load.go"));
        world.run_unwatched(&mut compiler)?;
        Self::start(world, program, certificate)
    }

    fn start(world: &World, program: PathBuf, certificate: &Certificate) -> Result<Self> {
        let mut command = world.command(&program);
        command.args(["cert.pem", "key.pem"].map(|name| format!("{}/{name}", certificate.dir())));
        let mut child = world.spawn(&mut command)?;
        let commands = child.stdin.take();
        let results = BufReader::new(child.stdout.take().context("its stdout is a pipe")?);
        let mut load = Self { child, commands, results, program };
        cpu::measure_there(load.pid())?;
        let line = load.line()?;
        ensure!(line == "listening", "{} printed {line}", load.program.display());
        Ok(load)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// The time of one call in the best window, in nanoseconds.
    pub(super) fn measure(&mut self, command: &str) -> Result<f64> {
        let commands = self.commands.as_mut().context("the load runs until it is dropped")?;
        writeln!(commands, "{command}").context("cannot send a command to the load")?;
        self.line()?.parse().context("the load prints a number")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.results.read_line(&mut line).context("cannot read from the load")? > 0, "the load ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Closing its stdin ends the load.
        self.commands = None;
        let _ = self.child.wait();
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls").join(name)
}
