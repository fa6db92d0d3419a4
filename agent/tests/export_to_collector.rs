//! The exporters with a real OpenTelemetry Collector.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod sample;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_tests::servers::Collector;
use onlooker_tests::wait::{until, within};
use onlooker_tests::{Port, World, machine, record_skip};
use rstest::rstest;
use sample::{PATIENCE, counted, discarded, send, start};
use serde_json::Value;

/// Runs a story that needs a collector, or records why it cannot run here.
fn with_collector(name: &str, story: impl FnOnce(&World) -> Result<()>) -> Result<()> {
    if let Some(reason) = Collector::skip_reason()? {
        record_skip(&reason);
        return Ok(());
    }
    if let Err(error) = World::create() {
        record_skip(&format!("{error:#}"));
        return Ok(());
    }
    World::story(name, story)
}

/// The ids of the spans that arrived, each with its service.
fn arrived(requests: &[Value]) -> BTreeSet<(u64, String)> {
    let mut all = BTreeSet::new();
    for request in requests {
        for resource in request["resourceSpans"].as_array().into_iter().flatten() {
            let service = &resource["resource"]["attributes"][0]["value"]["stringValue"];
            for span in resource["scopeSpans"][0]["spans"].as_array().into_iter().flatten() {
                let id = u64::from_str_radix(span["spanId"].as_str().unwrap(), 16).unwrap();
                assert!(all.insert((id, service.as_str().unwrap().to_owned())), "span {id} arrived twice");
            }
        }
    }
    all
}

fn expected(first: u64, count: u64) -> BTreeSet<(u64, String)> {
    (first..first + count).map(|id| (id, if id % 2 == 0 { "stock" } else { "shop" }.to_owned())).collect()
}

/// Waits for all spans: the collector writes its file a moment after its answer.
fn all_arrive(collector: &Collector, first: u64, count: u64) -> Result<()> {
    let expected = expected(first, count);
    until(within(PATIENCE), "spans at the collector", || {
        let arrived = arrived(&collector.received()?);
        Ok((arrived.len() >= expected.len()).then_some(arrived))
    })
    .map(|arrived| assert_eq!(arrived, expected))
}

#[rstest]
fn every_span_arrives(
    #[values("grpc", "http/protobuf", "http/json")] protocol: &str,
    #[values("none", "gzip")] compression: &str,
) -> Result<()> {
    const COUNT: u64 = 5000;
    with_collector("every span arrives", |world| {
        let collector = Collector::start(world)?;
        let endpoint = if protocol == "grpc" { collector.grpc_endpoint() } else { collector.http_endpoint() };
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
        ];
        let (exporting, counters) = start(&variables, discarded());
        for round in 0..COUNT / 100 {
            send(&exporting, 1 + round * 100, 100);
        }
        exporting.shutdown(PATIENCE);
        assert_eq!(counted(&counters), [COUNT, 0, 0, 0]);
        all_arrive(&collector, 1, COUNT)
    })
}

#[rstest]
fn a_collector_that_comes_back_gets_the_waiting_spans(#[values("grpc", "http/protobuf")] protocol: &str) -> Result<()> {
    with_collector("a collector that comes back", |world| {
        let (grpc, http) = (Port::claim()?, Port::claim()?);
        let endpoint = format!("http://{}", if protocol == "grpc" { &grpc } else { &http }.address());
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let (exporting, counters) = start(&variables, discarded());
        let retried_after = |before: u64| {
            until(within(PATIENCE), "second attempt", || Ok((counters.export_retries.get() > before).then_some(())))
        };

        send(&exporting, 1, 100);
        retried_after(0)?;
        let collector = Collector::start_on(world, grpc, http)?;
        all_arrive(&collector, 1, 100)?;

        let (grpc, http) = collector.stop();
        let retries = counters.export_retries.get();
        send(&exporting, 101, 100);
        retried_after(retries)?;
        let collector = Collector::start_on(world, grpc, http)?;
        all_arrive(&collector, 1, 200)?;
        exporting.shutdown(PATIENCE);
        assert_eq!(counted(&counters), [200, 0, 0, 0]);
        Ok(())
    })
}

/// Makes a CA, and certificates of it for a server on loopback and for a client.
fn make_certificates(world: &World) -> Result<()> {
    let run = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).current_dir(world.dir()).output().context("cannot run openssl")?;
        if !output.status.success() {
            bail!("openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    fs::write(
        world.dir().join("openssl.cnf"),
        "[req]\ndistinguished_name = name\n[name]\n[ca]\nbasicConstraints = critical,CA:TRUE\n\
         [leaf]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = IP:127.0.0.1\n",
    )?;
    let new = [
        "req",
        "-x509",
        "-config",
        "openssl.cnf",
        "-days",
        "2",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ];
    let make = |name: &str, section: &str, issuer: &[&str]| {
        let (key, certificate, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        let own = ["-extensions", section, "-subj", &subject, "-keyout", &key, "-out", &certificate];
        run(&[&new[..], &own[..], issuer].concat())
    };
    make("ca", "ca", &[])?;
    make("stranger", "ca", &[])?;
    make("server", "leaf", &["-CA", "ca.pem", "-CAkey", "ca.key"])?;
    make("client", "leaf", &["-CA", "ca.pem", "-CAkey", "ca.key"])
}

#[rstest]
fn both_sides_present_their_certificates(#[values("grpc", "http/protobuf")] protocol: &str) -> Result<()> {
    if machine::find_program("openssl").is_none() {
        record_skip("openssl is not installed");
        return Ok(());
    }
    with_collector("both sides present their certificates", |world| {
        make_certificates(world)?;
        let pki = world.dir();
        let collector = Collector::start_with_mutual_tls(world, pki)?;
        let endpoint = if protocol == "grpc" { collector.grpc_endpoint() } else { collector.http_endpoint() };
        let file = |name: &str| pki.join(name).to_string_lossy().into_owned();
        let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
        let anonymous = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str()),
        ];
        let known = [
            &anonymous[..],
            &[
                ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.as_str()),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
            ],
        ]
        .concat();

        let (exporting, counters) = start(&known, discarded());
        send(&exporting, 1, 10);
        exporting.shutdown(PATIENCE);
        assert_eq!(counted(&counters), [10, 0, 0, 0]);
        all_arrive(&collector, 1, 10)?;

        // The collector answers. Without a certificate, or with trust in another CA, no span is accepted.
        let stranger = file("stranger.pem");
        let mut mistrusting = known.clone();
        mistrusting[2].1 = &stranger;
        for variables in [anonymous.to_vec(), mistrusting] {
            let (exporting, counters) = start(&variables, discarded());
            send(&exporting, 1, 10);
            until(within(PATIENCE), "refusal", || Ok((counters.export_retries.get() > 0).then_some(())))?;
            exporting.shutdown(std::time::Duration::ZERO);
            assert_eq!(counted(&counters), [0, 0, 10, 0]);
        }
        Ok(())
    })
}
