//! Two network namespaces, connected by a pair of virtual interfaces.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};

/// Both ends of the connection. They are removed when this and all worlds in them are dropped.
#[derive(Debug)]
pub struct Networks {
    /// Each end.
    pub ends: [Network; 2],
}

/// A network namespace.
#[derive(Debug, Clone)]
pub struct Network(Arc<Namespace>);

#[derive(Debug)]
struct Namespace {
    name: String,
    address: String,
    file: File,
}

impl Networks {
    /// Creates them. Requires root.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let names = ["a", "b"].map(|end| format!("onlooker-{}-{number}{end}", process::id()));
        // Names of interfaces have at most 15 bytes.
        let [first, second] = ["a", "b"].map(|end| format!("ol{}{end}{number}", process::id() % 1_000_000));
        let [a, b] = [&names[0], &names[1]].map(|name| Network::create(name, if *name == names[0] { 1 } else { 2 }));
        let ends = [a?, b?];
        ip(&["link", "add", &first, "netns", &names[0], "type", "veth", "peer", "name", &second, "netns", &names[1]])?;
        for ((end, link), name) in ends.iter().zip([&first, &second]).zip(&names) {
            ip(&["-n", name, "addr", "add", &format!("{}/24", end.0.address), "dev", link])?;
            ip(&["-n", name, "link", "set", link, "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(Self { ends })
    }
}

impl Network {
    fn create(name: &str, host: u8) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let path = path(name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self(Arc::new(Namespace { name: name.to_owned(), address: format!("10.213.17.{host}"), file })))
    }

    /// The address of its end.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The file by which nsenter(1) enters it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path(&self.0.name)
    }

    /// Listens on a port of its loopback interface. This process stays in its own network.
    pub fn listen(&self) -> Result<TcpListener> {
        let namespace = Arc::clone(&self.0);
        let listen = move || {
            namespace.enter()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        };
        // Only the thread enters it.
        let listening = thread::spawn(listen).join().map_err(|_| anyhow::anyhow!("the thread panicked"))?;
        listening.with_context(|| format!("cannot listen in {}", self.0.name))
    }

    /// Makes the command enter it before it executes its program.
    pub(crate) fn enter_before_exec(&self, command: &mut Command) {
        let namespace = Arc::clone(&self.0);
        // SAFETY: between fork and exec it makes one system call.
        unsafe { command.pre_exec(move || namespace.enter()) };
    }
}

impl Namespace {
    /// Moves this thread into it.
    fn enter(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open. The system call is async-signal-safe.
        if unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("/run/netns/{name}"))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // If it fails, the namespace stays, without processes.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot start ip (package iproute2)")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), stderr.trim());
    Ok(())
}
