//! The variables and their rules: `OTEL_BSP_*` and `OTEL_EXPORTER_OTLP_*`.
//!
//! See "OpenTelemetry Protocol Exporter" and "Environment Variable Specification" of the OpenTelemetry specification.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{ConfigError, Headers, Otlp, Protocol, Tls};
use crate::export::batch::Schedule;
use crate::percent;

/// The variables, read by their rules.
pub(super) struct Environment<'a>(pub(super) &'a dyn Fn(&str) -> Option<OsString>);

/// The variables of OTLP, after their prefix; for traces alone they have `TRACES_` between.
const OTLP_VARIABLES: [&str; 9] = [
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "TIMEOUT",
    "COMPRESSION",
    "INSECURE",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
];

impl Environment<'_> {
    /// A variable's value; none if it is empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match (self.0)(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(ConfigError::new(name, "is not valid UTF-8")),
        }
    }

    /// A setting of OTLP and the variable it comes from: the one for traces goes before the one for all signals.
    fn otlp_setting(&self, setting: &str) -> Result<Option<(String, String)>, ConfigError> {
        for signal in ["TRACES_", ""] {
            let name = format!("OTEL_EXPORTER_OTLP_{signal}{setting}");
            if let Some(value) = self.text(&name)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    pub(super) fn mentions_otlp(&self) -> Result<bool, ConfigError> {
        for setting in OTLP_VARIABLES {
            if self.otlp_setting(setting)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn number(&self, name: &str, at_least: u64) -> Result<Option<u64>, ConfigError> {
        self.text(name)?.map(|value| number(name, &value, at_least)).transpose()
    }

    pub(super) fn schedule(&self) -> Result<Schedule, ConfigError> {
        const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
        const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
        let default = Schedule::default();
        let count = |name, default| {
            let value = self.number(name, 1)?;
            Ok(value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX)))
        };
        let max_queue_size = count(QUEUE, default.max_queue_size)?;
        let max_batch_size = count(BATCH, default.max_batch_size.min(max_queue_size))?;
        if max_batch_size > max_queue_size {
            return Err(ConfigError::new(BATCH, format!("{max_batch_size} is more than {QUEUE}, {max_queue_size}")));
        }
        let duration =
            |name, at_least, default| Ok(self.number(name, at_least)?.map_or(default, Duration::from_millis));
        Ok(Schedule {
            delay: duration("OTEL_BSP_SCHEDULE_DELAY", 0, default.delay)?,
            export_timeout: duration("OTEL_BSP_EXPORT_TIMEOUT", 1, default.export_timeout)?,
            max_queue_size,
            max_batch_size,
        })
    }

    pub(super) fn otlp(&self, chosen_endpoint: Option<String>) -> Result<Otlp, ConfigError> {
        let protocol = match self.otlp_setting("PROTOCOL")? {
            None => Protocol::HttpProtobuf,
            Some((name, value)) => match value.as_str() {
                "grpc" => Protocol::Grpc,
                "http/protobuf" => Protocol::HttpProtobuf,
                "http/json" => Protocol::HttpJson,
                _ => return Err(ConfigError::new(name, format!("{value:?} is not grpc, http/protobuf or http/json"))),
            },
        };
        let gzip = match self.otlp_setting("COMPRESSION")? {
            None => false,
            Some((name, value)) => match value.as_str() {
                "gzip" => true,
                "none" => false,
                _ => return Err(ConfigError::new(name, format!("{value:?} is not gzip or none"))),
            },
        };
        let timeout = match self.otlp_setting("TIMEOUT")? {
            None => Duration::from_secs(10),
            Some((name, value)) => Duration::from_millis(number(&name, &value, 1)?),
        };
        let headers = match self.otlp_setting("HEADERS")? {
            None => Headers::default(),
            Some((name, value)) => headers(&name, &value)?,
        };
        Ok(Otlp {
            protocol,
            endpoint: self.endpoint(protocol, chosen_endpoint)?,
            headers,
            timeout,
            gzip,
            tls: self.tls()?,
        })
    }

    fn endpoint(&self, protocol: Protocol, chosen: Option<String>) -> Result<String, ConfigError> {
        let (name, value) = match (chosen, self.otlp_setting("ENDPOINT")?) {
            (Some(chosen), _) => ("--endpoint".to_owned(), chosen),
            (None, Some(set)) => set,
            (None, None) => {
                let port = if protocol == Protocol::Grpc { 4317 } else { 4318 };
                ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://localhost:{port}"))
            }
        };
        if protocol == Protocol::Grpc && !value.contains("://") {
            // The specification lets a gRPC endpoint be only host and port.
            let insecure = self.otlp_setting("INSECURE")?;
            let insecure = insecure.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
            return endpoint(&name, &format!("{}://{value}", if insecure { "http" } else { "https" }))
                .map(String::from);
        }
        let mut url = endpoint(&name, &value)?;
        // An endpoint for all signals is a base; the one for traces is used as it is.
        if protocol != Protocol::Grpc && name != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" {
            url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
        }
        Ok(url.into())
    }

    fn tls(&self) -> Result<Tls, ConfigError> {
        let file = |setting| Ok(self.otlp_setting(setting)?.map(|(_, path)| PathBuf::from(path)));
        let client = match (file("CLIENT_CERTIFICATE")?, file("CLIENT_KEY")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::new(
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    "needs ..._CLIENT_KEY beside it",
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError::new(
                    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                    "needs ..._CLIENT_CERTIFICATE beside it",
                ));
            }
        };
        Ok(Tls { ca: file("CERTIFICATE")?, client })
    }
}

fn number(name: &str, value: &str, at_least: u64) -> Result<u64, ConfigError> {
    match u64::from_str(value) {
        Ok(number) if number >= at_least => Ok(number),
        _ => Err(ConfigError::new(name, format!("{value:?} is not a whole number of at least {at_least}"))),
    }
}

/// An `http` or `https` URL without credentials: those would show up wherever the endpoint is named.
fn endpoint(name: &str, value: &str) -> Result<Url, ConfigError> {
    let problem = match Url::parse(value) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "has a user name or password in it; put credentials into OTEL_EXPORTER_OTLP_HEADERS".to_owned()
        }
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("{value:?} does not begin with http:// or https://")
        }
        Ok(url) => return Ok(url),
        Err(error) => format!("{value:?} is not a URL: {error}"),
    };
    Err(ConfigError::new(name, problem))
}

/// `name=value,name=value`, values percent-encoded. An error names the header, never its value.
fn headers(variable: &str, text: &str) -> Result<Headers, ConfigError> {
    let mut headers = HeaderMap::new();
    for (index, entry) in text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
        let (name, value) = entry.split_once('=').ok_or_else(|| {
            ConfigError::new(variable, format!("entry {} is not name=value (values are not shown)", index + 1))
        })?;
        let name = name.trim();
        let header = HeaderName::from_str(name)
            .map_err(|_| ConfigError::new(variable, format!("entry {}: its name cannot be a header's", index + 1)))?;
        let mut value = percent::decoded(value.trim())
            .and_then(|value| HeaderValue::from_bytes(&value).ok())
            .ok_or_else(|| ConfigError::new(variable, format!("the value of {name} cannot be a header's")))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(Headers(headers))
}
