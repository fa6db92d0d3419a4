//! The rows of the table of runtimes.

use onlooker_common::unit;

use super::beam::BEAM;
use super::dotnet::DOTNET;
use super::go::GO;
use super::javascript::{BUN, DENO, NODE};
use super::jvm::JVM;
use super::perl::PERL;
use super::php::PHP;
use super::python::{PYPY, PYTHON};
use super::row::{Mark, Runtime, When, Work};
use super::ruby::RUBY;
use super::shell::SHELL;
use crate::attach::UnitOfWork;
use crate::attach::runtimes::tokio;

/// All runtimes that are recognised. Where two rows fit, the first one counts: Rust stands before runtimes whose hints
/// a Rust program may contain as text, as this one does.
pub const RUNTIMES: &[&Runtime] = &[
    &GO, &RUST, &BEAM, &BUN, &DENO, &DOTNET, &JVM, &NODE, &PERL, &PHP, &PYTHON, &PYPY, &RUBY, &SHELL, &NGINX, &HAPROXY,
    &ENVOY, &POSTGRES, &REDIS,
];

/// The runtime of a program that no row fits: compiled, by an unknown compiler.
pub(super) const NATIVE: Runtime = Runtime { name: "native", may_host_another: true, ..Runtime::COMPILED };

/// A folder of tokio's source files, some of which may panic and so leave their paths among the constants.
const TOKIO_SOURCE: &str = "/src/runtime/scheduler/multi_thread/";

const RUST: Runtime = Runtime {
    name: "rust",
    // Older compilers leave no comment, but paths of the standard library where it may panic.
    hints: &[Mark::Compiler("rustc version"), Mark::Constant("/rustc/")],
    may_host_another: true,
    // What tokio names its threads in older and newer versions, and the path of a source file. The compiler may make instructions of
    // a short constant.
    work_exceptions: &[
        (
            When::HasMark(&[
                Mark::Constant("tokio-runtime-worker"),
                Mark::Constant("tokio-rt-worker"),
                Mark::Constant(TOKIO_SOURCE),
            ]),
            Work::Scheduler,
        ),
        (When::HasThread(&["tokio-runtime-w", "tokio-rt-worker"]), Work::Scheduler),
    ],
    unit_of_work: Some(UnitOfWork { kind: unit::TOKIO_TASK, find: tokio::find }),
    unit_origin: Some(tokio::describe),
    functions: Some(tokio::functions),
    sdk_language: Some("rust"),
    ..Runtime::COMPILED
};

const NGINX: Runtime = Runtime {
    name: "nginx",
    executables: &["nginx", "angie", "openresty", "tengine"],
    work: Work::EventLoopNoQueue,
    // OpenResty's sockets have pools with a backlog.
    work_exceptions: &[(When::MapsFile("lua"), Work::EventLoop)],
    ..Runtime::COMPILED
};

const HAPROXY: Runtime =
    Runtime { name: "haproxy", executables: &["haproxy"], work: Work::EventLoop, is_proxy: true, ..Runtime::COMPILED };

const ENVOY: Runtime = Runtime {
    name: "envoy",
    executables: &["envoy"],
    // Each request stays with one of several threads, and each thread is an event loop.
    work: Work::EventLoop,
    is_proxy: true,
    ..Runtime::COMPILED
};

const POSTGRES: Runtime = Runtime { name: "postgres", executables: &["postgres", "postmaster"], ..Runtime::COMPILED };

const REDIS: Runtime = Runtime {
    name: "redis",
    executables: &["redis-server", "redis-sentinel", "redis-check-rdb", "valkey-server", "keydb-server"],
    work: Work::EventLoop,
    ..Runtime::COMPILED
};

/// The runtime whose executables are called `file_name`, perhaps with a version at the end.
#[must_use]
pub fn by_executable(file_name: &str) -> Option<&'static Runtime> {
    RUNTIMES.iter().copied().find(|runtime| runtime.is_named(file_name))
}

/// The runtime that the library called `file_name` contains.
pub(super) fn by_library(file_name: &str) -> Option<&'static Runtime> {
    RUNTIMES.iter().copied().find(|runtime| runtime.is_in_library(file_name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_have_names_of_their_own() {
        let names: HashSet<&str> = RUNTIMES.iter().map(|runtime| runtime.name).collect();
        assert_eq!(names.len(), RUNTIMES.len());
        assert!(!names.contains(NATIVE.name));
    }

    #[test]
    fn an_executable_and_a_library_belong_to_one_row() {
        for (at, runtime) in RUNTIMES.iter().enumerate() {
            for other in &RUNTIMES[at + 1..] {
                assert!(!runtime.executables.iter().any(|name| other.is_named(name)), "{runtime:?} {other:?}");
                assert!(!runtime.libraries.iter().any(|name| other.is_in_library(name)), "{runtime:?} {other:?}");
                assert!(!other.libraries.iter().any(|name| runtime.is_in_library(name)), "{runtime:?} {other:?}");
            }
        }
    }

    #[test]
    fn every_row_can_be_recognised_and_its_proof_is_cheap() {
        for runtime in RUNTIMES {
            assert!(
                !runtime.executables.is_empty() || !runtime.proof.is_empty() || !runtime.hints.is_empty(),
                "{runtime:?}"
            );
            assert!(runtime.proof.iter().all(|mark| mark.is_cheap()), "{runtime:?}");
            // Names are compared without the version at their end.
            assert!(runtime.executables.iter().all(|name| runtime.is_named(name)), "{runtime:?}");
        }
    }
}
