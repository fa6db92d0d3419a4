//! Reads the settings of OTLP: `OTEL_EXPORTER_OTLP_*` ("OpenTelemetry Protocol Exporter" in the specification).
//!
//! The endpoint and the PEM files must be valid. If one of them were ignored, spans would go elsewhere, or to a collector
//! that is not the trusted one.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::export::environment::{Environment, timeout};
use crate::export::error::ConfigError;
use crate::export::settings::{Headers, Otlp, Protocol, Tls};
use crate::percent;

/// The settings, as their variables are named after the prefix.
const SETTINGS: [&str; 9] = [
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

/// The names of a setting's variables. The first takes precedence.
fn variables(setting: &str) -> [String; 2] {
    ["TRACES_", ""].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}{setting}"))
}

/// Whether any variable has a value, be it an invalid one.
pub(super) fn is_mentioned(environment: &Environment<'_>) -> bool {
    SETTINGS.into_iter().flat_map(variables).any(|name| environment.has(&name))
}

/// Reads the settings. `chosen_endpoint` is the command line's.
///
/// # Errors
/// When the endpoint is not valid, or only one of certificate and key is set.
pub(super) fn read(environment: &Environment<'_>, chosen_endpoint: Option<&str>) -> Result<Otlp, ConfigError> {
    let protocol = setting(environment, "PROTOCOL", |text| match text.to_ascii_lowercase().as_str() {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        "http/json" => Ok(Protocol::HttpJson),
        _ => Err(format!("{text:?} is not grpc, http/protobuf or http/json")),
    });
    let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
    let gzip = setting(environment, "COMPRESSION", |text| match text.to_ascii_lowercase().as_str() {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(format!("{text:?} is not gzip or none")),
    });
    Ok(Otlp {
        protocol,
        endpoint: endpoint(environment, protocol, chosen_endpoint)?,
        headers: headers(environment),
        timeout: setting(environment, "TIMEOUT", timeout).unwrap_or(Duration::from_secs(10)),
        gzip: gzip.unwrap_or(false),
        tls: tls(environment)?,
    })
}

/// A setting that may be ignored if its value is invalid.
fn setting<T>(environment: &Environment<'_>, setting: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
    variables(setting).iter().find_map(|name| environment.setting(name, &parse))
}

/// A setting that must be valid, with the name of its variable.
fn required(environment: &Environment<'_>, setting: &str) -> Result<Option<(String, String)>, ConfigError> {
    for name in variables(setting) {
        if let Some(value) = environment.text(&name)? {
            return Ok(Some((name, value)));
        }
    }
    Ok(None)
}

fn endpoint(environment: &Environment<'_>, protocol: Protocol, chosen: Option<&str>) -> Result<String, ConfigError> {
    let (name, value) = match chosen {
        Some(chosen) => ("--endpoint".to_owned(), chosen.to_owned()),
        None => required(environment, "ENDPOINT")?.unwrap_or_else(|| {
            let port = if protocol == Protocol::Grpc { 4317 } else { 4318 };
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://localhost:{port}"))
        }),
    };
    if protocol == Protocol::Grpc && !value.contains("://") {
        // The specification allows a gRPC endpoint to be only host and port.
        let insecure = setting(environment, "INSECURE", boolean).unwrap_or(false);
        return url(&name, &format!("{}://{value}", if insecure { "http" } else { "https" })).map(String::from);
    }
    let mut url = url(&name, &value)?;
    // An endpoint for all signals is a base. The one for traces is used as it is.
    if protocol != Protocol::Grpc && name != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" {
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
    }
    Ok(url.into())
}

/// `name=value,name=value`, values percent-encoded. A message about an invalid entry never contains its value.
fn headers(environment: &Environment<'_>) -> Headers {
    let mut headers = HeaderMap::new();
    let mut names = variables("HEADERS").into_iter();
    let list = names.find_map(|name| Some((environment.setting(&name, |text| Ok(text.to_owned()))?, name)));
    let Some((list, name)) = list else { return Headers(headers) };
    for (index, entry) in list.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
        match header(entry) {
            Ok((header, value)) => drop(headers.insert(header, value)),
            Err(problem) => environment.ignore(ConfigError::new(&name, format!("entry {}{problem}", index + 1))),
        }
    }
    Headers(headers)
}

fn tls(environment: &Environment<'_>) -> Result<Tls, ConfigError> {
    let file = |setting| Ok(required(environment, setting)?.map(|(_, path)| PathBuf::from(path)));
    let half = |present: &str, missing: &str| {
        Err(ConfigError::new(format!("OTEL_EXPORTER_OTLP_{present}"), format!("needs ..._{missing} too")))
    };
    let client = match (file("CLIENT_CERTIFICATE")?, file("CLIENT_KEY")?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return half("CLIENT_CERTIFICATE", "CLIENT_KEY"),
        (None, Some(_)) => return half("CLIENT_KEY", "CLIENT_CERTIFICATE"),
    };
    Ok(Tls { ca: file("CERTIFICATE")?, client })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is not true or false")),
    }
}

/// An `http` or `https` URL without credentials, which would appear wherever the endpoint is shown. The error does not
/// show the value for the same reason.
fn url(name: &str, value: &str) -> Result<Url, ConfigError> {
    checked_url(value).map_err(|problem| ConfigError::new(name, problem))
}

/// See [`url`]. The error completes a sentence that begins with the setting.
pub fn checked_url(value: &str) -> Result<Url, String> {
    match Url::parse(value) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err("contains a user name or password; put credentials into OTEL_EXPORTER_OTLP_HEADERS".to_owned())
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(_) => Err("does not begin with http:// or https://".to_owned()),
        Err(error) => Err(format!("is not a URL: {error}")),
    }
}

/// A header from `name=value`. The error continues a sentence that begins with the entry's number.
fn header(entry: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = entry.split_once('=').ok_or(" is not name=value (values are not shown)")?;
    let name = name.trim();
    let header = HeaderName::from_str(name).map_err(|_| ": its name is not a valid header name")?;
    let value = percent::decoded(value.trim()).and_then(|value| HeaderValue::from_bytes(&value).ok());
    let mut value = value.ok_or_else(|| format!(": the value of {name} is not a valid header value"))?;
    value.set_sensitive(true);
    Ok((header, value))
}

/// Scheme, host and port of an endpoint. Its path and query may contain keys.
#[must_use]
pub fn endpoint_origin(endpoint: &str) -> String {
    Url::parse(endpoint).map_or_else(|_| endpoint.to_owned(), |url| url.origin().ascii_serialization())
}

/// What is wrong with a header, without its value. It completes a sentence that begins with the setting.
#[must_use]
pub fn header_problem(name: &str, value: &str) -> Option<String> {
    if HeaderName::from_str(name).is_err() {
        return Some(format!("has the name {name:?}, which is not a valid header name"));
    }
    HeaderValue::from_str(value).is_err().then(|| format!("has a value of {name} that is not a valid header value"))
}
