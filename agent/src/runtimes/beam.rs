//! The BEAM of Erlang and Elixir. A service is named after its node, or after its release.

use super::launch::{CommandLine, Launch, ServiceName};
use super::row::{Runtime, Version, Work};

/// An Elixir release's name.
const RELEASE_NAME: &str = "RELEASE_NAME";

pub(super) const BEAM: Runtime = Runtime {
    name: "beam",
    executables: &["beam", "beam.smp"],
    version: Version::FileName,
    // An Erlang process continues on any scheduler's thread.
    work: Work::Scheduler,
    interprets: true,
    service_name,
    variables: &[RELEASE_NAME],
    sdk_language: Some("erlang"),
    runtime_name: Some("BEAM"),
    ..Runtime::COMPILED
};

fn service_name(launch: &Launch<'_>) -> ServiceName {
    let CommandLine::Arguments(arguments) = launch.command_line() else { return ServiceName::Unknown };
    let node = arguments
        .iter()
        .zip(arguments.iter().skip(1))
        .find_map(|(option, value)| matches!(*option, "-sname" | "-name").then_some(*value));
    let node = node.and_then(|node| node.split('@').next()).filter(|node| !node.is_empty());
    node.or(launch.variable(RELEASE_NAME)).map_or(ServiceName::Unknown, ServiceName::of)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::sample::named_in;

    #[rstest]
    #[case::node(&["beam.smp", "-W", "w", "--", "-sname", "rabbit@host", "-s", "rabbit"], &[], ServiceName::of("rabbit"))]
    #[case::neither(&["beam.smp", "--", "-root", "/usr/lib/erlang"], &[], ServiceName::Unknown)]
    #[case::release(&["beam.smp", "--", "-noshell"], &[(RELEASE_NAME, "shop")], ServiceName::of("shop"))]
    fn the_beam_is_named_after_its_node_or_release(
        #[case] command: &[&str],
        #[case] variables: &[(&'static str, &str)],
        #[case] expected: ServiceName,
    ) {
        let found = named_in(&BEAM, "/usr/lib/erlang/beam.smp", None, command, "/", &[], variables);
        assert_eq!(found, expected);
    }
}
