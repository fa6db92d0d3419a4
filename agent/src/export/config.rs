//! Where spans go: the `OTEL_*` variables of the specification, and the command line before them.
//!
//! `OTEL_TRACES_EXPORTER` says which exporters; without it OTLP is used if any `OTEL_EXPORTER_OTLP_*` variable for
//! traces is set, and the console if nothing is. A value that cannot be right stops the agent at its start, in one
//! sentence: it would else be noticed by the traces that are missing. An empty variable is an unset one.

mod environment;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderMap;

use self::environment::Environment;
use super::batch::Schedule;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// As `OTEL_TRACES_EXPORTER`: `otlp`, `console` or `none`, several separated by commas.
    pub exporters: Option<String>,
    /// As `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// Append OTLP JSON lines to this file, beside what else is chosen.
    pub file: Option<PathBuf>,
}

/// Which exporters there are, and when spans leave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub otlp: Option<Otlp>,
    pub console: bool,
    /// OTLP JSON lines are appended to it.
    pub file: Option<PathBuf>,
    pub schedule: Schedule,
}

/// How a collector is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    pub protocol: Protocol,
    /// The whole URL; for gRPC only scheme, host and port matter.
    pub endpoint: String,
    pub headers: Headers,
    /// Of one attempt to deliver a request.
    pub timeout: Duration,
    pub gzip: bool,
    pub tls: Tls,
}

/// `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

/// PEM files; without a CA the system's are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca: Option<PathBuf>,
    /// The certificate chain and the key the agent shows.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Headers of every request. They carry credentials: their values are never shown.
#[derive(Clone, Default, PartialEq)]
pub struct Headers(pub(super) HeaderMap);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// A setting that cannot be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The variable or option it is about.
    setting: String,
    problem: String,
}

impl ConfigError {
    fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }
}

impl Config {
    /// Reads the environment of the agent's own process.
    ///
    /// # Errors
    /// When a variable or a choice has a value that cannot be right.
    pub fn from_env(choices: Choices) -> Result<Self, ConfigError> {
        Self::read(choices, &|name| std::env::var_os(name))
    }

    /// Reads what `variable` says of each variable.
    ///
    /// # Errors
    /// When a variable or a choice has a value that cannot be right.
    pub fn read(choices: Choices, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let environment = Environment(variable);
        let mut config = Self { file: choices.file, schedule: environment.schedule()?, ..Self::default() };

        let (source, named) = match choices.exporters {
            Some(named) => ("--export", Some(named)),
            None => ("OTEL_TRACES_EXPORTER", environment.text("OTEL_TRACES_EXPORTER")?),
        };
        let otlp = match named {
            Some(named) => {
                let named: Vec<&str> = named.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
                if let Some(unknown) = named.iter().find(|name| !["otlp", "console", "none"].contains(name)) {
                    return Err(ConfigError::new(
                        source,
                        format!("unknown exporter {unknown:?}; known are otlp, console and none"),
                    ));
                }
                if named.contains(&"none") && named.len() > 1 {
                    return Err(ConfigError::new(source, "\"none\" goes with no other exporter"));
                }
                config.console = named.contains(&"console");
                named.contains(&"otlp")
            }
            None => {
                let otlp = choices.endpoint.is_some() || environment.mentions_otlp()?;
                config.console = !otlp && config.file.is_none();
                otlp
            }
        };
        if otlp {
            config.otlp = Some(environment.otlp(choices.endpoint)?);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read(choices: Choices, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        Config::read(choices, &variable).map_err(|error| error.to_string())
    }

    fn otlp(variables: &[(&str, &str)]) -> Otlp {
        read(Choices::default(), variables).unwrap().otlp.unwrap()
    }

    #[test]
    fn nothing_configured_is_the_console() {
        let config = read(Choices::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap();
        assert_eq!(config, Config { console: true, ..Config::default() });
    }

    #[rstest]
    #[case::endpoint("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")]
    #[case::protocol("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
    #[case::traces_only("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b")]
    fn any_variable_of_otlp_chooses_it(#[case] name: &str, #[case] value: &str) {
        let config = read(Choices::default(), &[(name, value)]).unwrap();
        assert!(config.otlp.is_some() && !config.console);
    }

    #[test]
    fn variables_of_other_signals_do_not_choose_otlp() {
        let config = read(Choices::default(), &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:4318")]).unwrap();
        assert!(config.otlp.is_none() && config.console);
    }

    #[rstest]
    #[case::both("otlp, console", true, true)]
    #[case::none("none", false, false)]
    #[case::console("console", false, true)]
    fn exporters_are_a_list(#[case] list: &str, #[case] otlp: bool, #[case] console: bool) {
        let by_environment = read(Choices::default(), &[("OTEL_TRACES_EXPORTER", list)]).unwrap();
        assert_eq!((by_environment.otlp.is_some(), by_environment.console), (otlp, console));
        let choices = Choices { exporters: Some(list.to_owned()), ..Choices::default() };
        let by_choice = read(choices, &[("OTEL_TRACES_EXPORTER", "nonsense")]).unwrap();
        assert_eq!(by_choice, by_environment);
    }

    #[test]
    fn a_file_is_beside_the_others_and_instead_of_the_default() {
        let choices = Choices { file: Some("/tmp/spans".into()), ..Choices::default() };
        assert!(!read(choices.clone(), &[]).unwrap().console);
        assert!(read(choices.clone(), &[("OTEL_TRACES_EXPORTER", "console")]).unwrap().console);
        assert!(read(choices, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap().otlp.is_some());
    }

    #[rstest]
    #[case::default(&[("OTEL_TRACES_EXPORTER", "otlp")], "http://localhost:4318/v1/traces")]
    #[case::grpc_default(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http://localhost:4317/")]
    #[case::base(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1")], "http://c:1/v1/traces")]
    #[case::base_with_path(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/otlp/")], "https://c/otlp/v1/traces")]
    #[case::traces_as_it_is(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://d")], "http://c:1/x")]
    #[case::traces_without_path(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1")], "http://c:1/")]
    #[case::grpc_has_no_path(&[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1")], "http://c:1/")]
    #[case::grpc_host_and_port(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:1")], "https://c:1/")]
    #[case::grpc_insecure(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:1"), ("OTEL_EXPORTER_OTLP_INSECURE", "True")], "http://c:1/")]
    fn endpoints_by_the_specification(#[case] variables: &[(&str, &str)], #[case] endpoint: &str) {
        assert_eq!(otlp(variables).endpoint, endpoint);
    }

    #[test]
    fn a_chosen_endpoint_goes_before_the_environment() {
        let choices = Choices { endpoint: Some("http://here:1".to_owned()), ..Choices::default() };
        let config = read(choices, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://there:1/")]).unwrap();
        assert_eq!(config.otlp.unwrap().endpoint, "http://here:1/v1/traces");
    }

    #[test]
    fn every_setting_has_its_variable() {
        let otlp = otlp(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", " authorization = Bearer%20s3cret , ,x-b=a=b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/me.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/me.key"),
        ]);
        assert_eq!(otlp.protocol, Protocol::HttpJson);
        assert_eq!(otlp.headers.0["authorization"], "Bearer s3cret");
        assert_eq!(otlp.headers.0["x-b"], "a=b");
        assert_eq!(otlp.timeout, Duration::from_millis(1500));
        assert!(otlp.gzip);
        assert_eq!(otlp.tls.ca, Some("/ca.pem".into()));
        assert_eq!(otlp.tls.client, Some(("/me.pem".into(), "/me.key".into())));
        assert!(!format!("{otlp:?}").contains("s3cret"), "{otlp:?}");
    }

    #[test]
    fn the_schedule_is_that_of_the_batch_span_processor() {
        let variables =
            [("OTEL_BSP_SCHEDULE_DELAY", "0"), ("OTEL_BSP_EXPORT_TIMEOUT", "2000"), ("OTEL_BSP_MAX_QUEUE_SIZE", "100")];
        let expected = Schedule {
            delay: Duration::ZERO,
            export_timeout: Duration::from_secs(2),
            max_queue_size: 100,
            max_batch_size: 100,
        };
        assert_eq!(read(Choices::default(), &variables).unwrap().schedule, expected);
    }

    #[rstest]
    #[case(&[("OTEL_TRACES_EXPORTER", "zipkin")], "OTEL_TRACES_EXPORTER: unknown exporter \"zipkin\"; known are otlp, console and none")]
    #[case(&[("OTEL_TRACES_EXPORTER", "none,otlp")], "OTEL_TRACES_EXPORTER: \"none\" goes with no other exporter")]
    #[case(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http")], "OTEL_EXPORTER_OTLP_PROTOCOL: \"http\" is not grpc, http/protobuf or http/json")]
    #[case(&[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd")], "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: \"zstd\" is not gzip or none")]
    #[case(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")], "OTEL_EXPORTER_OTLP_TIMEOUT: \"10s\" is not a whole number of at least 1")]
    #[case(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")], "OTEL_EXPORTER_OTLP_ENDPOINT: \"collector:4318\" does not begin with http:// or https://")]
    #[case(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@c")], "OTEL_EXPORTER_OTLP_ENDPOINT: has a user name or password in it; put credentials into OTEL_EXPORTER_OTLP_HEADERS")]
    #[case(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,s3cret")], "OTEL_EXPORTER_OTLP_HEADERS: entry 2 is not name=value (values are not shown)")]
    #[case(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,x y=s3cret")], "OTEL_EXPORTER_OTLP_HEADERS: entry 2: its name cannot be a header's")]
    #[case(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0Ax")], "OTEL_EXPORTER_OTLP_HEADERS: the value of a cannot be a header's")]
    #[case(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%2")], "OTEL_EXPORTER_OTLP_HEADERS: the value of a cannot be a header's")]
    #[case(&[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k")], "OTEL_EXPORTER_OTLP_CLIENT_KEY: needs ..._CLIENT_CERTIFICATE beside it")]
    #[case(&[("OTEL_BSP_MAX_QUEUE_SIZE", "0")], "OTEL_BSP_MAX_QUEUE_SIZE: \"0\" is not a whole number of at least 1")]
    #[case(&[("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "11")], "OTEL_BSP_MAX_EXPORT_BATCH_SIZE: 11 is more than OTEL_BSP_MAX_QUEUE_SIZE, 10")]
    fn a_bad_value_is_one_clear_error(#[case] variables: &[(&str, &str)], #[case] error: &str) {
        assert_eq!(read(Choices::default(), variables), Err(error.to_owned()));
    }
}
