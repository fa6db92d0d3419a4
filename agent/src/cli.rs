//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use onlooker_common::limits;

use crate::discover::select;
use crate::export;

/// Watches unmodified services from the kernel and turns what they say to each other into OpenTelemetry traces.
#[derive(Debug, Parser)]
#[command(name = "onlooker", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Say more of what the agent does (twice: everything); RUST_LOG says it in detail
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command and trace it, with everything it starts
    Exec(Exec),
    /// Trace the processes that are asked for, those there are and those to come, until interrupted; on SIGUSR1 tell
    /// what was counted so far
    Run(Run),
    /// Tell what this kernel allows, what will work, and what will not and why
    Doctor(Doctor),
}

#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    pub tracing: Tracing,
    /// The command and its arguments; its input and output are its own, and its exit code is returned
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub selectors: select::Options,
    #[command(flatten)]
    pub tracing: Tracing,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How is traced, and where to.
#[derive(Debug, Args)]
pub struct Tracing {
    /// Where spans go: otlp, console or none, several separated by commas; else as OTEL_TRACES_EXPORTER and
    /// OTEL_EXPORTER_OTLP_ENDPOINT say, and with nothing configured to the console if there is no --file
    #[arg(long, value_name = "EXPORTERS", help_heading = "Export")]
    pub export: Option<String>,
    /// The collector, as OTEL_EXPORTER_OTLP_ENDPOINT; without --export spans go there only
    #[arg(long, value_name = "URL", help_heading = "Export")]
    pub endpoint: Option<String>,
    /// Append spans to this file as OTLP JSON lines, beside what else is chosen; where nothing is, in place of the
    /// console
    #[arg(long, value_name = "PATH", help_heading = "Export")]
    pub file: Option<PathBuf>,
    /// Bytes kept of a run of requests on a connection, 256 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = limits::REQUEST_CAPTURE, help_heading = "Recorder",
          value_parser = clap::value_parser!(u32).range(256..=i64::from(limits::LARGEST_CAPTURE)))]
    pub request_capture: u32,
    /// Bytes kept of a run of responses on a connection, 256 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = limits::RESPONSE_CAPTURE, help_heading = "Recorder",
          value_parser = clap::value_parser!(u32).range(256..=i64::from(limits::LARGEST_CAPTURE)))]
    pub response_capture: u32,
    /// Size of the buffer between kernel and agent: a power of two
    #[arg(long, value_name = "BYTES", default_value_t = limits::RING_BYTES, value_parser = ring_bytes, help_heading = "Recorder")]
    pub ring_bytes: u32,
    /// Seconds after which a request without an answer is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Recorder")]
    pub request_age: u64,
    /// Connections followed at once
    #[arg(long, value_name = "NUMBER", default_value_t = 50_000, help_heading = "Recorder")]
    pub max_connections: usize,
    /// Show the kernel programs' own diagnostics
    #[arg(long, help_heading = "Recorder")]
    pub kernel_log: bool,
}

impl Tracing {
    #[must_use]
    pub fn choices(&self) -> export::Choices {
        export::Choices { exporters: self.export.clone(), endpoint: self.endpoint.clone(), file: self.file.clone() }
    }
}

fn ring_bytes(text: &str) -> Result<u32, String> {
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
    #[case::called_like_an_option(&["--", "-server"], &["-server"])]
    #[case::option_misspelt(&["--flie", "x", "--", "sh"], &[])]
    #[case::no_command(&["--"], &[])]
    fn a_command_begins_where_options_end(#[case] arguments: &[&str], #[case] command: &[&str]) {
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
    fn help_says_what_is_accepted() {
        let mut command = Cli::command();
        command.build();
        let run = command.find_subcommand("run").unwrap();
        for option in ["request_capture", "response_capture"] {
            let option = run.get_arguments().find(|argument| argument.get_id() == option).unwrap();
            let said = option.get_help().unwrap().to_string();
            assert!(said.ends_with(&format!("256 to {}", limits::LARGEST_CAPTURE)), "{said}");
            let accepted = |bytes: u32| {
                Cli::try_parse_from(["onlooker", "run", &format!("--{}={bytes}", option.get_long().unwrap())]).is_ok()
            };
            let bounds = [255, 256, limits::LARGEST_CAPTURE, limits::LARGEST_CAPTURE + 1].map(accepted);
            assert_eq!(bounds, [false, true, true, false]);
        }
    }
}
