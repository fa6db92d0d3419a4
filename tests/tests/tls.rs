//! TLS: the plaintext is read in the libraries of both sides, on the right sockets.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use onlooker_tests::servers::{App, Postgres, Redis, Workers};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::tls::{Certificate, TlsLoad, expect_sockets, expect_spans_per_connection, judge, number_in_path};
use onlooker_tests::tls_servers::{AIOHTTP, GUNICORN, NGINX, NODE, TlsServer, UVICORN};
use onlooker_tests::wait::within;
use onlooker_tests::{Outcome, Recording, SecureClient, Shop, Summary, World, agent_binary, record_skip};
use rstest::rstest;

/// The agent attaches within milliseconds, unless the machine is busy.
const ATTACHED_WITHIN: Duration = Duration::from_secs(20);

/// Waits until the TLS library of the process is read.
fn wait_for_library(recording: &mut Recording, pid: u32) -> Result<()> {
    recording.agent().wait_for_log(within(ATTACHED_WITHIN), &format!("TLS is read pid={pid} "))
}

/// Fails unless every request has a span at both ends, on the right socket, and the server's is below the client's.
fn expect_both_ends(spans: &[Span], ports: &BTreeMap<u64, u16>) -> Result<()> {
    let joined = expect_sockets(spans, ports)?;
    ensure!(joined == ports.len(), "{joined} of {} requests are joined", ports.len());
    for span in spans {
        ensure!(["1.2", "1.3"].contains(&span.get("tls.protocol.version")), "{span:?}");
    }
    Ok(())
}

#[rstest]
#[case::nginx_and_http(NGINX, "http", 1)]
#[case::nginx_and_aiohttp(NGINX, "aiohttp", 50)]
#[case::gunicorn_and_http(GUNICORN, "http", 10)]
#[case::aiohttp_and_aiohttp(AIOHTTP, "aiohttp", 10)]
#[case::uvicorn_and_http(UVICORN, "http", 50)]
#[case::node_and_aiohttp(NODE, "aiohttp", 10)]
fn requests_on_new_connections_are_traced_at_both_ends(
    #[case] server: &TlsServer,
    #[case] kind: &'static str,
    #[case] in_flight: usize,
) -> Result<()> {
    World::story("tls", |world| {
        let certificate = Certificate::make(world)?;
        let server = server.start(world, &certificate)?;
        let load = TlsLoad { kind, requests: 100, in_flight, keep: in_flight == 1, warm: false };
        let mut client = load.client(world, &certificate, server.port)?;
        let recording = Recording::start(world)?;
        let ports = client.run()?;
        let outcome = recording.finish(2 * load.requests)?;
        expect_both_ends(&outcome.spans, &ports)
    })
}

/// Both ends are joined where both libraries use the socket themselves.
#[rstest]
#[case::nginx_and_http(NGINX, "http", true)]
#[case::gunicorn_and_http(GUNICORN, "http", true)]
#[case::aiohttp_and_aiohttp(AIOHTTP, "aiohttp", false)]
#[case::node_and_http(NODE, "http", false)]
fn requests_on_connections_from_before_the_agent_are_traced(
    #[case] server: &TlsServer,
    #[case] kind: &'static str,
    #[case] are_joined: bool,
) -> Result<()> {
    World::story("tls_late", |world| {
        let certificate = Certificate::make(world)?;
        let server = server.start(world, &certificate)?;
        let load = TlsLoad { kind, requests: 100, in_flight: 10, keep: true, warm: true };
        let mut client = load.client(world, &certificate, server.port)?;
        let recording = Recording::start(world)?;
        let ports = client.run()?;
        let outcome = recording.finish(2 * load.requests)?;
        let joined = expect_sockets(&outcome.spans, &ports)?;
        ensure!(joined == if are_joined { ports.len() } else { 0 }, "{joined} are joined");
        Ok(())
    })
}

#[test]
fn a_library_that_is_loaded_after_the_agent_started_is_read() -> Result<()> {
    World::story("tls_later", |world| {
        let certificate = Certificate::make(world)?;
        let mut recording = Recording::start_with(world, &["--verbose"])?;
        let mut server = App::python("tls_server").argument("aiohttp").argument(&certificate.dir()).start(world)?;
        let load = TlsLoad { kind: "http", requests: 50, in_flight: 10, keep: true, warm: false };
        let mut client = load.client(world, &certificate, server.port())?;
        for pid in [server.process().pid(), client.pid()] {
            wait_for_library(&mut recording, pid)?;
        }
        let ports = client.run()?;
        let outcome = recording.finish(2 * load.requests)?;
        expect_both_ends(&outcome.spans, &ports)
    })
}

/// Links of the process that attach a program to many functions (`uprobe_multi`).
fn links_of_many_functions(pid: u32) -> Result<usize> {
    let mut links = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // Descriptors may be closed meanwhile.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        // Those of returns are of type `uretprobe_multi`.
        let types = text.lines().filter_map(|line| line.strip_prefix("link_type:"));
        links += types.filter(|link| ["uprobe_multi", "uretprobe_multi"].contains(&link.trim())).count();
    }
    Ok(links)
}

/// To how many functions of the process the agent has attached, and with how many links.
fn attached(log: &str, pid: u32) -> (usize, usize) {
    let start = format!("attached pid={pid} ");
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&start)).collect();
    let sum = |field: &str| {
        let values = lines.iter().flat_map(|line| line.split(' ').filter_map(|word| word.strip_prefix(field)));
        values.filter_map(|value| value.parse::<usize>().ok()).sum()
    };
    (sum("functions="), sum("links="))
}

/// Linux 6.6 has such links, and 6.10 filters them by process.
fn kernel_has_links_of_many_functions() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(10)))
}

#[test]
fn all_threads_of_a_process_are_observed_through_few_links() -> Result<()> {
    if !kernel_has_links_of_many_functions()? {
        record_skip("this kernel may attach to each function by itself");
        return Ok(());
    }
    World::story("tls_links", |world| {
        let certificate = Certificate::make(world)?;
        let server = NGINX.start(world, &certificate)?;
        // Its ten threads share the work, and none of them is the first thread.
        let load = TlsLoad { kind: "http", requests: 100, in_flight: 10, keep: true, warm: true };
        let mut client = load.client(world, &certificate, server.port)?;
        let client_pid = client.pid().to_string();
        let mut recording = Recording::start_selecting(world, &["-vv", "--pid", &client_pid])?;
        wait_for_library(&mut recording, client.pid())?;
        let agent = recording.agent().process();
        let (functions, links) = attached(&agent.log()?, client.pid());
        ensure!(links > 0 && 3 * links <= 2 * functions, "{links} links for {functions} functions");
        let held = links_of_many_functions(agent.pid())?;
        ensure!(held >= links, "{held} of {links} links have many functions");
        let ports = client.run()?;
        let outcome = recording.finish(load.requests)?;
        let verdict = judge(&outcome.spans, "client", &ports, number_in_path)?;
        ensure!(verdict.right == ports.len() && ports.len() == load.requests, "{verdict:?}");
        Ok(())
    })
}

#[test]
fn commands_of_redis_over_tls_are_traced_at_both_ends() -> Result<()> {
    World::story("tls_redis", |world| {
        let certificate = Certificate::make(world)?;
        let redis = Redis::start_with_tls(world, &certificate.dir())?;
        let load = TlsLoad { kind: "redis", requests: 100, in_flight: 10, keep: true, warm: true };
        let mut client = load.client(world, &certificate, redis.port())?;
        let recording = Recording::start(world)?;
        let ports = client.run()?;
        let outcome = recording.finish(2 * load.requests)?;
        expect_spans_per_connection(&outcome.spans, &ports)
    })
}

#[rstest]
#[case::new_connections(false)]
#[case::connections_from_before_the_agent(true)]
fn statements_after_an_upgrade_to_tls_are_traced(#[case] warm: bool) -> Result<()> {
    World::story("tls_postgres", |world| {
        let certificate = Certificate::make(world)?;
        let postgres = Postgres::start_with_tls(world, &certificate.dir())?;
        let load = TlsLoad { kind: "postgres", requests: 50, in_flight: 10, keep: true, warm };
        let mut client = load.client(world, &certificate, postgres.port())?;
        // The server forks for each connection. psycopg brings its own library, under another name.
        let recording = Recording::start_selecting(world, &["--pid", &client.pid().to_string()])?;
        let ports = client.run()?;
        let outcome = recording.finish(load.requests)?;
        for span in &outcome.spans {
            let port = span.get("network.local.port");
            ensure!(ports.values().any(|expected| port == expected.to_string()), "{span:?}");
            ensure!(span.get("db.system.name") == "postgresql", "{span:?}");
        }
        Ok(())
    })
}

#[rstest]
#[case::openssl("curl", &["--silent", "--noproxy", "*", "--cacert", "CERTIFICATE", "--config", "-"], "url = \"URL\"\n")]
#[case::gnutls("wget", &["--quiet", "--no-proxy", "--ca-certificate=CERTIFICATE", "-O", "-", "-i", "-"], "URL\n")]
fn requests_of_a_command_are_traced_at_both_ends(
    #[case] program: &str,
    #[case] arguments: &[&str],
    #[case] line: &str,
) -> Result<()> {
    World::story("tls_command", |world| {
        let certificate = Certificate::make(world)?;
        let server = NGINX.start(world, &certificate)?;
        let mut recording = Recording::start_with(world, &["--verbose"])?;
        let file = format!("{}/cert.pem", certificate.dir());
        let mut command = world.command(program);
        command.args(arguments.iter().map(|argument| argument.replace("CERTIFICATE", &file)));
        let mut child = world.spawn(&mut command)?;
        // It has loaded its library, and waits for its input.
        wait_for_library(&mut recording, child.id())?;
        let port = server.port;
        let input: String = (0..20).map(|n| line.replace("URL", &format!("https://localhost:{port}/r/{n}"))).collect();
        child.stdin.take().context("it has an input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let ports = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| {
                let (path, port) = line.split_once(' ')?;
                Some((path.rsplit('/').next()?.parse().ok()?, port.parse().ok()?))
            })
            .collect::<BTreeMap<u64, u16>>();
        ensure!(ports.len() == 20, "{output:?}");
        let outcome = recording.finish(40)?;
        expect_both_ends(&outcome.spans, &ports)
    })
}

#[rstest]
#[case::openssl("curl", &["--silent", "--noproxy", "*", "--cacert", "CERTIFICATE", "URL"])]
#[case::gnutls("wget", &["--quiet", "--no-proxy", "--ca-certificate=CERTIFICATE", "-O", "-", "URL"])]
fn the_only_request_of_a_short_command_is_traced(#[case] program: &str, #[case] arguments: &[&str]) -> Result<()> {
    const RUNS: usize = 5;
    World::story("tls_exec", |world| {
        let certificate = Certificate::make(world)?;
        let server = NGINX.start(world, &certificate)?;
        let (certificate, url) =
            (format!("{}/cert.pem", certificate.dir()), format!("https://localhost:{}/r/7", server.port));
        for run in 0..RUNS {
            let file = world.dir().join(format!("spans-{run}.jsonl"));
            let mut exec = world.command(agent_binary()?);
            exec.args(["exec", "--file"]).arg(&file).args(["--", program]);
            exec.args(
                arguments.iter().map(|argument| argument.replace("CERTIFICATE", &certificate).replace("URL", &url)),
            );
            let output = world.output_of(&mut exec)?;
            ensure!(output.status.success() && output.stdout.starts_with(b"/r/7 "), "{output:?}");
            let spans = spans::from_requests(&spans::read_lines(&file)?)?;
            let outcome = Outcome::check(spans, Summary::read(&String::from_utf8_lossy(&output.stderr)), &1.into())?;
            let [span] = outcome.spans.as_slice() else { bail!("run {run}: {:?}", outcome.spans) };
            ensure!(span.get("url.full") == url && !span.get("network.local.port").is_empty(), "{span:?}");
        }
        Ok(())
    })
}

/// Each program is attached to while it starts. One that is faster than that is counted.
#[test]
fn requests_of_programs_that_a_shell_starts_are_traced_or_counted() -> Result<()> {
    const RUNS: u64 = 20;
    World::story("tls_shell", |world| {
        let certificate = Certificate::make(world)?;
        let server = NGINX.start(world, &certificate)?;
        let curl = format!("curl -s --cacert {}/cert.pem https://localhost:{}/r/7", certificate.dir(), server.port);
        let file = world.dir().join("spans.jsonl");
        let mut exec = world.command(agent_binary()?);
        exec.args(["exec", "--file"]).arg(&file).args(["--", "sh", "-c"]);
        exec.arg(format!("for run in $(seq {RUNS}); do {curl}; done"));
        let output = world.output_of(&mut exec)?;
        ensure!(output.status.success(), "{output:?}");
        let traced = spans::from_requests(&spans::read_lines(&file)?)?.len() as u64;
        let summary = Summary::read(&String::from_utf8_lossy(&output.stderr));
        let [all, read, late] =
            ["connections_tls", "connections_tls_read", "connections_tls_read_late"].map(|name| summary.get(name));
        // A connection whose plaintext is read late may have been in time for its request.
        let is_counted = RUNS - traced <= late + (all - read);
        ensure!(all == RUNS && traced > 0 && is_counted, "{traced} are traced: {summary}");
        Ok(())
    })
}

/// All connections are older than the agent.
#[test]
fn a_request_with_tls_on_every_hop_is_one_trace() -> Result<()> {
    World::story("tls_chain", |world| {
        let certificate = Certificate::make(world)?;
        // With one thread, the second request uses the connections of the first.
        let shop = Shop::start_with_tls(world, Workers::Threads(1), &certificate)?;
        let mut client = SecureClient::connect(world, &shop.nginx.address())?;
        let answer = client.get("/products/9")?;
        let recording = Recording::start(world)?;
        for _ in 0..2 {
            ensure!(client.get("/products/7")? != answer);
        }
        let outcome = recording.finish(20)?;
        ensure!(outcome.summary.get("connections_tls_read") == 10, "{}", outcome.summary);
        outcome.expect_tree(
            &[],
            "
            openssl client GET /products/{id} -> 200
              nginx server GET /products/{id} -> 200 by host
                nginx client GET /products/{id} -> 200 by *
                  storefront server GET /products/{id} -> 200 by host
                    storefront client GET /stock/{id} -> 200 by thread
                      inventory server GET /stock/{id} -> 200 by host
                        inventory client GET by thread
                          redis-server server GET by host
                        inventory client SELECT products by thread
                          postgres server SELECT products by host
                        inventory client SET by thread
                          redis-server server SET by host
            openssl client GET /products/{id} -> 200
              nginx server GET /products/{id} -> 200 by host
                nginx client GET /products/{id} -> 200 by *
                  storefront server GET /products/{id} -> 200 by host
                    storefront client GET /stock/{id} -> 200 by thread
                      inventory server GET /stock/{id} -> 200 by host
                        inventory client GET by thread
                          redis-server server GET by host
            ",
        )?;
        Ok(())
    })
}

#[test]
fn with_no_tls_it_is_counted() -> Result<()> {
    World::story("tls_off", |world| {
        let certificate = Certificate::make(world)?;
        let server = NGINX.start(world, &certificate)?;
        let load = TlsLoad { kind: "http", requests: 10, in_flight: 1, keep: false, warm: false };
        let mut client = load.client(world, &certificate, server.port)?;
        let recording = Recording::start_with(world, &["--no-tls"])?;
        client.run()?;
        let outcome = recording.finish(0)?;
        let [all, read] = ["connections_tls", "connections_tls_read"].map(|name| outcome.summary.get(name));
        ensure!((all, read) == (20, 0), "{}", outcome.summary);
        Ok(())
    })
}
