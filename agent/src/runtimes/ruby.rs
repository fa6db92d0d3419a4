//! Ruby. A service is named after its script, or after the project that an application server runs.

use std::path::Path;

use compact_str::format_compact;

use super::launch::{CommandLine, Launch, ServiceName};
use super::paths::file_name;
use super::row::{Mark, Runtime, Version};

pub(super) const RUBY: Runtime = Runtime {
    name: "ruby",
    executables: &["ruby"],
    libraries: &["libruby"],
    hints: &[Mark::Symbol("ruby_init")],
    version: Version::FileName,
    interprets: true,
    service_name,
    sdk_language: Some("ruby"),
    runtime_name: Some("ruby"),
    ..Runtime::COMPILED
};

/// Tools that run the project they are started in.
const SERVERS: [&str; 8] = ["falcon", "passenger", "puma", "rackup", "rails", "thin", "unicorn", "unicorn_rails"];
/// Options of the interpreter that take the next argument as their value.
const WITH_VALUE: [&str; 5] = ["-C", "-E", "-I", "-r", "--encoding"];

fn service_name(launch: &Launch<'_>) -> ServiceName {
    let arguments = match launch.command_line() {
        CommandLine::Title(title) => return titled(launch, title),
        CommandLine::Arguments(arguments) => arguments,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument {
            "-" => return ServiceName::Unknown,
            option if WITH_VALUE.contains(&option) => {
                arguments.next();
            }
            option if option.starts_with("-e") => return ServiceName::Unknown,
            option if option.starts_with('-') => {}
            path => return script(launch, path),
        }
    }
    ServiceName::Unknown
}

fn script(launch: &Launch<'_>, path: &str) -> ServiceName {
    let name = file_name(Path::new(path));
    match name {
        name if SERVERS.contains(&name) => ServiceName::of(launch.project().unwrap_or(name)),
        "sidekiq" => job_runner(launch.project()),
        _ => ServiceName::of_script(path),
    }
}

fn job_runner(project: Option<&str>) -> ServiceName {
    project.map_or_else(|| ServiceName::of("sidekiq"), |project| ServiceName::of(&format_compact!("{project}-sidekiq")))
}

fn titled(launch: &Launch<'_>, title: &str) -> ServiceName {
    let tool = title.split([' ', ':', '[']).next().unwrap_or_default();
    match tool {
        // puma 6.4.2 (tcp://0.0.0.0:9292) [shop], puma: cluster worker 0: 4711 [shop]
        "puma" => {
            let tag = title.rsplit_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
            ServiceName::of(tag.or(launch.project()).unwrap_or(tool))
        }
        // sidekiq 7.2.0 shop [0 of 5 busy]
        "sidekiq" => job_runner(title.split(' ').nth(2).filter(|tag| !tag.starts_with('[')).or(launch.project())),
        tool if SERVERS.contains(&tool) => ServiceName::of(launch.project().unwrap_or(tool)),
        _ => launch.script().map_or(ServiceName::Titled, |path| script(launch, path)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::sample::named;

    #[rstest]
    #[case::script(&["ruby", "-W0", "-I", "lib", "checkout.rb", "-p", "80"], ServiceName::of("checkout"))]
    #[case::puma(&["ruby", "/usr/bin/puma", "-C", "config/puma.rb"], ServiceName::of("shop"))]
    #[case::rails(&["ruby", "bin/rails", "server"], ServiceName::of("shop"))]
    #[case::sidekiq(&["ruby", "/usr/bin/sidekiq"], ServiceName::of("shop-sidekiq"))]
    #[case::title_of_puma(&["puma 6.4.2 (tcp://0.0.0.0:9292) [depot]"], ServiceName::of("depot"))]
    #[case::title_of_its_worker(&["puma: cluster worker 0: 4711 [depot]"], ServiceName::of("depot"))]
    #[case::title_of_puma_without_tag(&["puma 6.4.2 (tcp://0.0.0.0:9292)"], ServiceName::of("shop"))]
    #[case::title_of_sidekiq(&["sidekiq 7.2.0 depot [0 of 5 busy]"], ServiceName::of("depot-sidekiq"))]
    #[case::title_of_unicorn(&["unicorn worker[0] -c config/unicorn.rb"], ServiceName::of("shop"))]
    #[case::title_of_its_own(&["waiting for work"], ServiceName::Titled)]
    #[case::code(&["ruby", "-e", "serve"], ServiceName::Unknown)]
    #[case::standard_input(&["ruby"], ServiceName::Unknown)]
    fn ruby_is_named_after_its_script_or_project(#[case] command: &[&str], #[case] judgement: ServiceName) {
        assert_eq!(named(&RUBY, "/usr/bin/ruby3.1", command, "/srv/shop/current", &[]), judgement);
    }
}
