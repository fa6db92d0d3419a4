//! Bytes moved by every system call that the kernel has for it. The request is exported, or counted under the right name.
//! The next request on the connection is exported as usual.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::App;
use onlooker_tests::wait::within;
use onlooker_tests::{Curl, Recording, World, record_skip};
use rstest::rstest;

const SOCKET_CALLS: &str = env!("CARGO_BIN_EXE_socket_calls");

const PATIENCE: Duration = Duration::from_secs(30);

/// Counters for operations that cannot be captured as usual.
const COUNTERS: [&str; 4] = [
    "kernel_multiple_messages",
    "kernel_length_only_operations",
    "kernel_compat_syscalls",
    "responses_without_request",
];

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Exported,
    /// Counted under this name.
    Lost(&'static str),
    /// Only its response is seen, so the request is neither exported nor counted as a request.
    Unseen,
}

const HEAD_MISSING: Fate = Fate::Lost("requests_lost_head_missing");
const RESPONSE_MISSING: Fate = Fate::Lost("requests_lost_response_missing");

#[rstest]
#[case::one_buffer("recvfrom", "sendto", Fate::Exported, &[])]
#[case::read_after_a_peek("recvfrom after a peek", "sendto", Fate::Exported, &[])]
#[case::several_buffers("readv", "writev", Fate::Exported, &[])]
#[case::several_buffers_with_flags("preadv2", "pwritev2", Fate::Exported, &[])]
#[case::many_buffers("read", "writev of many", Fate::Exported, &[])]
#[case::messages("recvmsg", "sendmsg", Fate::Exported, &[])]
#[case::several_messages_read("recvmmsg", "write", HEAD_MISSING, &[("kernel_multiple_messages", 1)])]
#[case::several_messages_written("read", "sendmmsg", RESPONSE_MISSING, &[("kernel_multiple_messages", 2)])]
#[case::read_into_a_pipe("splice", "write", Fate::Unseen, &[("responses_without_request", 1)])]
#[case::written_from_a_pipe("read", "splice", RESPONSE_MISSING, &[("kernel_length_only_operations", 1)])]
#[case::read_by_io_uring("io_uring", "write", HEAD_MISSING, &[("kernel_length_only_operations", 1)])]
#[case::written_by_io_uring("read", "io_uring", RESPONSE_MISSING, &[("kernel_length_only_operations", 1)])]
#[case::read_in_32_bits("32-bit read", "write", HEAD_MISSING, &[("kernel_compat_syscalls", 1)])]
#[case::written_in_32_bits("read", "32-bit write", RESPONSE_MISSING, &[("kernel_compat_syscalls", 1)])]
fn a_request_is_exported_or_counted_whatever_call_moves_it(
    #[case] how_in: &str,
    #[case] how_out: &str,
    #[case] fate: Fate,
    #[case] counted: &[(&str, u64)],
) -> Result<()> {
    World::story("system calls", |world| {
        let attempt = world.output_of(world.command(SOCKET_CALLS).args(["try", how_in, how_out]))?;
        if !attempt.status.success() {
            let stderr = String::from_utf8_lossy(&attempt.stderr);
            // A kernel without 32-bit system calls raises SIGSEGV for one.
            let refused = attempt.status.signal() == Some(libc::SIGSEGV) || stderr.contains("is refused");
            ensure!(refused, "{} {stderr}", attempt.status);
            record_skip(&format!("this kernel refuses {how_in} or {how_out}: {}", stderr.trim()));
            return Ok(());
        }
        let server = App::test_binary(SOCKET_CALLS).argument(how_in).argument(how_out).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&server.address())?;
        let paths = ["/before", "/moved", "/after"];
        for path in paths {
            ensure!(client.get(path)?.0.body == 60);
        }
        recording.wait_until("span of the last request", |spans| spans.iter().any(|span| span.name == "GET /after"))?;
        let outcome = recording.stop(if fate == Fate::Unseen { paths.len() - 1 } else { paths.len() })?;
        let summary = &outcome.summary;
        let line = |path: &str| format!("socket_calls server GET {path} -> 200\n");
        let expected: String =
            paths.iter().filter(|path| fate == Fate::Exported || **path != "/moved").map(|path| line(path)).collect();
        outcome.expect_tree(&[], &expected)?;
        if let Fate::Lost(name) = fate {
            ensure!(summary.get(name) == 1, "{name} is not 1: {summary}");
        }
        for name in COUNTERS {
            let expected = counted.iter().find(|(counted, _)| *counted == name).map_or(0, |(_, count)| *count);
            ensure!(summary.get(name) == expected, "{name} is not {expected}: {summary}");
        }
        Ok(())
    })
}

#[test]
fn the_kernel_programs_log_only_on_request() -> Result<()> {
    World::story("kernel log", |world| {
        let server = App::test_binary(SOCKET_CALLS).argument("read").argument("write").start(world)?;
        let run_agent = |options: &[&str]| -> Result<String> {
            let mut recording = Recording::start_with(world, options)?;
            Curl::run(world, &[&server.url("/hello")])?;
            recording.wait_for_spans(2)?;
            if !options.is_empty() {
                for line in ["selected by its cgroup", "ended"] {
                    recording.agent().wait_for_log(within(PATIENCE), line)?;
                }
            }
            let stderr = recording.agent().stderr()?;
            recording.finish(2)?;
            std::fs::remove_file(world.dir().join("spans.jsonl"))?;
            Ok(stderr)
        };
        ensure!(!run_agent(&[])?.contains("selected by its cgroup"));
        run_agent(&["--kernel-log"])?;
        Ok(())
    })
}
