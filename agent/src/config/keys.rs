//! The table of keys.
//!
//! The reader, the errors, `onlooker config print` and docs/configuration.md follow it. To add a key, add a row, and a case
//! to the test that sets every key.

use clap::ValueEnum as _;
use onlooker_common::limits;

use super::checks::{
    FILE_SCHEME, any, file_url, glob, health_address, host_or_url, languages, not_empty, path_pattern, pid, pod_pair,
    port, protocols, url,
};
use super::row::{Given, Key, Kind, Set};
use super::setters::{
    accept, attribute, file, flag, log_level, log_levels, number, otlp, propagates, rule, small, text, texts, variable,
};
use super::settings::{ENCODING, OtlpTransport};
use crate::cli;
use crate::discover::select::RuleOptions;
use crate::export;
use crate::injection::{destinations, propagators};
use crate::kubernetes::Mode;

/// Every key, in the order of the page.
pub const KEYS: &[Key] = &[
    Key::new("file_format", Kind::Choice(|| vec!["1.0", "1.1"]), "", accept, "The version of the schema.").required(),
    Key::new("log_level", Kind::Choice(log_levels), "warn", log_level, "How much Onlooker logs. `-v` logs more than any level.").at_start(),
    Key::new(
        "resource.attributes[]",
        Kind::Attribute,
        "",
        attribute,
        "An attribute of every service, such as `deployment.environment.name`. `type` is `string`, `bool`, `int`, `double` or one of these with `_array`. What a service states in its own `OTEL_RESOURCE_ATTRIBUTES` takes precedence. Attributes of one service or process (`service.*`, `process.*`, `telemetry.*`) have no effect.",
    )
    .at_start(),
    Key::new(
        "resource.attributes_list",
        Kind::Text(any),
        "",
        |settings, given| text(given, |list| settings.resource.list = list),
        "The same as `name=value,name=value`, values percent-encoded. `attributes` takes precedence.",
    )
    .at_start()
    .variables(&["OTEL_RESOURCE_ATTRIBUTES"]),
    propagator("propagator.composite[].tracecontext", |settings, _| propagates(settings, "tracecontext"), "`traceparent`, of the W3C."),
    propagator("propagator.composite[].b3", |settings, _| propagates(settings, "b3"), "`b3`, of Zipkin."),
    propagator("propagator.composite[].b3multi", |settings, _| propagates(settings, "b3multi"), "`X-B3-TraceId`, `X-B3-SpanId` and `X-B3-Sampled`."),
    propagator("propagator.composite[].jaeger", |settings, _| propagates(settings, "jaeger"), "`uber-trace-id`."),
    propagator("propagator.composite[].ottrace", |settings, _| propagates(settings, "ottrace"), "`ot-tracer-traceid`, `ot-tracer-spanid` and `ot-tracer-sampled`. The trace id is cut to 64 bits."),
    propagator("propagator.composite[].xray", |settings, _| propagates(settings, "xray"), "`X-Amzn-Trace-Id`."),
    propagator("propagator.composite[].baggage", |settings, _| propagates(settings, "baggage"), "Baggage of requests is not passed on."),
    Key::new(
        "propagator.composite_list",
        Kind::Text(propagators::check),
        "tracecontext",
        |settings, given| text(given, |list| settings.file.get_or_insert_default().propagators_list = list),
        "The names of formats that `--inject` writes, separated by commas, beside those of `composite`: `tracecontext`, `b3`, `b3multi`, `jaeger`, `ottrace`, `xray`, `baggage` or `none`. All are read.",
    )
    .at_start()
    .variables(&[propagators::VARIABLE]),
    Key::new(
        "tracer_provider",
        Kind::Section,
        "",
        |settings, _| file(settings, |file| file.has_provider = true),
        "Where spans go. Without it, they are printed. A file may have each exporter once. A processor `simple` is the same as `batch`, and has only an exporter.",
    )
    .variables(&["OTEL_TRACES_EXPORTER"])
    .flag("export"),
    Key::new(
        "tracer_provider.processors",
        Kind::Section,
        "",
        accept,
        "The list of processors.",
    )
    .required(),
    Key::new(
        "tracer_provider.processors[].batch.exporter",
        Kind::Section,
        "",
        accept,
        "One exporter.",
    )
    .required(),
    Key::new(
        "tracer_provider.processors[].batch.schedule_delay",
        Kind::Number { least: 0, most: u64::MAX },
        "200",
        |settings, given| variable(settings, "OTEL_BSP_SCHEDULE_DELAY", given),
        "Milliseconds that a span waits for others. It is the same for all exporters, as are the next three.",
    )
    .variables(&["OTEL_BSP_SCHEDULE_DELAY"]),
    Key::new(
        "tracer_provider.processors[].batch.export_timeout",
        Kind::Number { least: 0, most: u64::MAX },
        "30000",
        |settings, given| variable(settings, "OTEL_BSP_EXPORT_TIMEOUT", given),
        "Milliseconds until a request is given up, including retries. 0: no limit.",
    )
    .variables(&["OTEL_BSP_EXPORT_TIMEOUT"]),
    Key::new(
        "tracer_provider.processors[].batch.max_queue_size",
        Kind::Number { least: 1, most: u64::MAX },
        "65536",
        |settings, given| variable(settings, "OTEL_BSP_MAX_QUEUE_SIZE", given),
        "Spans that an exporter holds, including those being sent.",
    )
    .variables(&["OTEL_BSP_MAX_QUEUE_SIZE"]),
    Key::new(
        "tracer_provider.processors[].batch.max_export_batch_size",
        Kind::Number { least: 1, most: u64::MAX },
        "2048",
        |settings, given| variable(settings, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", given),
        "Spans per request. A request of 2 MiB is sent with fewer.",
    )
    .variables(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_http",
        Kind::Section,
        "",
        |settings, _| otlp(settings, OtlpTransport::Http),
        "Sends spans to a collector over HTTP.",
    ),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_http.endpoint",
        Kind::Text(url),
        "http://localhost:4318/v1/traces",
        |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", given),
        "The whole URL, including `/v1/traces`. `--endpoint` takes a URL without it.",
    )
    .variables(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
    .flag("endpoint")
    .secret(),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_http.encoding",
        Kind::Choice(|| vec!["protobuf", "json"]),
        "protobuf",
        |settings, given| variable(settings, ENCODING, given),
        "How requests are encoded.",
    )
    .variables(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]),
    HEADER.at("tracer_provider.processors[].batch.exporter.otlp_http.headers[]"),
    HEADERS.at("tracer_provider.processors[].batch.exporter.otlp_http.headers_list"),
    TIMEOUT.at("tracer_provider.processors[].batch.exporter.otlp_http.timeout"),
    COMPRESSION.at("tracer_provider.processors[].batch.exporter.otlp_http.compression"),
    CA.at("tracer_provider.processors[].batch.exporter.otlp_http.tls.ca_file"),
    CERTIFICATE.at("tracer_provider.processors[].batch.exporter.otlp_http.tls.cert_file"),
    KEY_FILE.at("tracer_provider.processors[].batch.exporter.otlp_http.tls.key_file"),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_grpc",
        Kind::Section,
        "",
        |settings, _| otlp(settings, OtlpTransport::Grpc),
        "Sends spans to a collector over gRPC.",
    ),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_grpc.endpoint",
        Kind::Text(host_or_url),
        "http://localhost:4317",
        |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", given),
        "The URL, or host and port.",
    )
    .variables(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
    .flag("endpoint")
    .secret(),
    HEADER.at("tracer_provider.processors[].batch.exporter.otlp_grpc.headers[]"),
    HEADERS.at("tracer_provider.processors[].batch.exporter.otlp_grpc.headers_list"),
    TIMEOUT.at("tracer_provider.processors[].batch.exporter.otlp_grpc.timeout"),
    COMPRESSION.at("tracer_provider.processors[].batch.exporter.otlp_grpc.compression"),
    CA.at("tracer_provider.processors[].batch.exporter.otlp_grpc.tls.ca_file"),
    CERTIFICATE.at("tracer_provider.processors[].batch.exporter.otlp_grpc.tls.cert_file"),
    KEY_FILE.at("tracer_provider.processors[].batch.exporter.otlp_grpc.tls.key_file"),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_grpc.tls.insecure",
        Kind::Bool,
        "false",
        |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_INSECURE", given),
        "Whether an endpoint without a scheme is reached without TLS.",
    )
    .variables(&["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"]),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_file/development",
        Kind::Section,
        "",
        accept,
        "Appends spans to a file as OTLP JSON lines.",
    ),
    Key::new(
        "tracer_provider.processors[].batch.exporter.otlp_file/development.output_stream",
        Kind::Text(file_url),
        "",
        |settings, given| {
            text(given, |url| settings.tracing.file = Some(url.trim_start_matches(FILE_SCHEME).into()))
        },
        "The file as `file:///absolute/path`.",
    )
    .flag("file")
    .required(),
    Key::new(
        "tracer_provider.processors[].batch.exporter.console",
        Kind::Section,
        "",
        |settings, _| file(settings, |file| file.console = true),
        "Prints traces as trees.",
    ),
    Key::new(
        "extensions.onlooker.selection",
        Kind::Section,
        "",
        accept,
        "Rules that say what is traced. The first rule that matches a process decides. All kinds of conditions of a rule must hold, and one value of each kind suffices. Options of the command line are rules that come first. Children of a traced process are traced too, unless a rule excludes them. Under `exec`, rules only say how processes are treated.",
    ),
    Key::new(
        "extensions.onlooker.selection[]",
        Kind::Section,
        "",
        |settings, _| {
            settings.rules.push(RuleOptions::default());
            Ok(())
        },
        "A rule. It needs at least one condition.",
    ),
    Key::new(
        "extensions.onlooker.selection[].action",
        Kind::Choice(|| vec!["include", "exclude"]),
        "include",
        |settings, given| text(given, |action| rule(settings, |rule| rule.excludes = action == "exclude")),
        "Whether processes that match are traced.",
    ),
    Key::new(
        "extensions.onlooker.selection[].all",
        Kind::Bool,
        "false",
        |settings, given| flag(given, |on| rule(settings, |rule| rule.all = on)),
        "Condition: every process.",
    )
    .flag("all"),
    Key::new(
        "extensions.onlooker.selection[].executable",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.executables = globs)),
        "Condition: globs of executables. With a slash they match the path, on the host or inside the container; without, the file name.",
    )
    .flag("exe"),
    Key::new(
        "extensions.onlooker.selection[].arguments",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.arguments = globs)),
        "Condition: globs of the whole command line, whose words are joined by spaces, such as `'*gunicorn*shop.wsgi*'`.",
    ),
    Key::new(
        "extensions.onlooker.selection[].port",
        Kind::Texts(port),
        "",
        |settings, given| {
            let ports = |ports: Vec<String>| ports.iter().filter_map(|port| port.parse().ok()).collect();
            texts(given, |texts| rule(settings, |rule| rule.ports = ports(texts)))
        },
        "Condition: TCP ports that the process listens on, or ranges such as `8000-8099`.",
    )
    .flag("port"),
    Key::new(
        "extensions.onlooker.selection[].pid",
        Kind::Texts(pid),
        "",
        |settings, given| {
            let pids = |pids: Vec<String>| pids.iter().filter_map(|pid| pid.parse().ok()).collect();
            texts(given, |texts| rule(settings, |rule| rule.pids = pids(texts)))
        },
        "Condition: ids of processes that exist when the file is read.",
    )
    .flag("pid"),
    Key::new(
        "extensions.onlooker.selection[].cgroup",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |paths| rule(settings, |rule| rule.cgroups = paths)),
        "Condition: v2 cgroups with those below them: a folder under the mount, a path as in /proc/PID/cgroup, or a glob of such paths.",
    )
    .flag("cgroup"),
    Key::new(
        "extensions.onlooker.selection[].user",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.users = globs)),
        "Condition: globs of user names as the host knows them, or user ids.",
    ),
    Key::new(
        "extensions.onlooker.selection[].container",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.containers = globs)),
        "Condition: globs of container ids. `'*'` is any container.",
    ),
    Key::new(
        "extensions.onlooker.selection[].kubernetes.namespace",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.pod.namespaces = globs)),
        "Condition: globs of Kubernetes namespaces. Conditions about Kubernetes hold for no process whose pod is unknown.",
    ),
    Key::new(
        "extensions.onlooker.selection[].kubernetes.pod",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.pod.pods = globs)),
        "Condition: globs of names of pods.",
    ),
    Key::new(
        "extensions.onlooker.selection[].kubernetes.owner",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.pod.owners = globs)),
        "Condition: globs of the names of owners such as Deployments, or of `KIND/NAME`.",
    ),
    Key::new(
        "extensions.onlooker.selection[].kubernetes.label",
        Kind::Texts(pod_pair),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.pod.labels = globs)),
        "Condition: labels of the pod, as `NAME=GLOB`, or only the name.",
    ),
    Key::new(
        "extensions.onlooker.selection[].kubernetes.annotation",
        Kind::Texts(pod_pair),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.pod.annotations = globs)),
        "Condition: annotations of the pod in the same form.",
    ),
    Key::new(
        "extensions.onlooker.selection[].kubernetes.container",
        Kind::Texts(glob),
        "",
        |settings, given| texts(given, |globs| rule(settings, |rule| rule.pod.containers = globs)),
        "Condition: globs of names of containers in their pods.",
    ),
    Key::new(
        "extensions.onlooker.selection[].language",
        Kind::Choices(languages),
        "",
        |settings, given| texts(given, |languages| rule(settings, |rule| rule.languages = languages)),
        "Condition: languages of programs, as `telemetry.sdk.language` has them.",
    ),
    Key::new(
        "extensions.onlooker.selection[].service.name",
        Kind::Text(not_empty),
        "",
        |settings, given| text(given, |name| rule(settings, |rule| rule.treatment.service_name = Some(name))),
        "The `service.name` of processes that the rule includes, whatever they say themselves.",
    ),
    Key::new(
        "extensions.onlooker.selection[].service.namespace",
        Kind::Text(not_empty),
        "",
        |settings, given| text(given, |name| rule(settings, |rule| rule.treatment.service_namespace = Some(name))),
        "Their `service.namespace`.",
    ),
    Key::new(
        "extensions.onlooker.selection[].protocols",
        Kind::Choices(protocols),
        "",
        |settings, given| texts(given, |names| rule(settings, |rule| rule.treatment.protocols = Some(names))),
        "As `protocols` below, for processes that the rule includes.",
    ),
    Key::new(
        "extensions.onlooker.selection[].routes.patterns",
        Kind::Texts(path_pattern),
        "",
        |settings, given| texts(given, |patterns| rule(settings, |rule| rule.treatment.routes = Some(patterns))),
        "As `routes.patterns` below, which it replaces.",
    ),
    Key::new(
        "extensions.onlooker.selection[].routes.ignore",
        Kind::Texts(path_pattern),
        "",
        |settings, given| texts(given, |patterns| rule(settings, |rule| rule.treatment.ignored = Some(patterns))),
        "As `routes.ignore` below, which it replaces.",
    ),
    Key::new(
        "extensions.onlooker.selection[].propagation.inject",
        Kind::Bool,
        "",
        |settings, given| flag(given, |on| rule(settings, |rule| rule.treatment.inject = Some(on))),
        "As `propagation.inject` below, which it replaces for connections that these processes open.",
    ),
    Key::new(
        "extensions.onlooker.protocols",
        Kind::Choices(protocols),
        "all",
        |settings, given| texts(given, |names| settings.general.protocols = Some(names)),
        "Protocols whose requests are reported. Others are counted (`requests_ignored`), and what is done for them belongs to the request above.",
    ),
    Key::new(
        "extensions.onlooker.routes.patterns",
        Kind::Texts(path_pattern),
        "",
        |settings, given| texts(given, |patterns| settings.general.routes = Some(patterns)),
        "Routes. The first that matches a path is its `http.route`. `{name}` and `:name` are one segment, `*` is a part of one, and `**` is the rest. Other paths get a template.",
    ),
    Key::new(
        "extensions.onlooker.routes.ignore",
        Kind::Texts(path_pattern),
        "",
        |settings, given| texts(given, |patterns| settings.general.ignored = Some(patterns)),
        "Paths whose requests are ignored, such as `/healthz`, with everything that is done for them. They are counted (`requests_ignored`, `requests_below_ignored`).",
    ),
    Key::new(
        "extensions.onlooker.file.max_bytes",
        Kind::Number { least: 1, most: u64::MAX },
        "no limit",
        |settings, given| number(given, |bytes| settings.tracing.file_max_bytes = Some(bytes)),
        "The file of spans is renamed to `PATH.1` before it becomes larger than this, and a new one begins.",
    )
    .flag("file_max_bytes"),
    Key::new(
        "extensions.onlooker.capture.tls",
        Kind::Bool,
        "true",
        |settings, given| flag(given, |on| settings.tracing.tls = on),
        "Whether TLS is read: see [TLS](tls.md). Otherwise connections with TLS are only counted.",
    )
    .at_start()
    .flag("no_tls"),
    Key::new(
        "extensions.onlooker.capture.java",
        Kind::Bool,
        "false",
        |settings, given| flag(given, |on| settings.tracing.java = on),
        "Whether TLS of Java programs is read too, which makes each selected JVM load a library of Onlooker's. It needs `capture.tls`.",
    )
    .at_start()
    .flag("java"),
    Key::new(
        "extensions.onlooker.capture.run_bytes",
        Kind::Number { least: 256, most: u32::MAX as u64 },
        "4194304",
        |settings, given| small(given, |bytes| settings.tracing.run_capture = bytes),
        "Bytes captured of a run: data that passes in one direction of a connection until the other direction's turn.",
    )
    .at_start()
    .flag("run_capture"),
    Key::new(
        "extensions.onlooker.capture.request_bytes",
        Kind::Number { least: 256, most: limits::LARGEST_CAPTURE as u64 },
        "8192",
        |settings, given| small(given, |bytes| settings.tracing.request_capture = bytes),
        "Bytes captured of a run of requests where messages are long.",
    )
    .at_start()
    .flag("request_capture"),
    Key::new(
        "extensions.onlooker.capture.response_bytes",
        Kind::Number { least: 256, most: limits::LARGEST_CAPTURE as u64 },
        "1024",
        |settings, given| small(given, |bytes| settings.tracing.response_capture = bytes),
        "The same for responses.",
    )
    .at_start()
    .flag("response_capture"),
    Key::new(
        "extensions.onlooker.limits.ring_bytes",
        Kind::Number { least: 4096, most: 1 << 30 },
        "8388608",
        |settings, given| match given {
            Given::Number(bytes) => {
                settings.tracing.ring_bytes =
                    cli::ring_bytes(&bytes.to_string()).map_err(|_| format!("must be a power of two, not {bytes}"))?;
                Ok(())
            }
            _ => Ok(()),
        },
        "Size of the buffer between kernel and agent, a power of two.",
    )
    .at_start()
    .flag("ring_bytes"),
    Key::new(
        "extensions.onlooker.limits.request_age",
        Kind::Number { least: 1, most: u64::MAX },
        "300",
        |settings, given| number(given, |seconds| settings.tracing.request_age = seconds),
        "A request that lasts longer than this many seconds is aged. Its end is awaited up to twelve times as long.",
    )
    .flag("request_age"),
    Key::new(
        "extensions.onlooker.limits.max_connections",
        Kind::Number { least: 1, most: u32::MAX as u64 },
        "50000",
        |settings, given| {
            small(given, |connections| settings.tracing.max_connections = connections as usize)
        },
        "Connections followed at a time.",
    )
    .flag("max_connections"),
    Key::new(
        "extensions.onlooker.propagation.inject",
        Kind::Bool,
        "false",
        |settings, given| flag(given, |on| settings.tracing.inject = on),
        "Whether `traceparent` is added to HTTP/1 requests: the first on each new connection, and later ones where that changes nothing else. See [propagation](propagation.md).",
    )
    .flag("inject"),
    Key::new(
        "extensions.onlooker.propagation.allow",
        Kind::Texts(destinations::check_allowed),
        "every destination",
        |settings, given| texts(given, |allowed| settings.tracing.inject_allow = allowed),
        "Destinations to which a trace context is sent: an address, a network (`10.0.0.0/8`) or a name, and perhaps `:PORT` or `:FIRST-LAST`. Names are looked up every 30 seconds.",
    )
    .at_start()
    .flag("inject_allow"),
    Key::new(
        "extensions.onlooker.propagation.deny",
        Kind::Texts(destinations::check_denied),
        "",
        |settings, given| texts(given, |denied| settings.tracing.inject_deny = denied),
        "Destinations to which none is sent. They take precedence over `allow`, and cannot be names.",
    )
    .at_start()
    .flag("inject_deny"),
    Key::new(
        "extensions.onlooker.kubernetes.mode",
        Kind::Choice(|| Mode::NAMES.to_vec()),
        "auto",
        |settings, given| {
            text(given, |name| settings.tracing.kubernetes = Mode::from_str(&name, false).unwrap_or_default())
        },
        "Whether spans get attributes of Kubernetes pods: see [Kubernetes](kubernetes.md). `auto`: inside of a cluster.",
    )
    .at_start()
    .flag("kubernetes"),
    Key::new(
        "extensions.onlooker.kubernetes.node",
        Kind::Text(not_empty),
        "K8S_NODE_NAME, or else NODE_NAME, of the environment",
        |settings, given| text(given, |node| settings.tracing.kubernetes_node = Some(node)),
        "The name of this node. Its pods are followed.",
    )
    .at_start()
    .flag("kubernetes_node"),
    Key::new(
        "extensions.onlooker.health.address",
        Kind::Text(health_address),
        "",
        |settings, given| text(given, |address| settings.tracing.health = address.parse().ok()),
        "Serve `/healthz` and `/readyz` here: a port on loopback, or an address with a port.",
    )
    .at_start()
    .flag("health"),
    Key::new(
        "extensions.onlooker.kernel_log",
        Kind::Bool,
        "false",
        |settings, given| flag(given, |on| settings.tracing.kernel_log = on),
        "Whether diagnostics of the kernel programs are logged.",
    )
    .at_start()
    .flag("kernel_log"),
];

impl Key {
    /// The same key of another exporter.
    const fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }
}

/// A format that is written.
const fn propagator(path: &'static str, set: Set, doc: &'static str) -> Key {
    Key::new(path, Kind::Section, "", set, doc).at_start()
}

const HEADER: Key = Key::new(
    "",
    Kind::Pair,
    "",
    |settings, given| match given {
        Given::Pair(name, value) => {
            export::header_problem(&name, &value).map_or(Ok(()), Err)?;
            file(settings, |file| file.headers.push((name, value)))
        }
        _ => Ok(()),
    },
    "A header of every request, such as credentials. Values are never shown.",
)
.secret();

const HEADERS: Key = Key::new(
    "",
    Kind::Text(any),
    "",
    |settings, given| text(given, |list| settings.file.get_or_insert_default().headers_list = list),
    "The same as `name=value,name=value`, values percent-encoded. `headers` takes precedence.",
)
.variables(&["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"])
.secret();

const TIMEOUT: Key = Key::new(
    "",
    Kind::Number { least: 0, most: u64::MAX },
    "10000",
    |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", given),
    "Milliseconds for one attempt. 0: no limit.",
)
.variables(&["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]);

const COMPRESSION: Key = Key::new(
    "",
    Kind::Choice(|| vec!["gzip", "none"]),
    "none",
    |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", given),
    "How requests are compressed.",
)
.variables(&["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"]);

const CA: Key = Key::new(
    "",
    Kind::Text(any),
    "the system's CAs",
    |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", given),
    "PEM file with the CA to trust.",
)
.variables(&["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]);

const CERTIFICATE: Key = Key::new(
    "",
    Kind::Text(any),
    "",
    |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", given),
    "PEM file with the certificate that the agent presents. Needs `key_file`.",
)
.variables(&["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"]);

const KEY_FILE: Key = Key::new(
    "",
    Kind::Text(any),
    "",
    |settings, given| variable(settings, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", given),
    "PEM file with the key of the certificate. Needs `cert_file`.",
)
.variables(&["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"]);
