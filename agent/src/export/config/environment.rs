//! The variables and their rules: `OTEL_BSP_*` and `OTEL_EXPORTER_OTLP_*`.
//!
//! See "OpenTelemetry Protocol Exporter" and "Environment Variable Specification" of the OpenTelemetry specification. A value
//! that can't be read is ignored, but for where spans go and whom is trusted: there an agent that went on would do what nobody
//! meant.

use std::cell::RefCell;
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
pub(super) struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// What was read and cannot be right.
    ignored: RefCell<Vec<ConfigError>>,
}

/// The settings of OTLP, as their variables are called after their prefix.
const OTLP_SETTINGS: [&str; 9] = [
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

impl<'a> Environment<'a> {
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { variable, ignored: RefCell::default() }
    }

    /// The values that were ignored, each once.
    pub(super) fn ignored(self) -> Vec<ConfigError> {
        self.ignored.into_inner()
    }

    pub(super) fn ignore(&self, problem: ConfigError) {
        let mut ignored = self.ignored.borrow_mut();
        if !ignored.contains(&problem) {
            ignored.push(problem);
        }
    }

    /// A variable's value; none if it is empty.
    fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match (self.variable)(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(ConfigError::new(name, "is not valid UTF-8")),
        }
    }

    /// What `parse` makes of a variable. One that it can't read is as unset, as the specification wants it.
    pub(super) fn setting<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let parsed = self.text(name).and_then(|text| {
            text.map(|text| parse(&text).map_err(|problem| ConfigError::new(name, problem))).transpose()
        });
        parsed.unwrap_or_else(|problem| {
            self.ignore(problem);
            None
        })
    }

    /// The same of a setting of OTLP: the variable for traces goes before the one for all signals.
    fn otlp_setting<T>(&self, setting: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        otlp_variables(setting).iter().find_map(|name| self.setting(name, &parse))
    }

    /// What a setting of OTLP says of where spans go or whom is trusted, and the variable it comes from. In place of what
    /// was meant there nothing else will do.
    fn otlp_place(&self, setting: &str) -> Result<Option<(String, String)>, ConfigError> {
        for name in otlp_variables(setting) {
            if let Some(value) = self.text(&name)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    /// Whether any variable of OTLP has a value, be it a wrong one.
    pub(super) fn mentions_otlp(&self) -> bool {
        let mut names = OTLP_SETTINGS.into_iter().flat_map(otlp_variables);
        names.any(|name| (self.variable)(&name).is_some_and(|value| !value.to_string_lossy().trim().is_empty()))
    }

    pub(super) fn schedule(&self) -> Schedule {
        const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
        const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
        let default = Schedule::default();
        let max_queue_size = self.setting(QUEUE, count).unwrap_or(default.max_queue_size);
        let batch_size = self.setting(BATCH, |text| {
            let size = count(text)?;
            if size > max_queue_size { Err(format!("{size} is more than {QUEUE}, {max_queue_size}")) } else { Ok(size) }
        });
        Schedule {
            delay: self.setting("OTEL_BSP_SCHEDULE_DELAY", milliseconds).unwrap_or(default.delay),
            export_timeout: self.setting("OTEL_BSP_EXPORT_TIMEOUT", limit).unwrap_or(default.export_timeout),
            max_queue_size,
            max_batch_size: batch_size.unwrap_or(default.max_batch_size.min(max_queue_size)),
        }
    }

    pub(super) fn otlp(&self, chosen_endpoint: Option<String>) -> Result<Otlp, ConfigError> {
        let protocol = self.otlp_setting("PROTOCOL", |text| match text.to_ascii_lowercase().as_str() {
            "grpc" => Ok(Protocol::Grpc),
            "http/protobuf" => Ok(Protocol::HttpProtobuf),
            "http/json" => Ok(Protocol::HttpJson),
            _ => Err(format!("{text:?} is not grpc, http/protobuf or http/json")),
        });
        let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
        let gzip = self.otlp_setting("COMPRESSION", |text| match text.to_ascii_lowercase().as_str() {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => Err(format!("{text:?} is not gzip or none")),
        });
        Ok(Otlp {
            protocol,
            endpoint: self.endpoint(protocol, chosen_endpoint)?,
            headers: self.headers(),
            timeout: self.otlp_setting("TIMEOUT", limit).unwrap_or(Duration::from_secs(10)),
            gzip: gzip.unwrap_or(false),
            tls: self.tls()?,
        })
    }

    fn endpoint(&self, protocol: Protocol, chosen: Option<String>) -> Result<String, ConfigError> {
        let (name, value) = match chosen {
            Some(chosen) => ("--endpoint".to_owned(), chosen),
            None => self.otlp_place("ENDPOINT")?.unwrap_or_else(|| {
                let port = if protocol == Protocol::Grpc { 4317 } else { 4318 };
                ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://localhost:{port}"))
            }),
        };
        if protocol == Protocol::Grpc && !value.contains("://") {
            // The specification lets a gRPC endpoint be only host and port.
            let insecure = self.otlp_setting("INSECURE", boolean).unwrap_or(false);
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

    /// `name=value,name=value`, values percent-encoded. What is said of a wrong entry names the header, never its value.
    fn headers(&self) -> Headers {
        let mut headers = HeaderMap::new();
        let mut variables = otlp_variables("HEADERS").into_iter();
        let list = variables.find_map(|name| Some((self.setting(&name, |text| Ok(text.to_owned()))?, name)));
        let Some((list, name)) = list else { return Headers(headers) };
        for (index, entry) in list.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
            match header(entry) {
                Ok((header, value)) => drop(headers.insert(header, value)),
                Err(problem) => self.ignore(ConfigError::new(&name, format!("entry {}{problem}", index + 1))),
            }
        }
        Headers(headers)
    }

    fn tls(&self) -> Result<Tls, ConfigError> {
        let file = |setting| Ok(self.otlp_place(setting)?.map(|(_, path)| PathBuf::from(path)));
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

/// The names of a setting's variables, that for traces first.
fn otlp_variables(setting: &str) -> [String; 2] {
    ["TRACES_", ""].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}{setting}"))
}

fn number(text: &str, at_least: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number >= at_least);
    number.ok_or_else(|| format!("{text:?} is not a whole number of at least {at_least}"))
}

fn count(text: &str) -> Result<usize, String> {
    number(text, 1).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    number(text, 0).map(Duration::from_millis)
}

/// A timeout, of which 0 is none.
fn limit(text: &str) -> Result<Duration, String> {
    /// What the specification proposes for it: seven weeks.
    const NONE: Duration = Duration::from_millis(u32::MAX as u64);
    milliseconds(text).map(|limit| if limit.is_zero() { NONE } else { limit })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is not true or false")),
    }
}

/// An `http` or `https` URL without credentials: those would show up wherever the endpoint is named. What is said of one
/// that won't do doesn't show it: they may be in there.
fn endpoint(name: &str, value: &str) -> Result<Url, ConfigError> {
    let problem = match Url::parse(value) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "has a user name or password in it; put credentials into OTEL_EXPORTER_OTLP_HEADERS".to_owned()
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") => return Ok(url),
        Ok(_) => "does not begin with http:// or https://".to_owned(),
        Err(error) => format!("is not a URL: {error}"),
    };
    Err(ConfigError::new(name, problem))
}

/// A header as `name=value`, or what is wrong with it, to go on with after its number.
fn header(entry: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = entry.split_once('=').ok_or(" is not name=value (values are not shown)")?;
    let name = name.trim();
    let header = HeaderName::from_str(name).map_err(|_| ": its name cannot be a header's")?;
    let value = percent::decoded(value.trim()).and_then(|value| HeaderValue::from_bytes(&value).ok());
    let mut value = value.ok_or_else(|| format!(": the value of {name} cannot be a header's"))?;
    value.set_sensitive(true);
    Ok((header, value))
}
