//! Every key has a case here, and so has every kind of mistake.

use std::collections::BTreeSet;
use std::time::Duration;

use opentelemetry::KeyValue;
use rstest::rstest;

use super::*;
use crate::discover::select::RuleOptions;
use crate::export::{self, Otlp, Protocol};
use crate::kubernetes::Mode;

fn command_line(given: &[(&str, &str)]) -> CommandLine {
    let given = given.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect();
    CommandLine { tracing: Tracing::default(), given }
}

fn read_with(text: &str, command_line: CommandLine) -> Result<Configuration, Unusable> {
    let variable = |name: &str| (name == "COLLECTOR").then(|| "http://collector:4318/v1/traces".to_owned());
    Configuration::of_text(Path::new("shop.yaml"), text, command_line, &variable)
}

fn read(text: &str) -> Configuration {
    read_with(text, command_line(&[])).unwrap_or_else(|unusable| panic!("{:#?}\n{text}", unusable.sentences))
}

/// What is wrong with a file: each problem's sentence.
fn problems(text: &str) -> Vec<String> {
    read_with(text, command_line(&[])).err().map(|unusable| unusable.sentences).unwrap_or_default()
}

fn export_of(settings: &Settings) -> export::Config {
    export::Config::read(&settings.tracing.choices(), &|name| settings.variable(name)).unwrap()
}

/// A document with `value` at a key. Lists get one item.
fn document(path: &str, value: &str) -> String {
    let mut text = "file_format: \"1.1\"\n".to_owned();
    let (mut indent, mut is_item) = (0, false);
    let parts: Vec<_> = path.split('.').collect();
    for (index, part) in parts.iter().enumerate() {
        let name = part.trim_end_matches("[]");
        let lead = if is_item { format!("{}- ", " ".repeat(indent - 2)) } else { " ".repeat(indent) };
        let is_last = index + 1 == parts.len();
        is_item = part.ends_with("[]");
        let value = match (is_last, is_item) {
            (true, true) => format!(" [{value}]"),
            (true, false) => format!(" {value}"),
            (false, _) => String::new(),
        };
        text += &format!("{lead}{name}:{value}\n");
        indent += if is_item { 4 } else { 2 };
    }
    text
}

/// A key, a value for it, and whether it is in effect.
struct Case(&'static str, &'static str, fn(&Settings, &export::Config) -> bool);

fn otlp(config: &export::Config) -> Option<&Otlp> {
    config.otlp.as_ref()
}

fn has_header(config: &export::Config, name: &str) -> bool {
    otlp(config).is_some_and(|otlp| otlp.headers.has(name))
}

fn rule(settings: &Settings) -> Option<&RuleOptions> {
    settings.rules.first()
}

fn propagators(settings: &Settings) -> String {
    settings.variable("OTEL_PROPAGATORS").unwrap_or_default().into_string().unwrap()
}

macro_rules! of_both_transports {
    ($(($rest:literal, $value:literal, $check:expr),)+) => {
        &[$(
            Case(concat!("tracer_provider.processors[].batch.exporter.otlp_http.", $rest), $value, $check),
            Case(concat!("tracer_provider.processors[].batch.exporter.otlp_grpc.", $rest), $value, $check),
        )+]
    };
}

const OF_BOTH: &[Case] = of_both_transports![
    ("headers[]", "{name: authorization, value: Bearer s3cret}", |_, c| has_header(c, "authorization")),
    ("headers_list", "x-tenant=a%20b", |_, c| has_header(c, "x-tenant")),
    ("timeout", "1500", |_, c| otlp(c).is_some_and(|otlp| otlp.timeout == Duration::from_millis(1500))),
    ("compression", "gzip", |_, c| otlp(c).is_some_and(|otlp| otlp.gzip)),
    ("tls.ca_file", "/ca.pem", |_, c| otlp(c).is_some_and(|otlp| otlp.tls.ca == Some("/ca.pem".into()))),
    ("tls.cert_file", "/me.pem\nKEY_FILE", |_, c| otlp(c).is_some_and(|otlp| otlp.tls.client.is_some())),
    ("tls.key_file", "/me.key\nCERT_FILE", |_, c| otlp(c).is_some_and(|otlp| otlp.tls.client.is_some())),
];

const CASES: &[Case] = &[
    Case("log_level", "debug3", |s, _| s.log_level == Some("debug")),
    Case("resource.attributes[]", "{name: shop.size, value: 7, type: int}", |s, _| {
        s.resource().attributes == [KeyValue::new("shop.size", 7)]
    }),
    Case("resource.attributes_list", "team=shop", |s, _| s.resource().list == "team=shop"),
    // The console is the default, so the list counts.
    Case("tracer_provider.processors[].batch.exporter.console", "", |s, c| {
        c.console && s.variable("OTEL_TRACES_EXPORTER").is_some_and(|list| list == "console")
    }),
    Case("tracer_provider.processors[].batch.exporter.otlp_http", "", |_, c| {
        otlp(c).is_some_and(|otlp| {
            otlp.protocol == Protocol::HttpProtobuf && otlp.endpoint == "http://localhost:4318/v1/traces"
        })
    }),
    Case("tracer_provider.processors[].batch.exporter.otlp_http.endpoint", "http://c:1/x", |_, c| {
        otlp(c).is_some_and(|otlp| otlp.endpoint == "http://c:1/x")
    }),
    Case("tracer_provider.processors[].batch.exporter.otlp_http.encoding", "json", |_, c| {
        otlp(c).is_some_and(|otlp| otlp.protocol == Protocol::HttpJson)
    }),
    Case("tracer_provider.processors[].batch.exporter.otlp_grpc", "{}", |_, c| {
        otlp(c).is_some_and(|otlp| otlp.protocol == Protocol::Grpc && otlp.endpoint == "http://localhost:4317/")
    }),
    Case("tracer_provider.processors[].batch.exporter.otlp_grpc.endpoint", "c:4317", |_, c| {
        otlp(c).is_some_and(|otlp| otlp.endpoint == "https://c:4317/")
    }),
    Case("tracer_provider.processors[].batch.exporter.otlp_grpc.tls.insecure", "true\nENDPOINT", |_, c| {
        otlp(c).is_some_and(|otlp| otlp.endpoint == "http://c:4317/")
    }),
    Case(
        "tracer_provider.processors[].batch.exporter.otlp_file/development.output_stream",
        "file:///var/s.jsonl",
        |_, c| c.file == Some("/var/s.jsonl".into()) && !c.console,
    ),
    Case("extensions.onlooker.selection[].action", "exclude\nALL", |s, _| rule(s).is_some_and(|rule| rule.excludes)),
    Case("extensions.onlooker.selection[].all", "true", |s, _| rule(s).is_some_and(|rule| rule.all)),
    Case("extensions.onlooker.selection[].executable", "['*/nginx', api]", |s, _| {
        rule(s).is_some_and(|rule| rule.executables == ["*/nginx", "api"])
    }),
    Case("extensions.onlooker.selection[].arguments", "'*shop.wsgi*'", |s, _| {
        rule(s).is_some_and(|rule| rule.arguments == ["*shop.wsgi*"])
    }),
    Case("extensions.onlooker.selection[].port", "[80, 8000-8099]", |s, _| {
        rule(s).is_some_and(|rule| rule.ports.len() == 2 && rule.ports[1].contains(8099))
    }),
    Case("extensions.onlooker.selection[].pid", "4711", |s, _| rule(s).is_some_and(|rule| rule.pids == [4711])),
    Case("extensions.onlooker.selection[].cgroup", "/system.slice/*", |s, _| {
        rule(s).is_some_and(|rule| rule.cgroups == ["/system.slice/*"])
    }),
    Case("extensions.onlooker.selection[].user", "[www-data, 33]", |s, _| {
        rule(s).is_some_and(|rule| rule.users == ["www-data", "33"])
    }),
    Case("extensions.onlooker.selection[].container", "'4ac0*'", |s, _| {
        rule(s).is_some_and(|rule| rule.containers == ["4ac0*"])
    }),
    Case("extensions.onlooker.selection[].kubernetes.namespace", "[shop, 'team-*']", |s, _| {
        rule(s).is_some_and(|rule| rule.pod.namespaces == ["shop", "team-*"])
    }),
    Case("extensions.onlooker.selection[].kubernetes.pod", "'shop-*'", |s, _| {
        rule(s).is_some_and(|rule| rule.pod.pods == ["shop-*"])
    }),
    Case("extensions.onlooker.selection[].kubernetes.owner", "Deployment/shop", |s, _| {
        rule(s).is_some_and(|rule| rule.pod.owners == ["Deployment/shop"])
    }),
    Case("extensions.onlooker.selection[].kubernetes.label", "[app=shop, tier]", |s, _| {
        rule(s).is_some_and(|rule| rule.pod.labels == ["app=shop", "tier"])
    }),
    Case("extensions.onlooker.selection[].kubernetes.annotation", "trace=yes", |s, _| {
        rule(s).is_some_and(|rule| rule.pod.annotations == ["trace=yes"])
    }),
    Case("extensions.onlooker.selection[].kubernetes.container", "api", |s, _| {
        rule(s).is_some_and(|rule| rule.pod.containers == ["api"])
    }),
    Case("extensions.onlooker.selection[].language", "[java, nodejs]", |s, _| {
        rule(s).is_some_and(|rule| rule.languages == ["java", "nodejs"])
    }),
    Case("extensions.onlooker.selection[].service.name", "shop\nALL", |s, _| {
        rule(s).is_some_and(|rule| rule.treatment.service_name.as_deref() == Some("shop"))
    }),
    Case("extensions.onlooker.selection[].service.namespace", "eu\nALL", |s, _| {
        rule(s).is_some_and(|rule| rule.treatment.service_namespace.as_deref() == Some("eu"))
    }),
    Case("extensions.onlooker.selection[].protocols", "[http1, redis]\nALL", |s, _| {
        rule(s).is_some_and(|rule| rule.treatment.protocols.as_ref().is_some_and(|names| names.len() == 2))
    }),
    Case("extensions.onlooker.selection[].routes.patterns", "/users/{id}\nALL", |s, _| {
        rule(s).is_some_and(|rule| rule.treatment.routes == Some(vec!["/users/{id}".to_owned()]))
    }),
    Case("extensions.onlooker.selection[].routes.ignore", "['/healthz', '/actuator/**']\nALL", |s, _| {
        rule(s).is_some_and(|rule| rule.treatment.ignored.as_ref().is_some_and(|paths| paths.len() == 2))
    }),
    Case("extensions.onlooker.selection[].propagation.inject", "true\nALL", |s, _| {
        rule(s).is_some_and(|rule| rule.treatment.inject == Some(true)) && s.injects()
    }),
    Case("extensions.onlooker.protocols", "http2", |s, _| s.general.protocols == Some(vec!["http2".to_owned()])),
    Case("extensions.onlooker.routes.patterns", "/a/:b", |s, _| s.general.routes == Some(vec!["/a/:b".to_owned()])),
    Case("extensions.onlooker.routes.ignore", "/healthz", |s, _| {
        s.general.ignored == Some(vec!["/healthz".to_owned()])
    }),
    Case("extensions.onlooker.file.max_bytes", "4096", |s, _| s.tracing.file_max_bytes == Some(4096)),
    Case("extensions.onlooker.capture.tls", "false", |s, _| !s.tracing.tls),
    Case("extensions.onlooker.capture.java", "true", |s, _| s.tracing.java),
    Case("extensions.onlooker.capture.run_bytes", "65536", |s, _| s.tracing.run_capture == 65536),
    Case("extensions.onlooker.capture.request_bytes", "256", |s, _| s.tracing.request_capture == 256),
    Case("extensions.onlooker.capture.response_bytes", "0x200", |s, _| s.tracing.response_capture == 512),
    Case("extensions.onlooker.limits.ring_bytes", "4096", |s, _| s.tracing.ring_bytes == 4096),
    Case("extensions.onlooker.limits.request_age", "60", |s, _| s.tracing.request_age == 60),
    Case("extensions.onlooker.limits.max_connections", "7", |s, _| s.tracing.max_connections == 7),
    Case("propagator.composite[].tracecontext", "", |s, _| propagators(s) == "tracecontext,"),
    Case("propagator.composite[].b3", "", |s, _| propagators(s) == "b3,"),
    Case("propagator.composite[].b3multi", "", |s, _| propagators(s) == "b3multi,"),
    Case("propagator.composite[].jaeger", "", |s, _| propagators(s) == "jaeger,"),
    Case("propagator.composite[].ottrace", "", |s, _| propagators(s) == "ottrace,"),
    Case("propagator.composite[].xray", "", |s, _| propagators(s) == "xray,"),
    Case("propagator.composite[].baggage", "", |s, _| propagators(s) == "baggage,"),
    Case("propagator.composite_list", "'b3,none'", |s, _| propagators(s) == "b3,none"),
    Case("extensions.onlooker.propagation.inject", "true", |s, _| s.tracing.inject),
    Case("extensions.onlooker.propagation.allow", "[10.0.0.0/8, shop.test]", |s, _| s.tracing.inject_allow.len() == 2),
    Case("extensions.onlooker.propagation.deny", "':9090'", |s, _| s.tracing.inject_deny == [":9090"]),
    Case("extensions.onlooker.kubernetes.mode", "on", |s, _| s.tracing.kubernetes == Mode::On),
    Case("extensions.onlooker.kubernetes.node", "node-1", |s, _| {
        s.tracing.kubernetes_node.as_deref() == Some("node-1")
    }),
    Case("extensions.onlooker.health.address", "'13133'", |s, _| s.tracing.health.is_some()),
    Case("extensions.onlooker.kernel_log", "true", |s, _| s.tracing.kernel_log),
];

/// Keys of a processor, beside an exporter.
const OF_PROCESSORS: &[Case] = &[
    Case("schedule_delay", "7", |_, c| c.schedule.delay == Duration::from_millis(7)),
    Case("export_timeout", "7000", |_, c| c.schedule.export_timeout == Duration::from_secs(7)),
    Case("max_queue_size", "4096", |_, c| c.schedule.max_queue_size == 4096),
    Case("max_export_batch_size", "7", |_, c| c.schedule.max_batch_size == 7),
];

/// Keys without a case: those that every case has, or that only hold others.
const IN_EVERY_CASE: [&str; 7] = [
    "extensions.onlooker.selection",
    "extensions.onlooker.selection[]",
    "file_format",
    "tracer_provider",
    "tracer_provider.processors",
    "tracer_provider.processors[].batch.exporter",
    "tracer_provider.processors[].batch.exporter.otlp_file/development",
];

fn text_of(case: &Case) -> String {
    let text = document(case.0, case.1);
    let beside = |key: &str, value: &str| {
        let line = text.lines().rfind(|line| !["KEY_FILE", "CERT_FILE", "ENDPOINT", "ALL"].contains(line)).unwrap();
        let indent = line.len() - line.trim_start().len();
        format!("{}{key}: {value}", " ".repeat(indent))
    };
    let endpoint = beside("endpoint", "c:4317").replacen("  ", "", 1);
    text.replace("KEY_FILE", &beside("key_file", "/me.key"))
        .replace("CERT_FILE", &beside("cert_file", "/me.pem"))
        .replace("ENDPOINT", &endpoint)
        // In the rule, whose keys begin in the eighth column.
        .replace("ALL", "        all: true")
}

#[test]
fn every_key_has_an_effect() {
    let mut tested: BTreeSet<String> = IN_EVERY_CASE.iter().map(|path| (*path).to_owned()).collect();
    let nothing = read("file_format: \"1.0\"\n").settings;
    let defaults = export_of(&nothing);
    let mut check = |path: String, text: &str, is_in_effect: fn(&Settings, &export::Config) -> bool| {
        let settings = read(text).settings;
        assert!(is_in_effect(&settings, &export_of(&settings)), "{path} has no effect:\n{text}");
        assert!(!is_in_effect(&nothing, &defaults), "{path} is in effect by default");
        tested.insert(path);
    };
    for case in CASES.iter().chain(OF_BOTH) {
        check(case.0.to_owned(), &text_of(case), case.2);
    }
    for Case(name, value, is_in_effect) in OF_PROCESSORS {
        let path = format!("tracer_provider.processors[].batch.{name}");
        let text = document("tracer_provider.processors[].batch.exporter.console", "");
        let at = text.find("exporter:").unwrap();
        check(path, &format!("{}{name}: {value}\n        {}", &text[..at], &text[at..]), *is_in_effect);
    }
    let untested: Vec<_> = KEYS.iter().filter(|key| !tested.contains(key.path)).map(|key| key.path).collect();
    assert!(untested.is_empty(), "keys without a case: {untested:?}");
}

#[test]
fn the_defaults_are_those_of_the_table() {
    let configuration = read("file_format: \"1.0\"\n");
    let Settings { tracing, .. } = &configuration.settings;
    let schedule = export_of(&configuration.settings).schedule;
    let actual = [
        ("schedule_delay", schedule.delay.as_millis().to_string()),
        ("export_timeout", schedule.export_timeout.as_millis().to_string()),
        ("max_queue_size", schedule.max_queue_size.to_string()),
        ("max_export_batch_size", schedule.max_batch_size.to_string()),
        ("tls", tracing.tls.to_string()),
        ("java", tracing.java.to_string()),
        ("run_bytes", tracing.run_capture.to_string()),
        ("request_bytes", tracing.request_capture.to_string()),
        ("response_bytes", tracing.response_capture.to_string()),
        ("ring_bytes", tracing.ring_bytes.to_string()),
        ("request_age", tracing.request_age.to_string()),
        ("max_connections", tracing.max_connections.to_string()),
        ("inject", tracing.inject.to_string()),
        ("kernel_log", tracing.kernel_log.to_string()),
    ];
    for (name, value) in actual {
        // A rule may have a key of the same name, and no default.
        let is_it = |key: &&Key| key.name() == name && matches!(key.kind, Kind::Bool | Kind::Number { .. });
        let key = KEYS.iter().filter(is_it).find(|key| !key.path.contains("selection")).unwrap();
        assert_eq!(key.default, value, "{name}");
    }
}

const PROVIDER: &str = "file_format: \"1.0\"\ntracer_provider:\n  processors:\n";

/// The beginning of each file is left out where it is [`PROVIDER`]. Every file gives exactly one sentence.
#[rstest]
#[case::empty("", "1: the file is empty")]
#[case::no_map("- a\n", "1: the file must be a map of keys, not a list")]
#[case::scalar("hello\n", "1: the file must be a map of keys, not a value")]
#[case::no_format("log_level: info\n", "1: the key \"file_format\" is missing")]
#[case::format_misspelt(
    "file_fromat: \"1.0\"\nfile_format: \"1.0\"\n",
    "1: unknown key \"file_fromat\"; did you mean \"file_format\"?"
)]
#[case::old_format("file_format: \"0.4\"\n", "1: file_format must be 1.0 or 1.1, not \"0.4\"")]
#[case::new_format("file_format: \"2.0\"\n", "1: file_format must be 1.0 or 1.1, not \"2.0\"")]
#[case::format_is_a_list("file_format: [1.0]\n", "1: file_format must be 1.0 or 1.1, not a list")]
#[case::level(
    "file_format: \"1.0\"\nlog_level: warning\n",
    "2: log_level must be trace, trace2, trace3, trace4, debug, debug2, debug3, debug4, info, info2, info3, info4, warn, warn2, warn3, warn4, error, error2, error3, error4, fatal, fatal2, fatal3 or fatal4, not \"warning\"; did you mean \"warn\"?"
)]
#[case::top_level(
    "file_format: \"1.0\"\ntracer_providers:\n  processors: []\n",
    "2: unknown key \"tracer_providers\"; did you mean \"tracer_provider\"?"
)]
#[case::propagator(
    "file_format: \"1.0\"\npropagator:\n  composite: [{b33: }]\n",
    "3: unknown key \"b33\" in propagator.composite[0]; did you mean \"b3\"?"
)]
#[case::propagators(
    "file_format: \"1.0\"\npropagator:\n  composite_list: w3c\n",
    "3: propagator.composite_list has the unknown name \"w3c\": it must be tracecontext, b3, b3multi, jaeger, ottrace, xray, baggage or none"
)]
#[case::extension_misspelt(
    "file_format: \"1.0\"\nextensions:\n  onloker: {}\n",
    "3: unknown key \"onloker\" in extensions; did you mean \"onlooker\"?"
)]
#[case::our_section(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    limit: {}\n",
    "4: unknown key \"limit\" in extensions.onlooker; did you mean \"limits\"?"
)]
#[case::our_key(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    limits:\n      max_connection: 7\n",
    "5: unknown key \"max_connection\" in extensions.onlooker.limits; did you mean \"max_connections\"?"
)]
#[case::nothing_like_it(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    limits: {zzz: 7}\n",
    "4: unknown key \"zzz\" in extensions.onlooker.limits; known are max_connections, request_age, ring_bytes"
)]
#[case::text_for_number(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    limits:\n      request_age: 5m\n",
    "5: extensions.onlooker.limits.request_age must be a whole number of at least 1, not \"5m\""
)]
#[case::quoted_number(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    limits:\n      request_age: \"5\"\n",
    "5: extensions.onlooker.limits.request_age must be a whole number of at least 1, not \"5\""
)]
#[case::fraction(
    "file_format: \"1.0\"\nextensions: {onlooker: {limits: {request_age: 1.5}}}\n",
    "2: extensions.onlooker.limits.request_age must be a whole number of at least 1, not 1.5"
)]
#[case::negative(
    "file_format: \"1.0\"\nextensions: {onlooker: {limits: {max_connections: -1}}}\n",
    "2: extensions.onlooker.limits.max_connections must be a whole number from 1 to 4294967295, not -1"
)]
#[case::zero(
    "file_format: \"1.0\"\nextensions: {onlooker: {file: {max_bytes: 0}}}\n",
    "2: extensions.onlooker.file.max_bytes must be a whole number of at least 1, not 0"
)]
#[case::too_large(
    "file_format: \"1.0\"\nextensions: {onlooker: {capture: {request_bytes: 65537}}}\n",
    "2: extensions.onlooker.capture.request_bytes must be a whole number from 256 to 65536, not 65537"
)]
#[case::too_small(
    "file_format: \"1.0\"\nextensions: {onlooker: {capture: {run_bytes: 100}}}\n",
    "2: extensions.onlooker.capture.run_bytes must be a whole number from 256 to 4294967295, not 100"
)]
#[case::no_power(
    "file_format: \"1.0\"\nextensions: {onlooker: {limits: {ring_bytes: 5000}}}\n",
    "2: extensions.onlooker.limits.ring_bytes must be a power of two, not 5000"
)]
#[case::yes(
    "file_format: \"1.0\"\nextensions: {onlooker: {capture: {tls: yes}}}\n",
    "2: extensions.onlooker.capture.tls must be true or false, not \"yes\""
)]
#[case::number_for_bool(
    "file_format: \"1.0\"\nextensions: {onlooker: {capture: {java: 1}}}\n",
    "2: extensions.onlooker.capture.java must be true or false, not 1"
)]
#[case::map_for_bool(
    "file_format: \"1.0\"\nextensions: {onlooker: {kernel_log: {on: true}}}\n",
    "2: extensions.onlooker.kernel_log must be true or false, not a map of keys"
)]
#[case::section_is_a_list(
    "file_format: \"1.0\"\nextensions: {onlooker: {limits: [1]}}\n",
    "2: extensions.onlooker.limits must be a map of keys, not a list"
)]
#[case::section_is_a_value("file_format: \"1.0\"\nextensions: on\n", "2: extensions must be a map of keys, not \"on\"")]
#[case::section_is_nothing(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    limits:\n",
    "4: extensions.onlooker.limits must be a map of keys, not nothing"
)]
#[case::attributes_map(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    a: b\n",
    "3: resource.attributes must be a list with at least one item, not a map of keys"
)]
#[case::no_attributes(
    "file_format: \"1.0\"\nresource:\n  attributes: []\n",
    "3: resource.attributes must be a list with at least one item, not a list"
)]
#[case::attribute_text(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    - a=b\n",
    "4: resource.attributes[0] must be a map with name, value and type, not \"a=b\""
)]
#[case::attribute_name(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    - value: b\n",
    "4: resource.attributes[0] must have a name, which is text"
)]
#[case::attribute_value(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    - {name: a, value: b}\n    - name: c\n",
    "5: resource.attributes[1] must have a value"
)]
#[case::attribute_key(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    - {nam: a, value: b}\n",
    "4: resource.attributes[0] has the unknown key \"nam\"; did you mean \"name\"?"
)]
#[case::attribute_type(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    - {name: a, value: 1, type: integer}\n",
    "4: resource.attributes[0] has the unknown type \"integer\"; did you mean \"int\"?"
)]
#[case::attribute_mismatch(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    - {name: a, value: 1.5, type: int}\n",
    "4: resource.attributes[0] must have a int as value, not 1.5"
)]
#[case::attribute_number(
    "file_format: \"1.0\"\nresource:\n  attributes:\n    - {name: a, value: 7}\n",
    "4: resource.attributes[0] must have a string as value, not 7"
)]
#[case::no_processors(
    "file_format: \"1.0\"\ntracer_provider: {}\n",
    "2: the key \"processors\" is missing in tracer_provider"
)]
#[case::processor(
    "    - bach: {exporter: {console: }}\n",
    "4: unknown key \"bach\" in tracer_provider.processors[0]; did you mean \"batch\"?"
)]
#[case::two_kinds(
    "    - batch: {exporter: {console: }}\n      simple: {exporter: {console: }}\n",
    "4: tracer_provider.processors[0] must have one key: batch or simple"
)]
#[case::no_exporter(
    "    - batch:\n        schedule_delay: 5\n",
    "4: the key \"exporter\" is missing in tracer_provider.processors[0].batch"
)]
#[case::empty_exporter(
    "    - batch: {exporter: {}}\n",
    "4: tracer_provider.processors[0].batch.exporter must have one key: console, otlp_file/development, otlp_grpc, otlp_http or zipkin"
)]
#[case::exporter(
    "    - batch:\n        exporter:\n          otlphttp:\n",
    "6: unknown key \"otlphttp\" in tracer_provider.processors[0].batch.exporter; did you mean \"otlp_http\"?"
)]
#[case::simple_delay(
    "    - simple:\n        exporter: {console: }\n        schedule_delay: 5\n",
    "6: unknown key \"schedule_delay\" in tracer_provider.processors[0].simple; known are exporter"
)]
#[case::endpoint_misspelt(
    "    - batch:\n        exporter:\n          otlp_http:\n            endpont: http://c\n",
    "7: unknown key \"endpont\" in tracer_provider.processors[0].batch.exporter.otlp_http; did you mean \"endpoint\"?"
)]
#[case::endpoint_scheme(
    "    - batch: {exporter: {otlp_http: {endpoint: \"collector:4318\"}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_http.endpoint does not begin with http:// or https://"
)]
#[case::endpoint_secret(
    "    - batch: {exporter: {otlp_grpc: {endpoint: \"http://me:s3cret@c\"}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_grpc.endpoint contains a user name or password; put credentials into OTEL_EXPORTER_OTLP_HEADERS"
)]
#[case::endpoint_number(
    "    - batch: {exporter: {otlp_http: {endpoint: 4318}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_http.endpoint must be text, not this value; put it in quotes"
)]
#[case::compression(
    "    - batch: {exporter: {otlp_http: {compression: gzp}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_http.compression must be gzip or none, not \"gzp\"; did you mean \"gzip\"?"
)]
#[case::encoding(
    "    - batch: {exporter: {otlp_http: {encoding: grpc}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_http.encoding must be protobuf or json, not \"grpc\""
)]
#[case::header_name(
    "    - batch: {exporter: {otlp_http: {headers: [{name: a b, value: s3cret}]}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_http.headers[0] has the name \"a b\", which is not a valid header name"
)]
#[case::header_value(
    "    - batch: {exporter: {otlp_http: {headers: [{name: a, value: \"s3cret\\n\"}]}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_http.headers[0] has a value of a that is not a valid header value"
)]
#[case::header_map(
    "    - batch: {exporter: {otlp_http: {headers: {authorization: s3cret}}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_http.headers must be a list with at least one item, not a map of keys"
)]
#[case::header_list(
    "    - batch: {exporter: {otlp_http: {headers_list: s3cret}}}\n",
    " OTEL_EXPORTER_OTLP_TRACES_HEADERS: entry 1 is not name=value (values are not shown)"
)]
#[case::half_an_identity(
    "    - batch:\n        exporter:\n          otlp_http:\n            tls:\n              cert_file: /me.pem\n",
    "7: tracer_provider.processors[0].batch.exporter.otlp_http.tls.cert_file needs \"key_file\" too"
)]
#[case::relative_file(
    "    - batch: {exporter: {otlp_file/development: {output_stream: spans.jsonl}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.otlp_file/development.output_stream must be file:/// and an absolute path; console prints traces"
)]
#[case::no_stream(
    "    - batch: {exporter: {otlp_file/development: }}\n",
    "4: the key \"output_stream\" is missing in tracer_provider.processors[0].batch.exporter.otlp_file/development"
)]
#[case::two_collectors(
    "    - batch: {exporter: {otlp_http: }}\n    - batch: {exporter: {otlp_grpc: }}\n",
    "5: tracer_provider.processors[1].batch.exporter.otlp_grpc is a second exporter for OTLP, and Onlooker sends spans to one collector"
)]
#[case::two_delays(
    "    - batch: {schedule_delay: 5, exporter: {otlp_http: }}\n    - batch: {schedule_delay: 6, exporter: {console: }}\n",
    "5: tracer_provider.processors[1].batch.schedule_delay is the same for all exporters, and line 4 has another value"
)]
#[case::no_pod_condition(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    selection:\n      - {kubernetes: {}}\n",
    "5: extensions.onlooker.selection[0].kubernetes needs a condition: annotation, container, label, namespace, owner or pod"
)]
#[case::label_without_a_name(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    selection:\n      - {kubernetes: {label: \"=x\"}}\n",
    "5: extensions.onlooker.selection[0].kubernetes.label must not be empty"
)]
#[case::health_address(
    "file_format: \"1.0\"\nextensions:\n  onlooker:\n    health: {address: localhost}\n",
    "4: extensions.onlooker.health.address must be a port, or an address with a port such as 10.0.0.7:13133 or [::1]:13133, not \"localhost\""
)]
#[case::batch_above_queue(
    "    - batch: {max_queue_size: 10, max_export_batch_size: 11, exporter: {console: }}\n",
    " OTEL_BSP_MAX_EXPORT_BATCH_SIZE: 11 is more than OTEL_BSP_MAX_QUEUE_SIZE, 10"
)]
#[case::console_with_keys(
    "    - batch: {exporter: {console: {color: true}}}\n",
    "4: tracer_provider.processors[0].batch.exporter.console must be empty, not a map of keys"
)]
#[case::reference(
    "file_format: \"1.0\"\nlog_level: ${LEVEL:?unset}\n",
    "2: ${LEVEL:?unset} is not a reference such as ${NAME} or ${NAME:-default}"
)]
#[case::duplicate(
    "file_format: \"1.0\"\nlog_level: info\nlog_level: warn\n",
    "3: the key \"log_level\" is already on line 2"
)]
fn a_wrong_file_gives_one_sentence(#[case] text: &str, #[case] sentence: &str) {
    let text = if text.starts_with("    - ") { format!("{PROVIDER}{text}") } else { text.to_owned() };
    let problems = problems(&text);
    assert_eq!(problems, [format!("shop.yaml:{sentence}")], "{text}");
    assert!(!problems[0].contains("s3cret") && !problems[0].contains('\n'));
}

#[test]
fn all_problems_are_found_at_once() {
    let text = "file_format: \"1.0\"\nlog_level: loud\nextensions:\n  onlooker:\n    capture: {tls: 1, jav: true}\n";
    let unusable = read_with(text, command_line(&[])).unwrap_err();
    assert_eq!(unusable.sentences.len(), 3, "{unusable:?}");
    assert!(unusable.to_string().ends_with(" (and 2 more; `onlooker config check` shows all)"), "{unusable}");
}

/// A file that SDKs use too.
#[test]
fn keys_of_the_schema_without_effect_are_warnings() {
    let text = "file_format: \"1.1\"
disabled: false
attribute_limits:
  attribute_count_limit: 128
propagator:
  composite: [{tracecontext: }, {baggage: }]
meter_provider:
  readers: [{pull: {exporter: {prometheus/development: {port: 9464}}}}]
tracer_provider:
  processors:
    - simple: {exporter: {console: }}
  sampler: {parent_based: {root: {always_on: }}}
extensions:
  obi: {selection: {}}
";
    let configuration = read(text);
    let expected = ["disabled", "attribute_limits", "meter_provider", "tracer_provider.sampler"];
    let lines = [2, 3, 7, 12];
    let expected = expected
        .iter()
        .zip(lines)
        .map(|(key, line)| format!("shop.yaml:{line}: Onlooker does not implement {key}, so it has no effect"));
    assert_eq!(configuration.warnings, expected.collect::<Vec<_>>());
    assert!(export_of(&configuration.settings).console);
}

#[test]
fn null_and_unset_variables_stand_for_the_default() {
    let text = "file_format: \"1.0\"\nlog_level: ${UNSET}\nextensions: {onlooker: {limits: {request_age: null}}}\n";
    let settings = read(text).settings;
    assert_eq!((settings.log_level, settings.tracing.request_age), (None, Tracing::default().request_age));
}

#[test]
fn without_a_provider_traces_are_printed() {
    let config = export_of(&read("file_format: \"1.0\"\n").settings);
    assert!(config.console && config.otlp.is_none());
}

#[test]
fn the_command_line_takes_precedence_over_the_file() {
    let text = document("extensions.onlooker.limits.request_age", "60");
    let mut command_line = command_line(&[("request_age", "30")]);
    command_line.tracing.request_age = 30;
    let configuration = read_with(&text, command_line).unwrap();
    assert_eq!(configuration.settings.tracing.request_age, 30);
    let printed = print(&configuration, &export_of(&configuration.settings));
    let line = printed.lines().find(|line| line.contains("request_age")).unwrap();
    assert!(
        line.starts_with("extensions.onlooker.limits.request_age: 30 ") && line.ends_with("# --request-age"),
        "{line}"
    );
}

#[test]
fn every_value_is_printed_with_its_origin_and_without_credentials() {
    let text = "file_format: \"1.0\"
tracer_provider:
  processors:
    - batch:
        schedule_delay: 100
        exporter:
          otlp_http:
            endpoint: ${COLLECTOR}
            headers:
              - {name: authorization, value: Bearer s3cret}
            headers_list: x-key=s3cret
";
    let configuration = read(text);
    let printed = print(&configuration, &export_of(&configuration.settings));
    let lines: Vec<String> =
        printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "file_format: 1.0 # shop.yaml:1",
        "log_level: warn # default",
        "tracer_provider.processors[0].batch.schedule_delay: 100 # shop.yaml:5",
        "tracer_provider.processors[].batch.export_timeout: 30000 # default",
        "tracer_provider.processors[0].batch.exporter.otlp_http.endpoint: http://collector:4318 # shop.yaml:8",
        "tracer_provider.processors[0].batch.exporter.otlp_http.headers[0]: authorization: [hidden] # shop.yaml:10",
        "tracer_provider.processors[0].batch.exporter.otlp_http.headers_list: [hidden] # shop.yaml:11",
        "extensions.onlooker.capture.tls: true # default",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not in\n{printed}");
    }
    assert!(!printed.contains("s3cret") && !printed.contains("otlp_grpc"), "{printed}");
}

#[test]
fn headers_of_the_list_are_replaced_by_those_of_the_map() {
    let text = document(
        "tracer_provider.processors[].batch.exporter.otlp_http",
        "{headers_list: \"a=1,b=2\", headers: [{name: b, value: \"x, y\"}, {name: c, value: null}]}",
    );
    let settings = read(&text).settings;
    let config = export_of(&settings);
    let headers = &config.otlp.as_ref().unwrap().headers;
    assert!(headers.has("a") && headers.has("b") && !headers.has("c"));
    assert_eq!(headers.get("b"), Some("x, y"));
}
