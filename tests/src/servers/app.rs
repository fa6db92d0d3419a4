//! An application of tests/apps, or a test binary of this crate. It listens on the port given as its first argument, and
//! prints `listening` when it does.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use onlooker_ebpf_build::Cache;

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::{self, require_file, require_program};
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// The oldest version of Java that the applications are compiled for.
const OLDEST_JAVA: &str = "11";

/// An application to be started. Applications are named by language and file name without extension; test binaries by path.
#[derive(Debug, Clone)]
pub struct AppOptions {
    language: Language,
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The version of Python that runs it, if that is not the environment's.
    python: Option<String>,
    /// It needs the packages of the environment for HTTP/2.
    needs_http2: bool,
    /// For Node: another version than the installed one.
    version: Option<u32>,
    /// For Node: a package that it requires.
    package: Option<&'static str>,
    go: GoBuild,
    /// For Rust: built without optimisation, or without symbols.
    rust: RustBuild,
    /// The version of the JVM that runs it, and its options. Java only.
    jvm: Option<(u32, Vec<String>)>,
    /// Whether a Java program uses libraries.
    libraries: bool,
}

/// How a Go program is built.
#[derive(Debug, Clone, Default)]
struct GoBuild {
    /// A release such as `go1.24.13`. Otherwise the installed one.
    toolchain: Option<&'static str>,
    arguments: &'static [&'static str],
    without_cgo: bool,
}

/// How a Rust program is built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum RustBuild {
    /// Optimised, with symbols: as `cargo build --release`.
    #[default]
    Release,
    /// As `cargo build`.
    Unoptimised,
    Stripped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Node,
    Python,
    Go,
    Java,
    Rust,
    TestBinary,
}

/// A running application.
#[derive(Debug)]
pub struct App {
    process: ChildProcess,
    port: Port,
}

impl App {
    /// `NAME.js`, run by the installed Node.
    #[must_use]
    pub fn node(name: &str) -> AppOptions {
        AppOptions::new(Language::Node, name)
    }

    /// `NAME.py`, run by the Python environment that `cargo xtask setup` created.
    #[must_use]
    pub fn python(name: &str) -> AppOptions {
        AppOptions::new(Language::Python, name)
    }

    /// `NAME.go`, compiled when it is started. A program that needs modules is in a folder: `grpc/NAME`.
    #[must_use]
    pub fn go(name: &str) -> AppOptions {
        AppOptions::new(Language::Go, name)
    }

    /// `NAME.java`, compiled by the JVM that runs it.
    #[must_use]
    pub fn java(name: &str) -> AppOptions {
        AppOptions::new(Language::Java, name)
    }

    /// A Rust program of tests/apps/rust, which cargo builds when it is started. One of another package is in a folder: `tls/NAME`.
    #[must_use]
    pub fn rust(name: &str) -> AppOptions {
        AppOptions::new(Language::Rust, name)
    }

    /// A test binary of this crate.
    #[must_use]
    pub fn test_binary(path: &str) -> AppOptions {
        AppOptions::new(Language::TestBinary, path)
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

    /// The paths of the requests that it has received, according to its log: lines `received PATH`.
    pub fn received_paths(&self) -> Result<Vec<String>> {
        let log = self.process.log()?;
        Ok(log.lines().filter_map(|line| line.strip_prefix("received ")).map(str::to_owned).collect())
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The process that was started.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }
}

impl AppOptions {
    fn new(language: Language, name: &str) -> Self {
        Self {
            language,
            name: name.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            python: None,
            needs_http2: false,
            go: GoBuild::default(),
            rust: RustBuild::default(),
            jvm: None,
            libraries: false,
            version: None,
            package: None,
        }
    }

    /// Runs it with this version of Node, which `cargo xtask setup` installed.
    #[must_use]
    pub fn node_version(self, version: u32) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Requires a package that `cargo xtask setup` installed.
    #[must_use]
    pub fn package(self, package: &'static str) -> Self {
        Self { package: Some(package), ..self }
    }

    /// Runs it by a JVM of exactly this version, with these options.
    #[must_use]
    pub fn jvm(self, version: u32, options: &[&str]) -> Self {
        Self { jvm: Some((version, options.iter().map(|&option| option.to_owned()).collect())), ..self }
    }

    /// Compiles and runs a Java program with the libraries that `cargo xtask setup java` installed.
    #[must_use]
    pub fn libraries(self) -> Self {
        Self { libraries: true, ..self }
    }

    /// Runs it by this version of Python, such as 3.12, which has no packages.
    #[must_use]
    pub fn by_python(self, version: &str) -> Self {
        Self { python: Some(version.to_owned()), ..self }
    }

    /// Runs it in the environment that has the packages for HTTP/2 and gRPC. Python only.
    #[must_use]
    pub fn with_http2(self) -> Self {
        Self { needs_http2: true, ..self }
    }

    /// Builds a Go program by this release.
    #[must_use]
    pub fn go_release(mut self, release: &'static str) -> Self {
        self.go.toolchain = Some(release);
        self
    }

    /// Builds a Go program with these arguments for `go build`.
    #[must_use]
    pub fn go_arguments(mut self, arguments: &'static [&'static str]) -> Self {
        self.go.arguments = arguments;
        self
    }

    /// Builds a Go program without C code.
    #[must_use]
    pub fn without_cgo(mut self) -> Self {
        self.go.without_cgo = true;
        self
    }

    /// Builds a Rust program without optimisation.
    #[must_use]
    pub fn unoptimised(self) -> Self {
        Self { rust: RustBuild::Unoptimised, ..self }
    }

    /// Removes the symbols of a Rust program.
    #[must_use]
    pub fn stripped(self) -> Self {
        Self { rust: RustBuild::Stripped, ..self }
    }

    /// Adds an argument after the port.
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

    /// Why it cannot run on this machine, if so: the reason to skip a test.
    #[must_use]
    pub fn skip_reason(&self) -> Option<String> {
        let program = match self.language {
            Language::Node => {
                let installed =
                    |name: &str| machine::node_packages().is_ok_and(|dir| dir.join("node_modules").join(name).exists());
                let version = self.version.map(|version| format!("node-{version}"));
                if let Some(missing) = version.as_deref().into_iter().chain(self.package).find(|name| !installed(name))
                {
                    return Some(format!("{missing} is not installed: run `cargo xtask setup node`"));
                }
                "node"
            }
            Language::Go => "go",
            Language::Java => {
                if self.libraries && !machine::java_libraries().is_ok_and(|dir| dir.is_dir()) {
                    return Some("Java libraries are not installed: run `cargo xtask setup java`".to_owned());
                }
                if let Some((version, _)) = &self.jvm {
                    return machine::java_of_version(*version)
                        .is_none()
                        .then(|| format!("no JDK {version} is installed"));
                }
                return machine::java(0).is_none().then(|| "Java is not installed".to_owned());
            }
            Language::Python => {
                let version = self.python.as_ref().filter(|version| machine::python(version).is_none())?;
                return Some(format!("Python {version} is not installed"));
            }
            Language::Rust => "cargo",
            Language::TestBinary => return None,
        };
        if machine::find_program(program).is_none() {
            return Some(format!("{program} is not installed"));
        }
        let release = self.go.toolchain?;
        let mut go = Command::new(program);
        let found = go.arg("version").env("GOTOOLCHAIN", release).env("GOPROXY", "off").output();
        let found = found.is_ok_and(|output| output.status.success());
        (!found).then(|| format!("{release} is not installed: run `cargo xtask setup go`"))
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
                Language::TestBinary => world.dir().to_path_buf(),
                _ => machine::apps(self.language()),
            })
            // Keep bytecode out of the repository, and write log lines at once, because tests wait for them.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .env("NODE_PATH", machine::node_packages()?.join("node_modules"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let name = Path::new(&self.name).file_name().unwrap_or_default();
        let log = format!("{}-{}", self.language(), name.display());
        let launch = Launch { name: &log, watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "listening", 1)?;
        Ok(App { process, port })
    }

    /// Runs it to its end in the watched cgroup, without a port, and returns what it printed. Fails unless it succeeds.
    ///
    /// It may end before the agent can examine it. So it has its own name in the kernel, also if an interpreter runs it.
    pub fn run(&self, world: &World) -> Result<String> {
        let (program, arguments) = self.command(world)?;
        let named = world.dir().join(Path::new(&self.name).file_name().unwrap_or_default());
        if !named.exists() {
            symlink(&program, &named).with_context(|| format!("cannot link {}", program.display()))?;
        }
        let mut command = world.command(named);
        command
            .args(arguments)
            .args(&self.arguments)
            .current_dir(machine::apps(self.language()))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_PATH", machine::node_packages()?.join("node_modules"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.language == Language::Python && self.python.is_none() {
            // Under another name, the interpreter does not find its environment.
            let http2 = self.needs_http2;
            let lib =
                if http2 { machine::python_http2_environment() } else { machine::python_environment() }?.join("lib");
            let versions = fs::read_dir(&lib).with_context(|| format!("cannot read {}", lib.display()))?;
            let packages = versions.flatten().map(|version| version.path().join("site-packages")).next();
            command.env("PYTHONPATH", packages.context("the environment has no packages")?);
        }
        Ok(String::from_utf8_lossy(&world.run(&mut command)?.stdout).into_owned())
    }

    /// The language. It names the folder in tests/apps, except for a test binary.
    #[must_use]
    pub fn language(&self) -> &'static str {
        match self.language {
            Language::Node => "node",
            Language::Python => "python",
            Language::Go => "go",
            Language::Java => "java",
            Language::Rust => "rust",
            Language::TestBinary => "test-binary",
        }
    }

    fn command(&self, world: &World) -> Result<(PathBuf, Vec<OsString>)> {
        let name = &self.name;
        Ok(match self.language {
            Language::Node => {
                let node = match self.version {
                    Some(version) => {
                        let dir = machine::node_packages()?.join("node_modules");
                        require_file(dir.join(format!("node-{version}/bin/node")))?
                    }
                    None => require_program("node")?,
                };
                (node, vec![format!("{name}.js").into()])
            }
            Language::Java => {
                if let Some((version, options)) = &self.jvm {
                    return self.compiled(world, *version, options);
                }
                let java = machine::java(0).context("Java is not installed")?;
                (java, vec![format!("{name}.java").into()])
            }
            Language::Python => {
                let python = match &self.python {
                    Some(version) => {
                        machine::python(version).with_context(|| format!("Python {version} is not installed"))?
                    }
                    None if self.needs_http2 => require_file(machine::python_http2_environment()?.join("bin/python"))?,
                    None => require_file(machine::python_environment()?.join("bin/python"))?,
                };
                (python, vec![format!("{name}.py").into()])
            }
            Language::Go => (self.build(world)?, Vec::new()),
            Language::Rust => (self.build_rust(world)?, Vec::new()),
            Language::TestBinary => (PathBuf::from(name), Vec::new()),
        })
    }

    /// Compiles it into the world's folder, and returns how a JVM runs it. The runtimes of `cargo xtask setup` have no compiler.
    fn compiled(&self, world: &World, version: u32, options: &[String]) -> Result<(PathBuf, Vec<OsString>)> {
        let mut compiler = world.command(require_program("javac")?);
        let mut class_path = world.dir().as_os_str().to_owned();
        if self.libraries {
            class_path.push(":");
            class_path.push(machine::java_libraries()?.join("*"));
        }
        compiler.args(["--release", OLDEST_JAVA, "-sourcepath", ".", "-cp"]).arg(&class_path);
        compiler.arg("-d").arg(world.dir()).arg(format!("{}.java", self.name));
        world.run_unwatched(compiler.current_dir(machine::apps(self.language())))?;
        let java = machine::java_of_version(version).with_context(|| format!("JDK {version} is not installed"))?;
        let options = options.iter().map(OsString::from);
        let class = ["-cp".into(), class_path, OsString::from(&self.name)];
        Ok((java, options.chain(class).collect()))
    }

    /// Builds the Rust program in the cache, and copies it into the world's folder.
    fn build_rust(&self, world: &World) -> Result<PathBuf> {
        let (package, name) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        let built = build_rust(package, self.rust != RustBuild::Unoptimised)?.join(name);
        let binary = world.dir().join(name);
        fs::copy(&built, &binary).with_context(|| format!("cannot copy {}", built.display()))?;
        if self.rust == RustBuild::Stripped {
            world.run_unwatched(world.command(require_program("strip")?).arg(&binary))?;
        }
        Ok(binary)
    }

    /// Compiles it into a folder of the world, once for these options. Go's build cache is kept in ours.
    fn build(&self, world: &World) -> Result<PathBuf> {
        let (folder, name) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        let options = format!("go {:?} {:?} {}", self.go.arguments, self.go.toolchain, self.go.without_cgo);
        let built = world.dir().join(options.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"));
        fs::create_dir_all(&built)?;
        let binary = built.join(name);
        if binary.exists() {
            return Ok(binary);
        }
        let mut go = world.command(require_program("go")?);
        go.args(["build", "-o"])
            .arg(&binary)
            .args(self.go.arguments)
            .arg(format!("{name}.go"))
            .current_dir(machine::apps(self.language()).join(folder))
            .env("GOCACHE", Cache::locate()?.dir().join("go-build"))
            .env("GOMODCACHE", machine::go_modules()?)
            .env("GOTOOLCHAIN", self.go.toolchain.unwrap_or("local"))
            .env("CGO_ENABLED", if self.go.without_cgo { "0" } else { "1" });
        world.run_unwatched(&mut go).with_context(|| format!("cannot compile {name}.go"))?;
        Ok(binary)
    }
}

/// Packages of Rust programs: folders in tests/apps/rust, and whether they are built without optimisation too.
pub const RUST_PACKAGES: [(&str, bool); 2] = [("", true), ("tls", false)];

/// Builds the programs of a package in the cache. Returns the folder that has them.
pub fn build_rust(package: &str, optimised: bool) -> Result<PathBuf> {
    let target = Cache::locate()?.dir().join("rust-apps");
    let mut cargo = Command::new(require_program("cargo")?);
    cargo.args(["build", "--quiet", "--locked"]).args(optimised.then_some("--release"));
    cargo.current_dir(machine::apps("rust").join(package)).env("CARGO_TARGET_DIR", &target);
    // Those of the test runner are meant for this workspace.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    let output = cargo.output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cannot build tests/apps/rust/{package}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(target.join(if optimised { "release" } else { "debug" }))
}
