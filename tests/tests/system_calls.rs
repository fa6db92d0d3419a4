//! Bytes that are moved in each way that the kernel has: told, or counted under a name of their own; and what comes after them
//! on the connection told as ever.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::client::Connection;
use onlooker_tests::servers::App;
use onlooker_tests::wait::within;
use onlooker_tests::{Curl, Recording, World, record_skip};
use rstest::rstest;

const MOVES: &str = env!("CARGO_BIN_EXE_moves");

const PATIENCE: Duration = Duration::from_secs(30);

/// What is counted of operations that can't be looked at as usual.
const COUNTERS: [&str; 5] = [
    "kernel_multiple_messages",
    "kernel_length_only_operations",
    "kernel_compat_syscalls",
    "kernel_too_many_buffers",
    "responses_without_request",
];

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Told,
    /// Under this name.
    Lost(&'static str),
    /// By nobody: only its response was. The sum knows nothing of it.
    Unseen,
}

const HEAD_MISSING: Is = Is::Lost("requests_lost_head_missing");
const RESPONSE_MISSING: Is = Is::Lost("requests_lost_response_missing");

#[rstest]
#[case::one_buffer("recvfrom", "sendto", Is::Told, &[])]
#[case::looked_at_before("recvfrom after a peek", "sendto", Is::Told, &[])]
#[case::several_buffers("readv", "writev", Is::Told, &[])]
#[case::several_buffers_with_flags("preadv2", "pwritev2", Is::Told, &[])]
#[case::more_buffers_than_are_looked_at("read", "writev of many", Is::Told, &[("kernel_too_many_buffers", 1)])]
#[case::messages("recvmsg", "sendmsg", Is::Told, &[])]
#[case::several_messages_read("recvmmsg", "write", HEAD_MISSING, &[("kernel_multiple_messages", 1)])]
#[case::several_messages_written("read", "sendmmsg", RESPONSE_MISSING, &[("kernel_multiple_messages", 2)])]
#[case::read_into_a_pipe("splice", "write", Is::Unseen, &[("responses_without_request", 1)])]
#[case::written_from_a_pipe("read", "splice", RESPONSE_MISSING, &[("kernel_length_only_operations", 1)])]
#[case::read_by_a_ring("io_uring", "write", HEAD_MISSING, &[("kernel_length_only_operations", 1)])]
#[case::written_by_a_ring("read", "io_uring", RESPONSE_MISSING, &[("kernel_length_only_operations", 1)])]
#[case::read_in_32_bits("32-bit read", "write", HEAD_MISSING, &[("kernel_compat_syscalls", 1)])]
#[case::written_in_32_bits("read", "32-bit write", RESPONSE_MISSING, &[("kernel_compat_syscalls", 1)])]
fn what_a_call_moves_is_told_or_counted(
    #[case] how_in: &str,
    #[case] how_out: &str,
    #[case] is: Is,
    #[case] counted: &[(&str, u64)],
) -> Result<()> {
    World::story("system calls", |world| {
        let tried = world.ask(world.command(MOVES).args(["try", how_in, how_out]))?;
        if !tried.status.success() {
            let said = String::from_utf8_lossy(&tried.stderr);
            // How a kernel answers to a call that only 32-bit programs make, where it has none.
            let refused = tried.status.signal() == Some(libc::SIGSEGV) || said.contains("is refused");
            ensure!(refused, "{} {said}", tried.status);
            record_skip(&format!("this kernel refuses {how_in} or {how_out}: {}", said.trim()));
            return Ok(());
        }
        let server = App::own(MOVES).argument(how_in).argument(how_out).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = Connection::open(&server.address())?;
        let paths = ["/before", "/moved", "/after"];
        for path in paths {
            ensure!(client.get(path)?.0.body == 60);
        }
        recording.wait_until("span of the last", |spans| spans.iter().any(|span| span.name == "GET /after"))?;
        let account = recording.stop(if is == Is::Unseen { paths.len() - 1 } else { paths.len() })?;
        let summary = &account.summary;
        let told = |path: &str| format!("moves server GET {path} -> 200\n");
        let expected: String =
            paths.iter().filter(|path| is == Is::Told || **path != "/moved").map(|path| told(path)).collect();
        account.is_tree(&[], &expected)?;
        if let Is::Lost(name) = is {
            ensure!(summary.get(name) == 1, "not {name}: {summary}");
        }
        for name in COUNTERS {
            let expected = counted.iter().find(|(counted, _)| *counted == name).map_or(0, |(_, count)| *count);
            ensure!(summary.get(name) == expected, "{name} is not {expected}: {summary}");
        }
        Ok(())
    })
}

#[test]
fn the_kernel_programs_say_of_themselves_what_they_are_asked_to() -> Result<()> {
    World::story("kernel log", |world| {
        let server = App::own(MOVES).argument("read").argument("write").start(world)?;
        let asked = |options: &[&str]| -> Result<String> {
            let mut recording = Recording::start_with(world, options)?;
            Curl::run(world, &[&server.url("/hello")])?;
            recording.wait_for(2)?;
            if !options.is_empty() {
                for said in ["selected by its cgroup", "ended"] {
                    recording.agent().says(within(PATIENCE), said)?;
                }
            }
            let said = recording.agent().stderr()?;
            recording.finish(2)?;
            std::fs::remove_file(world.dir().join("spans.jsonl"))?;
            Ok(said)
        };
        ensure!(!asked(&[])?.contains("selected by its cgroup"));
        asked(&["--kernel-log"])?;
        Ok(())
    })
}
