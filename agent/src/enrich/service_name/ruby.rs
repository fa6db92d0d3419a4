//! Ruby: the script, or the project that an application server runs.

use compact_str::format_compact;

use super::{Command, Judgement, Launch, file_name, named, scripted};

/// Tools that run the project they are started in.
const SERVERS: [&str; 8] = ["falcon", "passenger", "puma", "rackup", "rails", "thin", "unicorn", "unicorn_rails"];
/// Options of the interpreter that take the next argument for their value.
const WITH_VALUE: [&str; 5] = ["-C", "-E", "-I", "-r", "--encoding"];

pub(super) fn judge(launch: &Launch<'_>) -> Judgement {
    let arguments = match launch.command() {
        Command::Title(title) => return titled(launch, title),
        Command::Arguments(arguments) => arguments,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument {
            "-" => return Judgement::Unknown,
            option if WITH_VALUE.contains(&option) => {
                arguments.next();
            }
            option if option.starts_with("-e") => return Judgement::Unknown,
            option if option.starts_with('-') => {}
            path => return script(launch, path),
        }
    }
    Judgement::Unknown
}

fn script(launch: &Launch<'_>, path: &str) -> Judgement {
    let name = file_name(std::path::Path::new(path));
    match name {
        name if SERVERS.contains(&name) => named(launch.project().unwrap_or(name)),
        "sidekiq" => job_runner(launch.project()),
        _ => scripted(path),
    }
}

fn job_runner(project: Option<&str>) -> Judgement {
    project.map_or_else(|| named("sidekiq"), |project| named(&format_compact!("{project}-sidekiq")))
}

fn titled(launch: &Launch<'_>, title: &str) -> Judgement {
    let tool = title.split([' ', ':', '[']).next().unwrap_or_default();
    match tool {
        // puma 6.4.2 (tcp://0.0.0.0:9292) [shop], puma: cluster worker 0: 4711 [shop]
        "puma" => {
            let tag = title.rsplit_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
            named(tag.or(launch.project()).unwrap_or(tool))
        }
        // sidekiq 7.2.0 shop [0 of 5 busy]
        "sidekiq" => job_runner(title.split(' ').nth(2).filter(|tag| !tag.starts_with('[')).or(launch.project())),
        tool if SERVERS.contains(&tool) => named(launch.project().unwrap_or(tool)),
        _ => launch.script().map_or(Judgement::Worker(None), |path| script(launch, path)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::tests::judged;
    use super::*;
    use crate::discover::runtime::Program;

    #[rstest]
    #[case::script(&["ruby", "-W0", "-I", "lib", "checkout.rb", "-p", "80"], named("checkout"))]
    #[case::puma(&["ruby", "/usr/bin/puma", "-C", "config/puma.rb"], named("shop"))]
    #[case::rails(&["ruby", "bin/rails", "server"], named("shop"))]
    #[case::sidekiq(&["ruby", "/usr/bin/sidekiq"], named("shop-sidekiq"))]
    #[case::title_of_puma(&["puma 6.4.2 (tcp://0.0.0.0:9292) [depot]"], named("depot"))]
    #[case::title_of_its_worker(&["puma: cluster worker 0: 4711 [depot]"], named("depot"))]
    #[case::title_of_puma_without_tag(&["puma 6.4.2 (tcp://0.0.0.0:9292)"], named("shop"))]
    #[case::title_of_sidekiq(&["sidekiq 7.2.0 depot [0 of 5 busy]"], named("depot-sidekiq"))]
    #[case::title_of_unicorn(&["unicorn worker[0] -c config/unicorn.rb"], named("shop"))]
    #[case::title_of_its_own(&["waiting for work"], Judgement::Worker(None))]
    #[case::code(&["ruby", "-e", "serve"], Judgement::Unknown)]
    #[case::standard_input(&["ruby"], Judgement::Unknown)]
    fn ruby_is_its_script_or_project(#[case] command: &[&str], #[case] judgement: Judgement) {
        assert_eq!(judged(Program::Ruby, "/usr/bin/ruby3.1", command, "/srv/shop/current", &[]), judgement);
    }
}
