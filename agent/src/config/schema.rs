//! What the schema of the OpenTelemetry configuration has besides the keys of the table.

/// Keys of the schema (1.0 and 1.1) that have no effect in Onlooker, with everything below them. A file may have them,
/// because it may be one that SDKs use too.
pub(super) const NOT_IMPLEMENTED: &[&str] = &[
    "attribute_limits",
    "disabled",
    "distribution",
    "instrumentation/development",
    "logger_provider",
    "meter_provider",
    "resource.detection/development",
    "resource.schema_url",
    "tracer_provider.id_generator",
    "tracer_provider.limits",
    "tracer_provider.processors[].batch.exporter.zipkin",
    "tracer_provider.sampler",
    "tracer_provider.tracer_configurator/development",
];

/// Maps that must have exactly one key: it says what they are.
pub(super) const ONE_KEY: &[&str] =
    &["propagator.composite[]", "tracer_provider.processors[]", "tracer_provider.processors[].batch.exporter"];

/// Keys of which a map has both or none.
pub(super) const TOGETHER: [&str; 2] = ["cert_file", "key_file"];

/// A rule, and the keys of which it needs one.
pub(super) const RULE: &str = "extensions.onlooker.selection[]";
pub(super) const CONDITIONS: &[&str] =
    &["all", "arguments", "cgroup", "container", "executable", "kubernetes", "language", "pid", "port", "user"];

/// The conditions of a rule about pods.
pub(super) const POD_CONDITIONS: &str = "extensions.onlooker.selection[].kubernetes";

/// Where vendors have their keys.
pub(super) const EXTENSIONS: &str = "extensions";
/// Ours.
pub(super) const OURS: &str = "onlooker";

/// A key that has the keys of another, and which of them it has.
pub(super) struct Alias {
    pub(super) path: &'static str,
    pub(super) of: &'static str,
    pub(super) only: &'static str,
}

/// A simple processor sends each span at once. Onlooker sends spans in batches all the same.
pub(super) const SIMPLE: Alias =
    Alias { path: "tracer_provider.processors[].simple", of: "tracer_provider.processors[].batch", only: "exporter" };
