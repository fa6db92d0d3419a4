//! An application of tests/apps, or a program of the tests' own, that listens by itself, on the port that is its first argument, and says `listening` when it
//! does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

use super::STARTS_WITHIN;
use crate::machine::{self, need_file, need_program};
use crate::ports::Port;
use crate::process::{Launch, Process, Stdout};
use crate::wait::within;
use crate::world::World;

/// An application that is to be started, named by its language and its file's name without extension; a program of the tests'
/// own by its path.
#[derive(Debug, Clone)]
pub struct AppOptions {
    language: Language,
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The oldest version of its language's runtime that it runs in: of Java, the others go with all.
    least: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Node,
    Python,
    Go,
    Java,
    Own,
}

/// A running application.
#[derive(Debug)]
pub struct App {
    process: Process,
    port: Port,
}

impl App {
    /// `NAME.js`, run by the Node of this machine.
    #[must_use]
    pub fn node(name: &str) -> AppOptions {
        AppOptions::new(Language::Node, name)
    }

    /// `NAME.py`, run by the Python environment that `cargo xtask setup` made.
    #[must_use]
    pub fn python(name: &str) -> AppOptions {
        AppOptions::new(Language::Python, name)
    }

    /// `NAME.go`, compiled for the occasion.
    #[must_use]
    pub fn go(name: &str) -> AppOptions {
        AppOptions::new(Language::Go, name)
    }

    /// `NAME.java`, compiled by the JVM that runs it.
    #[must_use]
    pub fn java(name: &str) -> AppOptions {
        AppOptions::new(Language::Java, name)
    }

    /// The program at this path, one of the tests' own.
    #[must_use]
    pub fn own(path: &str) -> AppOptions {
        AppOptions::new(Language::Own, path)
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// `http://127.0.0.1:PORT/path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address())
    }

    /// The paths that it was asked for until now, by its own log: lines `asked PATH`.
    pub fn asked(&self) -> Result<Vec<String>> {
        let log = self.process.log()?;
        Ok(log.lines().filter_map(|line| line.strip_prefix("asked ")).map(str::to_owned).collect())
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its first process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl AppOptions {
    fn new(language: Language, name: &str) -> Self {
        Self { language, name: name.to_owned(), arguments: Vec::new(), environment: Vec::new(), least: 0 }
    }

    /// Wants a JDK of this version or a newer one.
    #[must_use]
    pub fn jdk(self, least: u32) -> Self {
        Self { least, ..self }
    }

    /// One more argument, after the port.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable in the application's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// What is not installed here that it takes, if anything: the reason to skip a test.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let program = match self.language {
            Language::Node => "node",
            Language::Go => "go",
            Language::Java => {
                return machine::java(self.least)
                    .is_none()
                    .then(|| format!("no JDK of version {} or newer is installed", self.least));
            }
            Language::Python | Language::Own => return None,
        };
        machine::find_program(program).is_none().then(|| format!("{program} is not installed"))
    }

    /// Starts it and waits until it listens.
    pub fn start(&self, world: &World) -> Result<App> {
        let port = Port::claim()?;
        let (program, arguments) = self.command(world)?;
        let mut command = world.command(program);
        command
            .args(arguments)
            .arg(port.to_string())
            .args(&self.arguments)
            .current_dir(match self.language {
                Language::Own => world.dir().to_path_buf(),
                _ => machine::apps(self.language()),
            })
            // The applications' folder is the repository's: no bytecode in it. What is logged is waited for.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let name = Path::new(&self.name).file_name().unwrap_or_default();
        let log = format!("{}-{}", self.language(), name.display());
        let launch = Launch { name: &log, watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, &mut command)?;
        process.logged(within(STARTS_WITHIN), "listening", 1)?;
        Ok(App { process, port })
    }

    /// Its language, which, unless it is one of the tests' own, names the folder of tests/apps that it is in.
    #[must_use]
    pub fn language(&self) -> &'static str {
        match self.language {
            Language::Node => "node",
            Language::Python => "python",
            Language::Go => "go",
            Language::Java => "java",
            Language::Own => "own",
        }
    }

    fn command(&self, world: &World) -> Result<(PathBuf, Vec<OsString>)> {
        let name = &self.name;
        Ok(match self.language {
            Language::Node => (need_program("node")?, vec![format!("{name}.js").into()]),
            Language::Java => {
                let java = machine::java(self.least).context("Java is not installed")?;
                (java, vec![format!("{name}.java").into()])
            }
            Language::Python => {
                let python = need_file(machine::python_environment()?.join("bin/python"))?;
                (python, vec![format!("{name}.py").into()])
            }
            Language::Go => (self.build(world)?, Vec::new()),
            Language::Own => (PathBuf::from(name), Vec::new()),
        })
    }

    /// Compiles it into the world's folder. What of it is the same each time is kept in the cache.
    fn build(&self, world: &World) -> Result<PathBuf> {
        let binary = world.dir().join(&self.name);
        let mut go = world.command(need_program("go")?);
        go.args(["build", "-o"])
            .arg(&binary)
            .arg(format!("{}.go", self.name))
            .current_dir(machine::apps(self.language()))
            .env("GOCACHE", Cache::locate()?.dir().join("go-build"))
            .env("GOTOOLCHAIN", "local");
        world.run_unwatched(&mut go).with_context(|| format!("cannot compile {}.go", self.name))?;
        Ok(binary)
    }
}
