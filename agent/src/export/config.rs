//! Where spans go: the `OTEL_*` variables of the specification, and the command line before them.
//!
//! `OTEL_TRACES_EXPORTER` says which exporters; without it OTLP is used if any `OTEL_EXPORTER_OTLP_*` variable for
//! traces is set, and the console if nothing is. An empty variable is an unset one, and so is, with a warning, one whose
//! value cannot be right: variables are often meant for the SDKs of services, which must run all the same. Who writes a
//! command line sees what it says of itself: there it stops the agent at its start, in one sentence.

mod environment;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderMap;
use tracing::warn;

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
    /// Values of variables that cannot be right, and are as if they were not there.
    pub ignored: Vec<ConfigError>,
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// Reads the environment of the agent's own process, and warns of what it ignores there.
    ///
    /// # Errors
    /// When a choice has a value that cannot be right, or a variable that says where spans go or whom is trusted.
    pub fn from_env(choices: Choices) -> Result<Self, ConfigError> {
        let config = Self::read(choices, &|name| std::env::var_os(name))?;
        for ignored in &config.ignored {
            warn!("{ignored}; ignored");
        }
        Ok(config)
    }

    /// Reads what `variable` says of each variable.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn read(choices: Choices, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let environment = Environment::new(variable);
        let mut config = Self { file: choices.file, schedule: environment.schedule(), ..Self::default() };
        let exporters = match choices.exporters {
            Some(list) => Some(chosen(&list)?),
            // Who names a collector means it, whatever the environment is for.
            None if choices.endpoint.is_some() => Some(Exporters { otlp: true, console: false }),
            None => in_environment(&environment),
        };
        let exporters = exporters.unwrap_or_else(|| {
            let otlp = environment.mentions_otlp();
            Exporters { otlp, console: !otlp && config.file.is_none() }
        });
        config.console = exporters.console;
        if exporters.otlp {
            config.otlp = Some(environment.otlp(choices.endpoint)?);
        }
        config.ignored = environment.ignored();
        Ok(config)
    }
}

/// Exporters that were named.
#[derive(Debug, Clone, Copy)]
struct Exporters {
    otlp: bool,
    console: bool,
}

/// Those that the command line lists.
fn chosen(list: &str) -> Result<Exporters, ConfigError> {
    let (exporters, problems) = listed(list);
    let problem = problems.into_iter().next();
    match exporters {
        Some(exporters) if problem.is_none() => Ok(exporters),
        _ => Err(ConfigError::new("--export", problem.unwrap_or_else(|| format!("names no exporter; {KNOWN}")))),
    }
}

/// Those that the environment lists.
fn in_environment(environment: &Environment<'_>) -> Option<Exporters> {
    const VARIABLE: &str = "OTEL_TRACES_EXPORTER";
    let (exporters, problems) = listed(&environment.setting(VARIABLE, |list| Ok(list.to_owned()))?);
    for problem in problems {
        environment.ignore(ConfigError::new(VARIABLE, problem));
    }
    exporters
}

const KNOWN: &str = "known are otlp, console and none";

/// Those of a list that has any, and what in it cannot be right.
fn listed(list: &str) -> (Option<Exporters>, Vec<String>) {
    let mut exporters = Exporters { otlp: false, console: false };
    let mut none = false;
    let mut problems = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name.to_ascii_lowercase().as_str() {
            "otlp" => exporters.otlp = true,
            "console" => exporters.console = true,
            "none" => none = true,
            _ => problems.push(format!("unknown exporter {name:?}; {KNOWN}")),
        }
    }
    let any = exporters.otlp || exporters.console;
    if any && none {
        problems.push("\"none\" goes with no other exporter".to_owned());
    }
    ((any || none).then_some(exporters), problems)
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
    #[case::in_any_case("OTLP,Console", true, true)]
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
    fn a_chosen_endpoint_is_otlp_whatever_the_environment_exports_to() {
        let choices = Choices { endpoint: Some("http://here:1".to_owned()), ..Choices::default() };
        let exporters = |choices: Choices| {
            let config = read(choices, &[("OTEL_TRACES_EXPORTER", "console")]).unwrap();
            (config.otlp.is_some(), config.console)
        };
        assert_eq!(exporters(choices.clone()), (true, false));
        assert_eq!(exporters(Choices { exporters: Some("otlp,console".to_owned()), ..choices }), (true, true));
    }

    #[test]
    fn every_setting_has_its_variable() {
        let otlp = otlp(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", " authorization = Bearer%20s3cret , ,x-b=a=b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
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

    #[test]
    fn a_timeout_of_0_is_none() {
        let variables = [("OTEL_EXPORTER_OTLP_TIMEOUT", "0"), ("OTEL_BSP_EXPORT_TIMEOUT", "0")];
        let config = read(Choices::default(), &variables).unwrap();
        let month = Duration::from_secs(30 * 24 * 3600);
        assert!(config.schedule.export_timeout > month && config.otlp.unwrap().timeout > month);
    }

    #[rstest]
    #[case::exporter(&[("OTEL_TRACES_EXPORTER", "zipkin")], &["OTEL_TRACES_EXPORTER: unknown exporter \"zipkin\"; known are otlp, console and none"])]
    #[case::protocol(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http")], &["OTEL_EXPORTER_OTLP_PROTOCOL: \"http\" is not grpc, http/protobuf or http/json"])]
    #[case::compression(&[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd")], &["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: \"zstd\" is not gzip or none"])]
    #[case::timeout(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")], &["OTEL_EXPORTER_OTLP_TIMEOUT: \"10s\" is not a whole number of at least 0"])]
    #[case::of_traces_and_all(&[("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "-1"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "1e3")], &["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: \"-1\" is not a whole number of at least 0", "OTEL_EXPORTER_OTLP_TIMEOUT: \"1e3\" is not a whole number of at least 0"])]
    #[case::boolean(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "1")], &["OTEL_EXPORTER_OTLP_INSECURE: \"1\" is not true or false"])]
    #[case::header(&[("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")], &["OTEL_EXPORTER_OTLP_HEADERS: entry 1 is not name=value (values are not shown)"])]
    #[case::header_name(&[("OTEL_EXPORTER_OTLP_HEADERS", ",x y=s3cret")], &["OTEL_EXPORTER_OTLP_HEADERS: entry 2: its name cannot be a header's"])]
    #[case::header_value(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0Ax,b=s3cret%2")], &["OTEL_EXPORTER_OTLP_HEADERS: entry 1: the value of a cannot be a header's", "OTEL_EXPORTER_OTLP_HEADERS: entry 2: the value of b cannot be a header's"])]
    #[case::queue(&[("OTEL_BSP_MAX_QUEUE_SIZE", "0")], &["OTEL_BSP_MAX_QUEUE_SIZE: \"0\" is not a whole number of at least 1"])]
    #[case::delay(&[("OTEL_BSP_SCHEDULE_DELAY", "soon")], &["OTEL_BSP_SCHEDULE_DELAY: \"soon\" is not a whole number of at least 0"])]
    #[case::batch(&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "65537")], &["OTEL_BSP_MAX_EXPORT_BATCH_SIZE: 65537 is more than OTEL_BSP_MAX_QUEUE_SIZE, 65536"])]
    fn a_variable_that_cannot_be_right_is_as_unset_and_said_once(
        #[case] variables: &[(&str, &str)],
        #[case] ignored: &[&str],
    ) {
        let config = read(Choices::default(), variables).unwrap();
        let said: Vec<_> = config.ignored.iter().map(ToString::to_string).collect();
        assert_eq!(said, ignored);
        // That OTLP is meant is seen all the same.
        let rest = variables.iter().filter(|(name, _)| !ignored.iter().any(|said| said.starts_with(name)));
        let mut rest: Vec<_> = rest.copied().collect();
        if config.otlp.is_some() {
            rest.push(("OTEL_TRACES_EXPORTER", "otlp"));
        }
        assert_eq!(Config { ignored: Vec::new(), ..config }, read(Choices::default(), &rest).unwrap());
    }

    #[test]
    fn the_rest_of_a_list_is_heeded() {
        let config = read(Choices::default(), &[("OTEL_TRACES_EXPORTER", "zipkin,Otlp,none")]).unwrap();
        assert_eq!((config.otlp.is_some(), config.console, config.ignored.len()), (true, false, 2));
        let headers = otlp(&[("OTEL_EXPORTER_OTLP_HEADERS", "x y=1,a=b,c")]).headers;
        assert_eq!(headers.0.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_is_wrong_for_traces_leaves_what_is_for_all_signals() {
        let variables = [("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "smoke"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "gRPC")];
        assert_eq!(otlp(&variables).protocol, Protocol::Grpc);
    }

    #[test]
    fn variables_of_exporters_that_are_not_used_are_not_read() {
        let choices = Choices { exporters: Some("console".to_owned()), ..Choices::default() };
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense"), ("OTEL_TRACES_EXPORTER", "nonsense")];
        assert_eq!(read(choices, &variables).unwrap().ignored, []);
    }

    #[rstest]
    #[case::no_scheme(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "me:s3cret@collector:4318")], "OTEL_EXPORTER_OTLP_ENDPOINT: does not begin with http:// or https://")]
    #[case::no_port(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@collector:99999")], "OTEL_EXPORTER_OTLP_ENDPOINT: is not a URL: invalid port number")]
    #[case::credentials(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@c")], "OTEL_EXPORTER_OTLP_ENDPOINT: has a user name or password in it; put credentials into OTEL_EXPORTER_OTLP_HEADERS")]
    #[case::half_an_identity(&[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k")], "OTEL_EXPORTER_OTLP_CLIENT_KEY: needs ..._CLIENT_CERTIFICATE beside it")]
    fn where_spans_go_and_whom_is_trusted_is_right_or_an_error(
        #[case] variables: &[(&str, &str)],
        #[case] error: &str,
    ) {
        assert_eq!(read(Choices::default(), variables), Err(error.to_owned()));
    }

    #[rstest]
    #[case::exporter("zipkin", "--export: unknown exporter \"zipkin\"; known are otlp, console and none")]
    #[case::among_others("otlp,zipkin", "--export: unknown exporter \"zipkin\"; known are otlp, console and none")]
    #[case::none("none,otlp", "--export: \"none\" goes with no other exporter")]
    #[case::nothing(",", "--export: names no exporter; known are otlp, console and none")]
    fn a_choice_is_right_or_an_error(#[case] list: &str, #[case] error: &str) {
        let choices = Choices { exporters: Some(list.to_owned()), ..Choices::default() };
        assert_eq!(read(choices, &[]), Err(error.to_owned()));
    }
}
