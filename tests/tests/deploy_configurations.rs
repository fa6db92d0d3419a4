//! The configurations below deploy/collector and deploy/compose are complete: what they name exists.
//!
//! `cargo xtask gateway` runs them with a Collector that has all components.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rstest::rstest;
use saphyr::{LoadableYamlNode as _, YamlOwned};

/// The sections of a Collector's configuration, the names of components in them, and the modules that have the components.
const COMPONENTS: [(&str, &str, &str); 14] = [
    ("receivers", "otlp", "receiver/otlpreceiver"),
    ("processors", "batch", "processor/batchprocessor"),
    ("processors", "memory_limiter", "processor/memorylimiterprocessor"),
    ("processors", "tail_sampling", "processor/tailsamplingprocessor"),
    ("connectors", "span_metrics", "connector/spanmetricsconnector"),
    ("connectors", "service_graph", "connector/servicegraphconnector"),
    ("exporters", "debug", "exporter/debugexporter"),
    ("exporters", "file", "exporter/fileexporter"),
    ("exporters", "otlp_grpc", "exporter/otlpexporter"),
    ("exporters", "otlp_http", "exporter/otlphttpexporter"),
    ("exporters", "loadbalancing", "exporter/loadbalancingexporter"),
    ("exporters", "prometheus", "exporter/prometheusexporter"),
    ("exporters", "zipkin", "exporter/zipkinexporter"),
    ("extensions", "health_check", "extension/healthcheckextension"),
];

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> Result<YamlOwned> {
    let text = fs::read_to_string(workspace(path)).with_context(|| path.to_owned())?;
    let documents = YamlOwned::load_from_str(&text).with_context(|| path.to_owned())?;
    documents.into_iter().next().with_context(|| format!("{path} is empty"))
}

/// The keys of a map; none if it is missing.
fn keys(map: Option<&YamlOwned>) -> Vec<String> {
    let map = map.and_then(YamlOwned::as_mapping);
    map.into_iter().flatten().filter_map(|(key, _)| key.as_str().map(str::to_owned)).collect()
}

/// The texts of a list; none if it is missing.
fn texts(list: Option<&YamlOwned>) -> Vec<String> {
    let list = list.and_then(YamlOwned::as_vec);
    list.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn get<'yaml>(yaml: &'yaml YamlOwned, path: &[&str]) -> Option<&'yaml YamlOwned> {
    path.iter().try_fold(yaml, |yaml, key| yaml.as_mapping_get(key))
}

/// The modules of `cargo xtask gateway`'s Collector.
fn modules() -> Result<BTreeSet<String>> {
    let recipe = read("tests/collector/gateway.yaml")?;
    let mut modules = BTreeSet::new();
    for section in ["receivers", "processors", "connectors", "exporters", "extensions"] {
        for module in get(&recipe, &[section]).and_then(YamlOwned::as_vec).context("the recipe has all sections")? {
            let module = module.as_mapping_get("gomod").and_then(YamlOwned::as_str).context("gomod")?;
            // github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter v0.158.0
            let path = module.split(' ').next().unwrap_or_default();
            let parts: Vec<_> = path.rsplitn(3, '/').collect();
            modules.insert(format!("{}/{}", parts[1], parts[0]));
        }
    }
    Ok(modules)
}

#[rstest]
#[case::one_collector(&["deploy/collector/config.yaml"])]
#[case::balancer(&["deploy/collector/balancer.yaml"])]
#[case::gateway(&["deploy/collector/gateway.yaml"])]
#[case::tempo(&["deploy/collector/gateway.yaml", "deploy/collector/backends/tempo.yaml"])]
#[case::jaeger(&["deploy/collector/gateway.yaml", "deploy/collector/backends/jaeger.yaml"])]
#[case::zipkin(&["deploy/collector/gateway.yaml", "deploy/collector/backends/zipkin.yaml"])]
#[case::otlp(&["deploy/collector/gateway.yaml", "deploy/collector/backends/otlp.yaml"])]
#[case::compose(&["deploy/compose/collector.yaml"])]
fn a_collector_has_every_component_that_is_named(#[case] files: &[&str]) -> Result<()> {
    let modules = modules()?;
    let files: Vec<_> = files.iter().map(|file| read(file)).collect::<Result<_>>()?;
    // Later files are merged into the first.
    let defined =
        |section: &str| -> Vec<String> { files.iter().flat_map(|file| keys(get(file, &[section]))).collect() };
    for section in ["receivers", "processors", "connectors", "exporters", "extensions"] {
        for component in defined(section) {
            let kind = component.split('/').next().unwrap_or_default();
            let row = COMPONENTS.iter().find(|(of, name, _)| *of == section && *name == kind);
            let (_, _, module) = row.with_context(|| format!("{section} has no {kind}"))?;
            ensure!(modules.contains(*module), "tests/collector/gateway.yaml lacks {module}");
        }
    }
    let pipelines: BTreeSet<_> = files.iter().flat_map(|file| keys(get(file, &["service", "pipelines"]))).collect();
    ensure!(!pipelines.is_empty());
    for pipeline in &pipelines {
        for section in ["receivers", "processors", "exporters"] {
            // Lists are not merged: the last one replaces the others.
            let last = files.iter().rev().find_map(|file| get(file, &["service", "pipelines", pipeline, section]));
            for component in texts(last) {
                let is_defined = defined(section).contains(&component) || defined("connectors").contains(&component);
                ensure!(is_defined, "{pipeline}: {section}: {component} is not defined");
            }
        }
    }
    for extension in files.iter().flat_map(|file| texts(get(file, &["service", "extensions"]))) {
        ensure!(defined("extensions").contains(&extension), "{extension} is not defined");
    }
    Ok(())
}

#[test]
fn every_file_and_service_that_compose_names_exists() -> Result<()> {
    let compose = read("deploy/compose/compose.yaml")?;
    let services = keys(get(&compose, &["services"]));
    ensure!(services.contains(&"onlooker".to_owned()), "{services:?}");
    for service in &services {
        let setting = |name: &str| get(&compose, &["services", service, name]);
        let image = setting("image").and_then(YamlOwned::as_str).unwrap_or_default();
        ensure!(image.contains(':') && !image.contains("latest"), "{service} has no version: {image}");
        for needed in texts(setting("depends_on")) {
            ensure!(services.contains(&needed), "{service} depends on {needed}");
        }
        for volume in texts(setting("volumes")) {
            let source = volume.split(':').next().unwrap_or_default();
            if source.starts_with('.') {
                ensure!(workspace("deploy/compose").join(source).is_file(), "{service}: {source} is missing");
            } else if !source.starts_with('/') {
                ensure!(keys(get(&compose, &["volumes"])).iter().any(|volume| volume == source), "{service}: {source}");
            }
        }
    }
    // The names by which the other files reach services.
    let texts = ["collector.yaml", "prometheus.yaml", "grafana/datasources.yaml"].map(|file| {
        let path = format!("deploy/compose/{file}");
        read(&path).and_then(|_| Ok(fs::read_to_string(workspace(&path))?))
    });
    for text in texts {
        for host in hosts(&text?) {
            ensure!(services.contains(&host), "no service is called {host}");
        }
    }
    read("deploy/compose/tempo.yaml").map(drop)
}

/// The hosts of `http://HOST:PORT` and `HOST:PORT` in a text, without addresses.
fn hosts(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| letter.is_whitespace() || matches!(letter, '[' | ']' | ',' | '"'));
    let host = |word: &str| {
        let word = word.strip_prefix("http://").unwrap_or(word);
        let (host, rest) = word.split_once(':')?;
        let port = rest.split('/').next()?;
        let is_name = host.starts_with(|first: char| first.is_ascii_lowercase());
        (is_name && port.parse::<u16>().is_ok()).then(|| host.to_owned())
    };
    words.filter_map(host).collect()
}
