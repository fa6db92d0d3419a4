//! System packages: the servers that are traced and the tools that load them. Installed on Debian, listed elsewhere.

use std::process::Command;

use anyhow::{Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::{JDBC_JAVA, find_program, java, jdbc_driver, postgres_programs, static_openssl};

use super::{Part, debian, python};
use crate::shell;

pub(crate) const PACKAGES: Part = Part {
    name: "packages",
    about: "System packages: nginx, PostgreSQL, Redis, Node, curl, wrk, ...",
    by_default: true,
    make_ready,
};

/// A program that must be on the machine, and the Debian package that has it.
struct Needed {
    program: &'static str,
    package: &'static str,
    is_here: fn(&str) -> bool,
}

/// One row per program. Go and Java are missing on purpose: the tests that need them are skipped without them.
const NEEDED: &[Needed] = &[
    Needed { program: "nginx", package: "nginx-light", is_here: on_path },
    Needed { program: "redis-server", package: "redis-server", is_here: on_path },
    Needed { program: "memcached", package: "memcached", is_here: on_path },
    // Debian keeps it off PATH.
    Needed { program: "initdb", package: "postgresql", is_here: |_| postgres_programs().is_some() },
    Needed { program: "node", package: "nodejs", is_here: on_path },
    Needed { program: "haproxy", package: "haproxy", is_here: on_path },
    Needed { program: "apache2", package: "apache2-bin", is_here: on_path },
    Needed { program: "curl", package: "curl", is_here: on_path },
    Needed { program: "wrk", package: "wrk", is_here: on_path },
    Needed { program: "h2load", package: "nghttp2-client", is_here: on_path },
    Needed { program: "nghttpx", package: "nghttp2-proxy", is_here: on_path },
    Needed { program: "etcd", package: "etcd-server", is_here: on_path },
    Needed { program: "etcdctl", package: "etcd-client", is_here: on_path },
    // A test links a server with it.
    Needed { program: "OpenSSL's static library", package: "libssl-dev", is_here: |_| is_static_openssl_here() },
    Needed { program: "gcc", package: "gcc", is_here: on_path },
    Needed { program: "wget", package: "wget", is_here: on_path },
    Needed { program: "openssl", package: "openssl", is_here: on_path },
    Needed { program: "ip", package: "iproute2", is_here: on_path },
    Needed { program: "python3", package: "python3", is_here: on_path },
    Needed {
        program: "PostgreSQL's JDBC driver",
        package: "libpostgresql-jdbc-java",
        is_here: |_| needs_no_jdbc_driver(),
    },
    // A module of the standard library that Debian packages separately. Virtual environments need it.
    Needed { program: "ensurepip", package: "python3-venv", is_here: is_python_module },
];

fn make_ready(_: &Cache) -> Result<()> {
    let missing: Vec<_> = NEEDED.iter().filter(|needed| !(needed.is_here)(needed.program)).collect();
    if missing.is_empty() {
        shell::say("packages: (already there)");
        return Ok(());
    }
    if !debian::is_here() {
        let programs: Vec<_> = missing.iter().map(|needed| needed.program).collect();
        bail!(
            "missing programs: {}: install them with the system's package manager, then `cargo xtask setup`",
            programs.join(", ")
        );
    }
    let packages: Vec<_> = missing.iter().map(|needed| needed.package).collect();
    shell::say(&format!("packages: installing {}", packages.join(", ")));
    debian::install(&packages)
}

fn on_path(program: &str) -> bool {
    find_program(program).is_some()
}

/// Without a JVM, the test that needs the driver is skipped. So it is on other systems, where its place is unknown.
fn needs_no_jdbc_driver() -> bool {
    jdbc_driver().is_some() || java(JDBC_JAVA).is_none() || !debian::is_here()
}

fn is_python_module(module: &str) -> bool {
    let import = format!("import {module}");
    python::interpreter().is_ok_and(|python| shell::read(Command::new(python).args(["-c", &import])).is_ok())
}

/// On other systems its place is unknown, and the test that needs it is skipped.
fn is_static_openssl_here() -> bool {
    static_openssl().is_some() || !debian::is_here()
}
