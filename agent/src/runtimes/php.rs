//! PHP. A service is named after the pool of php-fpm, or after the project of its script.

use std::path::Path;

use super::arguments::{option, positional};
use super::launch::{CommandLine, Launch, ServiceName};
use super::paths::{file_name, project, stem};
use super::row::{Runtime, Version};
use crate::presentable::presentable;

pub(super) const PHP: Runtime = Runtime {
    name: "php",
    executables: &["php", "php-fpm", "php-cgi"],
    libraries: &["libphp"],
    version: Version::FileName,
    interprets: true,
    service_name,
    sdk_language: Some("php"),
    runtime_name: Some("php"),
    ..Runtime::COMPILED
};

/// Folders of a project that a web server serves.
const PUBLIC_FOLDERS: [&str; 6] = ["public", "web", "www", "html", "htdocs", "public_html"];
/// Options of the interpreter that take no value.
const FLAGS: [&str; 9] = ["-a", "-C", "-H", "-i", "-l", "-m", "-n", "-q", "-s"];
/// Options whose value is code.
const CODE: [&str; 4] = ["-r", "-B", "-R", "-E"];

fn service_name(launch: &Launch<'_>) -> ServiceName {
    let name = file_name(launch.executable);
    match launch.command_line() {
        // php-fpm: pool shop
        CommandLine::Title(title) => match title.strip_prefix("php-fpm: pool ") {
            // The default name of the first pool says nothing.
            Some("www") => ServiceName::Worker(None),
            Some(pool) => ServiceName::Worker(presentable(pool).map(Into::into)),
            None if name.starts_with("php-fpm") => ServiceName::of("php-fpm"),
            None => launch.script().map_or(ServiceName::Titled, |path| script(launch, path)),
        },
        CommandLine::Arguments(_) if name.starts_with("php-fpm") => ServiceName::of("php-fpm"),
        CommandLine::Arguments(arguments) => {
            // Arguments after the script, or after `--`, belong to the script.
            let first = positional(&arguments, &FLAGS).next();
            let options = &arguments[..first.map_or(arguments.len(), |(at, _)| at)];
            let ended = options.iter().position(|argument| *argument == "--");
            let options = &options[..ended.unwrap_or(options.len())];
            if option(options, &["-S"]).is_some() {
                let root = launch.absolute(option(options, &["-t"]).unwrap_or("."));
                return ServiceName::of(served(&root).unwrap_or("php"));
            }
            match option(options, &["-f"]).or(first.map(|(_, path)| path)) {
                Some(path) if path != "-" && option(options, &CODE).is_none() => script(launch, path),
                _ => ServiceName::Unknown,
            }
        }
    }
}

fn script(launch: &Launch<'_>, given: &str) -> ServiceName {
    let path = launch.absolute(given);
    let folder = path.parent();
    let project = match file_name(&path) {
        // Laravel's and Symfony's commands.
        "artisan" => folder.and_then(project),
        "console" if folder.is_some_and(|folder| file_name(folder) == "bin") => {
            folder.and_then(|bin| bin.parent()).and_then(project)
        }
        "index.php" => folder.and_then(served),
        _ => None,
    };
    ServiceName::of(project.unwrap_or(stem(given)))
}

/// The project that `folder` is the public folder of, or else the project in it.
fn served(folder: &Path) -> Option<&str> {
    if PUBLIC_FOLDERS.contains(&file_name(folder))
        && let Some(name) = folder.parent().and_then(project)
    {
        return Some(name);
    }
    project(folder)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::sample::named;

    #[rstest]
    #[case::script(&["php", "-d", "memory_limit=1G", "worker.php"], ServiceName::of("worker"))]
    #[case::artisan(&["php", "artisan", "queue:work"], ServiceName::of("shop"))]
    #[case::symfony(&["php", "bin/console", "messenger:consume"], ServiceName::of("shop"))]
    #[case::server(&["php", "-S", "0.0.0.0:80", "-t", "public"], ServiceName::of("shop"))]
    #[case::server_here(&["php", "-S", "0.0.0.0:80"], ServiceName::of("shop"))]
    #[case::option_of_the_script(&["php", "worker.php", "-f", "json", "-S", "fast"], ServiceName::of("worker"))]
    #[case::script_by_option(&["php", "-n", "-f", "worker.php", "--", "-S", "fast"], ServiceName::of("worker"))]
    #[case::script_behind_options(&["php", "--", "worker.php", "-t", "x"], ServiceName::of("worker"))]
    #[case::server_with_router(&["php", "-S", "0.0.0.0:80", "-t", "public", "router.php"], ServiceName::of("shop"))]
    #[case::code_with_arguments(&["php", "-r", "serve();", "80"], ServiceName::Unknown)]
    #[case::front(&["php", "public/index.php"], ServiceName::of("shop"))]
    #[case::code(&["php", "-r", "serve();"], ServiceName::Unknown)]
    #[case::interactive(&["php", "-a"], ServiceName::Unknown)]
    fn php_is_named_after_its_script_or_project(#[case] command: &[&str], #[case] judgement: ServiceName) {
        assert_eq!(named(&PHP, "/usr/bin/php8.2", command, "/srv/shop", &[]), judgement);
    }

    #[rstest]
    #[case::starting(&["php-fpm8.2", "--nodaemonize"], ServiceName::of("php-fpm"))]
    #[case::master(&["php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)"], ServiceName::of("php-fpm"))]
    #[case::pool(&["php-fpm: pool shop"], ServiceName::Worker(Some("shop".into())))]
    #[case::first_pool(&["php-fpm: pool www"], ServiceName::Worker(None))]
    fn each_pool_is_a_service(#[case] command: &[&str], #[case] judgement: ServiceName) {
        assert_eq!(named(&PHP, "/usr/sbin/php-fpm8.2", command, "/", &[]), judgement);
    }
}
