//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, FromArgMatches as _, Parser, Subcommand};
use onlooker_common::limits;
use onlooker_protocols::propagation::{FORMATS, Format};

use crate::discover::select;
use crate::export;
use crate::health::HealthAddress;
use crate::injection::{client, propagators};
use crate::kernel::{self, keeper};
use crate::kubernetes::Mode;

/// Traces unmodified services from the kernel and exports OpenTelemetry traces.
#[derive(Debug, Parser)]
#[command(name = "onlooker", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Log more; twice for everything. RUST_LOG sets log levels in detail
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command and trace it and everything it starts
    Exec(Exec),
    /// Trace processes that match a selector until interrupted
    ///
    /// Running processes and those that start later are traced. SIGUSR1 prints the counters so far.
    Run(Run),
    /// Report what works on this kernel, what does not, and why
    Doctor(Doctor),
    /// Check whether the services behind a URL pass a trace context on
    ///
    /// The exit code is 0 if it arrives everywhere, 1 if not, and 2 if the check failed.
    Propagation(Propagation),
    /// Check a configuration file, or print what is in effect
    #[command(subcommand)]
    Config(Config),
    /// Write shell completions or man pages, from the same table as this help
    #[command(subcommand)]
    Generate(Generate),
    /// The process that the agent starts to try whether `traceparent` can be added
    #[command(hide = true, name = client::VERB)]
    SelfTestClient { port: u16 },
    /// The process that takes sockets out of the agent's table when the agent has ended
    #[command(hide = true, name = keeper::VERB)]
    KeepSockets { table: i32 },
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a configuration file. Each problem is a line on stdout, and the exit code is 1 if there is any
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the effective values and where each comes from. Credentials are hidden
    Print(Box<Run>),
}

#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Print the completions of a shell
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the man pages, one for each command, into a folder
    Man {
        /// The folder. It must exist
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Exec {
    /// Run the command as this user, with its groups and its HOME, USER, LOGNAME and SHELL. Needs root
    #[arg(short, long, value_name = "NAME")]
    pub user: Option<String>,
    #[command(flatten)]
    pub tracing: Tracing,
    /// The command and its arguments. It keeps its input and output, and its exit code is returned
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Clone, Args)]
pub struct Run {
    #[command(flatten)]
    pub selectors: select::Options,
    #[command(flatten)]
    pub tracing: Tracing,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Describe this process instead: its runtime, and how the unit of work is read that identifies the request of a call
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// When pods would be followed
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub kubernetes: Mode,
    /// The name of this node. Default: K8S_NODE_NAME, or else NODE_NAME
    #[arg(long, value_name = "NAME")]
    pub kubernetes_node: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Propagation {
    /// Where the marked requests are sent: http://HOST:PORT/PATH. They are GET requests
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The formats to check, separated by commas: w3c, b3, b3multi, jaeger, ottrace or xray. Default: all
    #[arg(long, value_name = "FORMATS", value_delimiter = ',')]
    pub format: Vec<String>,
    /// The services that the request passes, as URLs, in their order, separated by commas. Default: the URL itself
    ///
    /// A service on this host is watched by an agent, which needs root. Of another one, the answer must repeat the trace id.
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub hops: Vec<String>,
    /// Seconds that each answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Propagation {
    /// The formats to check. The error completes `--format ...`.
    pub fn chosen_formats(&self) -> Result<Vec<&'static Format>, String> {
        if self.format.is_empty() {
            return Ok(FORMATS.to_vec());
        }
        let names: Vec<_> = self.format.iter().map(|name| if name == "w3c" { "tracecontext" } else { name }).collect();
        let formats = propagators::chosen(&names.join(","))?;
        if formats.is_empty() { Err("has no format of a trace context".to_owned()) } else { Ok(formats) }
    }
}

/// Options of recording and export.
#[derive(Debug, Clone, Args)]
pub struct Tracing {
    /// Configuration file. Default: OTEL_CONFIG_FILE. With a file, the other OTEL_* variables have no effect
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where spans go: otlp, console or none, or several separated by commas. Default: OTEL_TRACES_EXPORTER, or else otlp
    /// if OTLP is configured, or else console
    #[arg(long, value_name = "EXPORTERS", help_heading = "Export")]
    pub export: Option<String>,
    /// URL of the collector, like OTEL_EXPORTER_OTLP_ENDPOINT. Without --export, spans go only there
    #[arg(long, value_name = "URL", help_heading = "Export")]
    pub endpoint: Option<String>,
    /// Also append spans to this file as OTLP JSON lines. Without another exporter, it replaces the console
    #[arg(long, value_name = "PATH", help_heading = "Export")]
    pub file: Option<PathBuf>,
    /// Rename the file to PATH.1 before it becomes larger than this, and begin a new one
    #[arg(long, value_name = "BYTES", requires = "file", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Export")]
    pub file_max_bytes: Option<u64>,
    /// Bytes captured per run of short messages on a connection, at least 256
    #[arg(long, value_name = "BYTES", default_value_t = limits::RUN_CAPTURE, help_heading = "Recorder",
          value_parser = clap::value_parser!(u32).range(256..))]
    pub run_capture: u32,
    /// Bytes captured per run of requests that are long, 256 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = limits::REQUEST_CAPTURE, help_heading = "Recorder",
          value_parser = clap::value_parser!(u32).range(256..=i64::from(limits::LARGEST_CAPTURE)))]
    pub request_capture: u32,
    /// Bytes captured per run of responses that are long, 256 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = limits::RESPONSE_CAPTURE, help_heading = "Recorder",
          value_parser = clap::value_parser!(u32).range(256..=i64::from(limits::LARGEST_CAPTURE)))]
    pub response_capture: u32,
    /// Size of the buffer between kernel and agent, a power of two
    #[arg(long, value_name = "BYTES", default_value_t = limits::RING_BYTES, value_parser = ring_bytes, help_heading = "Recorder")]
    pub ring_bytes: u32,
    /// Requests are aged after this many seconds. Their end is awaited up to twelve times as long
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Recorder")]
    pub request_age: u64,
    /// Maximum number of connections followed at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 50_000, help_heading = "Recorder")]
    pub max_connections: usize,
    /// Do not read TLS: attach to no functions of TLS libraries. Connections with TLS are then only counted
    #[arg(id = "no_tls", long = "no-tls", action = ArgAction::SetFalse, help_heading = "Recorder")]
    pub tls: bool,
    /// Read TLS also of Java programs: make selected JVMs load a library of Onlooker's
    ///
    /// JDK 21 and later print a warning about it, unless started with -XX:+EnableDynamicAgentLoading.
    #[arg(long, conflicts_with = "no_tls", help_heading = "Recorder")]
    pub java: bool,
    /// Add `traceparent` to HTTP/1 requests of selected processes: the first on each new connection, and later ones of some runtimes
    ///
    /// A trace then continues on other hosts. OTEL_PROPAGATORS chooses other formats. See docs/propagation.md for what is added where.
    #[arg(long, help_heading = "Propagation")]
    pub inject: bool,
    /// Add it only to requests for these destinations, separated by commas: ADDRESS, ADDRESS/PREFIX or NAME, and perhaps :PORT or :FIRST-LAST
    ///
    /// Names are looked up every 30 seconds.
    #[arg(long, value_name = "DESTINATIONS", value_delimiter = ',', help_heading = "Propagation")]
    pub inject_allow: Vec<String>,
    /// Do not add it to requests for these destinations. They take precedence over those of --inject-allow, and cannot be names
    #[arg(long, value_name = "DESTINATIONS", value_delimiter = ',', help_heading = "Propagation")]
    pub inject_deny: Vec<String>,
    /// Add attributes of Kubernetes pods to spans
    #[arg(long, value_name = "MODE", value_enum, default_value_t, help_heading = "Kubernetes")]
    pub kubernetes: Mode,
    /// The name of this node. Default: K8S_NODE_NAME, or else NODE_NAME
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    pub kubernetes_node: Option<String>,
    /// Serve /healthz and /readyz here: a port on loopback, or an address with a port
    #[arg(long, value_name = "ADDRESS", help_heading = "Kubernetes")]
    pub health: Option<HealthAddress>,
    /// Log diagnostics of the kernel programs
    #[arg(long, help_heading = "Recorder")]
    pub kernel_log: bool,
}

/// The ids and the texts of the options that were given to the innermost command.
#[must_use]
pub fn given(matches: &ArgMatches) -> Vec<(String, String)> {
    let innermost = std::iter::successors(Some(matches), |matches| matches.subcommand().map(|(_, below)| below)).last();
    let Some(matches) = innermost else { return Vec::new() };
    let is_given = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    let text = |id: &str| {
        let raw = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        raw.map(|text| text.to_string_lossy()).collect::<Vec<_>>().join(", ")
    };
    matches.ids().filter(is_given).map(|id| (id.to_string(), text(id.as_str()))).collect()
}

impl Default for Tracing {
    /// The defaults of the command line.
    fn default() -> Self {
        let matches = Self::augment_args(clap::Command::new("onlooker")).get_matches_from(["onlooker"]);
        Self::from_arg_matches(&matches).expect("every option has a default or is optional")
    }
}

impl Tracing {
    /// Without header lines to be added.
    #[must_use]
    pub fn kernel_options(&self) -> kernel::Options {
        let Self { ring_bytes, run_capture, kernel_log, .. } = *self;
        kernel::Options { ring_bytes, run_capture, kernel_log, lines: None }
    }

    #[must_use]
    pub fn choices(&self) -> export::Choices {
        let file = self.file.clone().map(|path| export::SpanFile { path, max_bytes: self.file_max_bytes });
        export::Choices { exporters: self.export.clone(), endpoint: self.endpoint.clone(), file }
    }
}

pub(crate) fn ring_bytes(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if bytes.is_power_of_two() && bytes >= 4096 {
        Ok(bytes)
    } else {
        Err("not a power of two of at least 4096".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::after_dashes(&["--file", "x", "--", "sh", "-c", "exit 7"], &["sh", "-c", "exit 7"])]
    #[case::without_dashes(&["--file=x", "sh", "-c", "--", "--help"], &["sh", "-c", "--", "--help"])]
    #[case::named_like_an_option(&["--", "-server"], &["-server"])]
    #[case::misspelt_option(&["--flie", "x", "--", "sh"], &[])]
    #[case::no_command(&["--"], &[])]
    fn the_command_begins_after_the_options(#[case] arguments: &[&str], #[case] command: &[&str]) {
        let parsed = Cli::try_parse_from(["onlooker", "exec"].iter().chain(arguments));
        let parsed = parsed.map_or_else(
            |_refused| Vec::new(),
            |cli| match cli.command {
                Command::Exec(exec) => exec.command,
                other => panic!("{other:?}"),
            },
        );
        assert_eq!(parsed, command);
    }

    #[test]
    fn the_help_states_the_accepted_range() {
        let mut command = Cli::command();
        command.build();
        let run = command.find_subcommand("run").unwrap();
        for option in ["request_capture", "response_capture"] {
            let option = run.get_arguments().find(|argument| argument.get_id() == option).unwrap();
            let help = option.get_help().unwrap().to_string();
            assert!(help.ends_with(&format!("256 to {}", limits::LARGEST_CAPTURE)), "{help}");
            let accepted = |bytes: u32| {
                Cli::try_parse_from(["onlooker", "run", &format!("--{}={bytes}", option.get_long().unwrap())]).is_ok()
            };
            let bounds = [255, 256, limits::LARGEST_CAPTURE, limits::LARGEST_CAPTURE + 1].map(accepted);
            assert_eq!(bounds, [false, true, true, false]);
        }
    }
}
