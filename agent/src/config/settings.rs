//! What the keys set, as plain data.

use std::collections::BTreeMap;
use std::ffi::OsString;

use onlooker_engine::connections::Limits;
use opentelemetry::KeyValue;

use crate::cli::Tracing;
use crate::discover::select::{RuleOptions, Treatment};
use crate::export::Protocol;
use crate::injection::propagators;
use crate::percent;

/// Every setting, as it takes effect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Options of recording and export.
    pub tracing: Tracing,
    /// The log level, if the file has one.
    pub log_level: Option<&'static str>,
    pub resource: ResourceAttributes,
    /// The rules of the file, in their order.
    pub rules: Vec<RuleOptions>,
    /// What the file says for processes about which their rule says nothing. See [`Settings::general`].
    pub general: Treatment,
    /// What the file says about exporters; `None` if no file is used.
    pub file: Option<FileExport>,
}

/// Attributes for every service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceAttributes {
    /// In the format of `OTEL_RESOURCE_ATTRIBUTES`.
    pub list: String,
    pub attributes: Vec<KeyValue>,
}

/// The exporters of a file. They take effect as the variables of the specification do, so that both ways lead to the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileExport {
    /// Whether the file has `tracer_provider`. Without it, the default exporter is used.
    pub has_provider: bool,
    pub console: bool,
    pub otlp: Option<OtlpTransport>,
    pub headers: Vec<(String, String)>,
    pub headers_list: String,
    /// The formats of trace contexts, and the list of more.
    pub propagators: Vec<&'static str>,
    pub propagators_list: String,
    pub variables: BTreeMap<&'static str, String>,
}

/// Which of the two keys for OTLP a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpTransport {
    Http,
    Grpc,
}

impl Settings {
    /// Those without a file.
    #[must_use]
    pub fn new(tracing: Tracing) -> Self {
        Self {
            tracing,
            log_level: None,
            resource: ResourceAttributes::default(),
            rules: Vec::new(),
            general: Treatment::default(),
            file: None,
        }
    }

    /// What counts for processes about which their rule says nothing.
    #[must_use]
    pub fn general(&self) -> Treatment {
        Treatment { inject: Some(self.tracing.inject), ..self.general.clone() }
    }

    /// Whether a trace context is added to requests of some processes.
    #[must_use]
    pub fn injects(&self) -> bool {
        self.tracing.inject || self.rules.iter().any(|rule| !rule.excludes && rule.treatment.inject == Some(true))
    }

    /// The limits of the pipeline.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.tracing.max_connections,
            request_age: self.tracing.request_age.saturating_mul(1_000_000_000),
            ..Limits::default()
        }
    }

    /// A variable of the OpenTelemetry specification: from the environment, or, with a file, as the file has it.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<OsString> {
        match &self.file {
            None => std::env::var_os(name),
            Some(file) => file.variable(name).map(Into::into),
        }
    }

    /// Attributes of every service.
    #[must_use]
    pub fn resource(&self) -> ResourceAttributes {
        match &self.file {
            Some(_) => self.resource.clone(),
            None => {
                let list = std::env::var_os("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
                ResourceAttributes { list: list.to_string_lossy().into_owned(), attributes: Vec::new() }
            }
        }
    }
}

impl FileExport {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "OTEL_TRACES_EXPORTER" => self.exporters(),
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS" => {
                let own = self.headers.iter().map(|(name, value)| format!("{name}={}", percent::encoded(value)));
                // The last of two entries with the same name counts.
                let all: Vec<_> = std::iter::once(self.headers_list.clone()).chain(own).collect();
                Some(all.join(","))
            }
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" => {
                let is_json = self.variables.get(ENCODING).is_some_and(|encoding| encoding == "json");
                self.otlp.map(|transport| match transport {
                    OtlpTransport::Grpc => "grpc".to_owned(),
                    OtlpTransport::Http if is_json => "http/json".to_owned(),
                    OtlpTransport::Http => "http/protobuf".to_owned(),
                })
            }
            propagators::VARIABLE => {
                let all: Vec<_> = self.propagators.iter().copied().chain([&*self.propagators_list]).collect();
                Some(all.join(","))
            }
            _ => self.variables.get(name).cloned(),
        }
    }

    fn exporters(&self) -> Option<String> {
        let names = [("otlp", self.otlp.is_some()), ("console", self.console)];
        let names: Vec<_> = names.into_iter().filter_map(|(name, is_listed)| is_listed.then_some(name)).collect();
        match (names.is_empty(), self.has_provider) {
            (false, _) => Some(names.join(",")),
            (true, true) => Some("none".to_owned()),
            (true, false) => None,
        }
    }
}

/// Stands among the variables for `encoding`, which has no variable of its own.
pub(super) const ENCODING: &str = "encoding";

impl From<Protocol> for OtlpTransport {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc,
            Protocol::HttpProtobuf | Protocol::HttpJson => Self::Http,
        }
    }
}
