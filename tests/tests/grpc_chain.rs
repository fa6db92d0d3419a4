//! Chains of gRPC services: each request is one trace.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::http2_matrix::grpc_java;
use onlooker_tests::load::Load;
use onlooker_tests::servers::{App, AppOptions, Etcd, ProxyProgram};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Recording, World, record_skip};

const PATIENCE: Duration = Duration::from_secs(30);

/// A service of Go, with this name.
fn go(service: &str) -> AppOptions {
    App::go("grpc/rpc_caller").env("OTEL_SERVICE_NAME", service)
}

/// Sends requests one by one, until the agent knows the goroutines of the service. Returns how many.
fn warm_up(load: &Load, recording: &Recording, service: &str) -> Result<usize> {
    let mut requests = 0;
    wait::until(within(PATIENCE), "goroutines to be known", || {
        let first = 1_000_000 + u64::try_from(requests)?;
        requests += load.run(first..first + 20)?.answered.len();
        let is_found = |span: &Span| span.service == service && span.get("onlooker.parent.evidence") == "goroutine";
        Ok(recording.spans()?.iter().any(is_found).then_some(()))
    })?;
    Ok(requests)
}

/// Fails unless each of these requests is one trace, and all traces are this tree.
fn expect_trees(spans: Vec<Span>, numbers: std::ops::Range<u64>, tree: &str) -> Result<()> {
    let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in spans {
        traces.entry(span.trace_id.clone()).or_default().push(span);
    }
    for number in numbers {
        let path = format!("/r/{number}");
        let mut found = traces.values().filter(|trace| trace.iter().any(|span| span.get("url.path") == path));
        let trace = found.next().with_context(|| format!("{path} has no trace"))?;
        ensure!(found.next().is_none(), "{path} has several traces");
        // Calls have the number in their names.
        let general = trace.iter().cloned().map(|mut span| {
            span.name = span.name.replace(&format!("/{number}"), "/N");
            span
        });
        spans::expect_tree(&general.collect::<Vec<_>>(), &[], tree)?;
    }
    Ok(())
}

#[test]
fn a_request_through_services_in_four_languages_is_one_trace() -> Result<()> {
    let java = grpc_java("GrpcServer").env("OTEL_SERVICE_NAME", "java");
    if let Some(reason) = java.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("grpc-languages", |world| {
        // Connections from before it started would make likely parents doubtful for a while.
        let recording = Recording::start(world)?;
        let java = java.start(world)?;
        let node = App::node("rpc_relay").env("BACKEND_URL", java.url("")).env("OTEL_SERVICE_NAME", "node");
        let node = node.start(world)?;
        let python = App::python("rpc_relay").with_http2().env("BACKEND", node.address());
        let python = python.env("OTEL_SERVICE_NAME", "python").start(world)?;
        let front = go("front").env("FRONT", "1").env("BACKEND", python.address()).start(world)?;
        let load = Load::on(&front.address(), "/r");
        let numbers = 100..120;
        let requests = warm_up(&load, &recording, "front")? + load.run(numbers.clone())?.answered.len();
        let outcome = recording.finish(requests * (1 + 2 * 6))?;
        expect_trees(
            outcome.spans,
            numbers,
            "
            front server GET /r/{id} -> 200
              front client calls.A/N by goroutine
                python server calls.A/N by host
                  python client calls.A.P/N by *
                    node server calls.A.P/N by host
                      node client calls.A.P.N/N by *
                        java server calls.A.P.N/N by host
              front client calls.B/N by goroutine
                python server calls.B/N by host
                  python client calls.B.P/N by *
                    node server calls.B.P/N by host
                      node client calls.B.P.N/N by *
                        java server calls.B.P.N/N by host
            ",
        )
    })
}

#[test]
fn requests_through_envoy_to_grpc_are_one_trace_each() -> Result<()> {
    if let Some(reason) = ProxyProgram::EnvoyHttp2.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("grpc-envoy", |world| {
        let back = go("back").start(world)?;
        let envoy = ProxyProgram::EnvoyHttp2.start(world, &back.address())?;
        let front = go("front").env("FRONT", "1").env("BACKEND", envoy.address()).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&front.address(), "/r");
        let mut requests = warm_up(&load, &recording, "front")?;
        // Goroutines with ids from before the agent looked inherit nothing: use them up.
        requests += load.clone().in_flight(20).run(2_000_000..2_000_200)?.answered.len();
        let numbers = 1000..1200;
        requests += load.in_flight(10).run(numbers.clone())?.answered.len();
        let outcome = recording.finish(requests * (1 + 2 * 4))?;
        expect_trees(
            outcome.spans,
            numbers,
            "
            front server GET /r/{id} -> 200
              front client calls.A/N by goroutine
                envoy server calls.A/N by host
                  envoy client calls.A/N by forwarded
                    back server calls.A/N by host
              front client calls.B/N by goroutine
                envoy server calls.B/N by host
                  envoy client calls.B/N by forwarded
                    back server calls.B/N by host
            ",
        )
    })
}

#[test]
fn each_command_of_etcdctl_is_one_trace() -> Result<()> {
    if let Some(reason) = Etcd::skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("etcd", |world| {
        let etcd = Etcd::start(world)?;
        let recording = Recording::start(world)?;
        let missing: &[&str] = &["lease", "revoke", "7"];
        let commands: [&[&str]; 4] =
            [&["put", "color", "s3cret"], &["get", "color"], &["lease", "grant", "60"], missing];
        for arguments in commands {
            let mut command = etcd.etcdctl(world, arguments);
            // etcdctl fails because the lease does not exist.
            let result = world.run(&mut command);
            ensure!(result.is_err() == (arguments == missing), "{arguments:?}: {result:?}");
        }
        let outcome = recording.finish(2 * commands.len())?;
        ensure!(!format!("{:?}", outcome.spans).contains("s3cret"), "a value was exported");
        outcome.expect_tree(
            &["onlooker.rpc.response.messages"],
            "
            etcdctl client etcdserverpb.KV/Put onlooker.rpc.response.messages=1
              etcd server etcdserverpb.KV/Put by host onlooker.rpc.response.messages=1
            etcdctl client etcdserverpb.KV/Range onlooker.rpc.response.messages=1
              etcd server etcdserverpb.KV/Range by host onlooker.rpc.response.messages=1
            etcdctl client etcdserverpb.Lease/LeaseGrant onlooker.rpc.response.messages=1
              etcd server etcdserverpb.Lease/LeaseGrant by host onlooker.rpc.response.messages=1
            etcdctl client etcdserverpb.Lease/LeaseRevoke error=NOT_FOUND onlooker.rpc.response.messages=0
              etcd server etcdserverpb.Lease/LeaseRevoke by host onlooker.rpc.response.messages=0
            ",
        )?;
        Ok(())
    })
}
