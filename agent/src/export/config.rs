//! Chooses the sinks, by the `OTEL_*` variables of the specification and by the command line, which takes precedence.
//!
//! `OTEL_TRACES_EXPORTER` lists the exporters. Without it, OTLP is used if any `OTEL_EXPORTER_OTLP_*` variable for traces
//! is set, and the console if nothing is. An invalid variable is ignored with a warning: variables are often meant for the
//! SDKs of services, which must run all the same. An invalid option is an error.

use std::ffi::OsString;

use tracing::warn;

use super::environment::Environment;
use super::error::ConfigError;
use super::settings::{Choices, Config};
use super::sinks::{DEFAULT, SINKS};
use super::starter::SinkRow;

const EXPORTER_VARIABLE: &str = "OTEL_TRACES_EXPORTER";
/// In a list of exporters: no exporter.
const NONE: &str = "none";

impl Config {
    /// Reads variables with `variable`, and warns about what it ignores.
    ///
    /// # Errors
    /// When an option is invalid, or a variable that must be valid: the endpoint or a PEM file.
    pub fn choose(choices: &Choices, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let config = Self::read(choices, variable)?;
        for ignored in &config.ignored {
            warn!("{ignored}; ignored");
        }
        Ok(config)
    }

    /// Reads variables with `variable`.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn read(choices: &Choices, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let environment = Environment::new(variable);
        let mut config = Self { schedule: environment.schedule(), ..Self::default() };
        let listed = match &choices.exporters {
            Some(list) => Some(listed_by_option(list)?),
            // An endpoint on the command line chooses OTLP, whatever the environment lists.
            None if choices.endpoint.is_some() => None,
            None => listed_by_variable(&environment),
        };
        let mut chosen: Vec<&SinkRow> = SINKS
            .iter()
            .copied()
            .filter(|sink| match &listed {
                Some(names) if sink.is_listed => names.contains(&sink.name),
                _ => (sink.is_implied)(choices, &environment),
            })
            .collect();
        if chosen.is_empty() && listed.is_none() {
            chosen.push(DEFAULT);
        }
        for sink in chosen {
            (sink.configure)(choices, &environment, &mut config)?;
        }
        config.ignored = environment.into_ignored();
        Ok(config)
    }
}

/// The names of sinks.
type Names = Vec<&'static str>;

/// The exporters that the command line lists.
fn listed_by_option(list: &str) -> Result<Names, ConfigError> {
    let (names, problems) = parse(list);
    let problem = problems.into_iter().next();
    match names {
        Some(names) if problem.is_none() => Ok(names),
        _ => Err(ConfigError::new("--export", problem.unwrap_or_else(|| format!("names no exporter; {}", known())))),
    }
}

/// The exporters that the environment lists.
fn listed_by_variable(environment: &Environment<'_>) -> Option<Names> {
    let (names, problems) = parse(&environment.setting(EXPORTER_VARIABLE, |list| Ok(list.to_owned()))?);
    for problem in problems {
        environment.ignore(ConfigError::new(EXPORTER_VARIABLE, problem));
    }
    names
}

/// The names in a list, and what is invalid in it. None if it contains no known name.
fn parse(list: &str) -> (Option<Names>, Vec<String>) {
    let mut names = Names::new();
    let mut none = false;
    let mut problems = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let sink = SINKS.iter().find(|sink| sink.is_listed && sink.name.eq_ignore_ascii_case(name));
        match sink {
            Some(sink) => names.push(sink.name),
            None if name.eq_ignore_ascii_case(NONE) => none = true,
            None => problems.push(format!("unknown exporter {name:?}; {}", known())),
        }
    }
    if !names.is_empty() && none {
        problems.push(format!("{NONE:?} cannot be combined with other exporters"));
    }
    ((none || !names.is_empty()).then_some(names), problems)
}

/// `known are otlp, console and none`
fn known() -> String {
    let names: Names = SINKS.iter().filter(|sink| sink.is_listed).map(|sink| sink.name).collect();
    format!("known are {} and {NONE}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::export::settings::{Otlp, Protocol, Schedule};

    fn read(choices: Choices, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        Config::read(&choices, &variable).map_err(|error| error.to_string())
    }

    fn otlp(variables: &[(&str, &str)]) -> Otlp {
        read(Choices::default(), variables).unwrap().otlp.unwrap()
    }

    #[test]
    fn the_console_is_the_default() {
        let config = read(Choices::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap();
        assert_eq!(config, Config { console: true, ..Config::default() });
    }

    #[rstest]
    #[case::endpoint("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")]
    #[case::protocol("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
    #[case::traces_only("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b")]
    fn any_variable_of_otlp_chooses_otlp(#[case] name: &str, #[case] value: &str) {
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
    fn a_list_chooses_several_exporters(#[case] list: &str, #[case] otlp: bool, #[case] console: bool) {
        let by_environment = read(Choices::default(), &[("OTEL_TRACES_EXPORTER", list)]).unwrap();
        assert_eq!((by_environment.otlp.is_some(), by_environment.console), (otlp, console));
        let choices = Choices { exporters: Some(list.to_owned()), ..Choices::default() };
        let by_choice = read(choices, &[("OTEL_TRACES_EXPORTER", "nonsense")]).unwrap();
        assert_eq!(by_choice, by_environment);
    }

    #[test]
    fn a_file_is_added_to_listed_exporters_and_replaces_the_default() {
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
    fn endpoints_follow_the_specification(#[case] variables: &[(&str, &str)], #[case] endpoint: &str) {
        assert_eq!(otlp(variables).endpoint, endpoint);
    }

    #[test]
    fn the_endpoint_of_the_command_line_takes_precedence() {
        let choices = Choices { endpoint: Some("http://here:1".to_owned()), ..Choices::default() };
        let config = read(choices, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://there:1/")]).unwrap();
        assert_eq!(config.otlp.unwrap().endpoint, "http://here:1/v1/traces");
    }

    #[test]
    fn the_endpoint_of_the_command_line_chooses_otlp() {
        let choices = Choices { endpoint: Some("http://here:1".to_owned()), ..Choices::default() };
        let exporters = |choices: Choices| {
            let config = read(choices, &[("OTEL_TRACES_EXPORTER", "console")]).unwrap();
            (config.otlp.is_some(), config.console)
        };
        assert_eq!(exporters(choices.clone()), (true, false));
        assert_eq!(exporters(Choices { exporters: Some("otlp,console".to_owned()), ..choices }), (true, true));
    }

    #[test]
    fn every_setting_is_read_from_its_variable() {
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
    fn the_schedule_is_read_from_the_variables_of_the_batch_span_processor() {
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
    fn a_timeout_of_0_means_no_limit() {
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
    #[case::header_name(&[("OTEL_EXPORTER_OTLP_HEADERS", ",x y=s3cret")], &["OTEL_EXPORTER_OTLP_HEADERS: entry 2: its name is not a valid header name"])]
    #[case::header_value(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0Ax,b=s3cret%2")], &["OTEL_EXPORTER_OTLP_HEADERS: entry 1: the value of a is not a valid header value", "OTEL_EXPORTER_OTLP_HEADERS: entry 2: the value of b is not a valid header value"])]
    #[case::queue(&[("OTEL_BSP_MAX_QUEUE_SIZE", "0")], &["OTEL_BSP_MAX_QUEUE_SIZE: \"0\" is not a whole number of at least 1"])]
    #[case::delay(&[("OTEL_BSP_SCHEDULE_DELAY", "soon")], &["OTEL_BSP_SCHEDULE_DELAY: \"soon\" is not a whole number of at least 0"])]
    #[case::batch(&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "65537")], &["OTEL_BSP_MAX_EXPORT_BATCH_SIZE: 65537 is more than OTEL_BSP_MAX_QUEUE_SIZE, 65536"])]
    fn an_invalid_variable_counts_as_unset_and_is_reported_once(
        #[case] variables: &[(&str, &str)],
        #[case] ignored: &[&str],
    ) {
        let config = read(Choices::default(), variables).unwrap();
        let reported: Vec<_> = config.ignored.iter().map(ToString::to_string).collect();
        assert_eq!(reported, ignored);
        // An invalid variable of OTLP still chooses OTLP.
        let rest = variables.iter().filter(|(name, _)| !ignored.iter().any(|problem| problem.starts_with(name)));
        let mut rest: Vec<_> = rest.copied().collect();
        if config.otlp.is_some() {
            rest.push(("OTEL_TRACES_EXPORTER", "otlp"));
        }
        assert_eq!(Config { ignored: Vec::new(), ..config }, read(Choices::default(), &rest).unwrap());
    }

    #[test]
    fn the_valid_part_of_a_list_is_used() {
        let config = read(Choices::default(), &[("OTEL_TRACES_EXPORTER", "zipkin,Otlp,none")]).unwrap();
        assert_eq!((config.otlp.is_some(), config.console, config.ignored.len()), (true, false, 2));
        let headers = otlp(&[("OTEL_EXPORTER_OTLP_HEADERS", "x y=1,a=b,c")]).headers;
        assert_eq!(headers.0.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn an_invalid_variable_for_traces_leaves_the_one_for_all_signals() {
        let variables = [("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "smoke"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "gRPC")];
        assert_eq!(otlp(&variables).protocol, Protocol::Grpc);
    }

    #[test]
    fn variables_of_unused_exporters_are_not_read() {
        let choices = Choices { exporters: Some("console".to_owned()), ..Choices::default() };
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense"), ("OTEL_TRACES_EXPORTER", "nonsense")];
        assert_eq!(read(choices, &variables).unwrap().ignored, []);
    }

    #[rstest]
    #[case::no_scheme(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "me:s3cret@collector:4318")], "OTEL_EXPORTER_OTLP_ENDPOINT: does not begin with http:// or https://")]
    #[case::no_port(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@collector:99999")], "OTEL_EXPORTER_OTLP_ENDPOINT: is not a URL: invalid port number")]
    #[case::credentials(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@c")], "OTEL_EXPORTER_OTLP_ENDPOINT: contains a user name or password; put credentials into OTEL_EXPORTER_OTLP_HEADERS")]
    #[case::half_an_identity(&[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k")], "OTEL_EXPORTER_OTLP_CLIENT_KEY: needs ..._CLIENT_CERTIFICATE too")]
    fn an_invalid_endpoint_or_certificate_is_an_error(#[case] variables: &[(&str, &str)], #[case] error: &str) {
        assert_eq!(read(Choices::default(), variables), Err(error.to_owned()));
    }

    #[rstest]
    #[case::exporter("zipkin", "--export: unknown exporter \"zipkin\"; known are otlp, console and none")]
    #[case::among_others("otlp,zipkin", "--export: unknown exporter \"zipkin\"; known are otlp, console and none")]
    #[case::none("none,otlp", "--export: \"none\" cannot be combined with other exporters")]
    #[case::nothing(",", "--export: names no exporter; known are otlp, console and none")]
    fn an_invalid_option_is_an_error(#[case] list: &str, #[case] error: &str) {
        let choices = Choices { exporters: Some(list.to_owned()), ..Choices::default() };
        assert_eq!(read(choices, &[]), Err(error.to_owned()));
    }
}
