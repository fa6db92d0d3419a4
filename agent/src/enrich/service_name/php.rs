//! PHP: the pool of php-fpm, or the project that the script is of.

use super::{Command, Judgement, Launch, file_name, named, option, positional, presentable, project, stem};

/// Folders in a project that a web server is pointed to.
const PUBLIC_FOLDERS: [&str; 6] = ["public", "web", "www", "html", "htdocs", "public_html"];
/// Options of the interpreter that take no value.
const FLAGS: [&str; 9] = ["-a", "-C", "-H", "-i", "-l", "-m", "-n", "-q", "-s"];
/// Options whose value is code.
const CODE: [&str; 4] = ["-r", "-B", "-R", "-E"];

pub(super) fn judge(launch: &Launch<'_>) -> Judgement {
    let name = file_name(launch.executable);
    match launch.command() {
        // php-fpm: pool shop
        Command::Title(title) => match title.strip_prefix("php-fpm: pool ") {
            // What every installation's first pool is called says nothing.
            Some("www") => Judgement::Worker(None),
            Some(pool) => Judgement::Worker(presentable(pool).map(Into::into)),
            None if name.starts_with("php-fpm") => named("php-fpm"),
            None => launch.script().map_or(Judgement::Worker(None), |path| script(launch, path)),
        },
        Command::Arguments(_) if name.starts_with("php-fpm") => named("php-fpm"),
        Command::Arguments(arguments) => {
            // Behind the script, or what ends the options, all is the script's.
            let first = positional(&arguments, &FLAGS).next();
            let options = &arguments[..first.map_or(arguments.len(), |(at, _)| at)];
            let ended = options.iter().position(|argument| *argument == "--");
            let options = &options[..ended.unwrap_or(options.len())];
            if option(options, &["-S"]).is_some() {
                let root = launch.absolute(option(options, &["-t"]).unwrap_or("."));
                return named(served(&root).unwrap_or("php"));
            }
            match option(options, &["-f"]).or(first.map(|(_, path)| path)) {
                Some(path) if path != "-" && option(options, &CODE).is_none() => script(launch, path),
                _ => Judgement::Unknown,
            }
        }
    }
}

fn script(launch: &Launch<'_>, given: &str) -> Judgement {
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
    named(project.unwrap_or(stem(given)))
}

/// The project whose public folder this may be.
fn served(folder: &std::path::Path) -> Option<&str> {
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

    use super::super::tests::judged;
    use super::*;
    use crate::discover::runtime::Program;

    #[rstest]
    #[case::script(&["php", "-d", "memory_limit=1G", "worker.php"], named("worker"))]
    #[case::artisan(&["php", "artisan", "queue:work"], named("shop"))]
    #[case::symfony(&["php", "bin/console", "messenger:consume"], named("shop"))]
    #[case::server(&["php", "-S", "0.0.0.0:80", "-t", "public"], named("shop"))]
    #[case::server_here(&["php", "-S", "0.0.0.0:80"], named("shop"))]
    #[case::option_of_the_script(&["php", "worker.php", "-f", "json", "-S", "fast"], named("worker"))]
    #[case::script_by_option(&["php", "-n", "-f", "worker.php", "--", "-S", "fast"], named("worker"))]
    #[case::script_behind_options(&["php", "--", "worker.php", "-t", "x"], named("worker"))]
    #[case::server_with_router(&["php", "-S", "0.0.0.0:80", "-t", "public", "router.php"], named("shop"))]
    #[case::code_with_arguments(&["php", "-r", "serve();", "80"], Judgement::Unknown)]
    #[case::front(&["php", "public/index.php"], named("shop"))]
    #[case::code(&["php", "-r", "serve();"], Judgement::Unknown)]
    #[case::interactive(&["php", "-a"], Judgement::Unknown)]
    fn php_is_its_script_or_project(#[case] command: &[&str], #[case] judgement: Judgement) {
        assert_eq!(judged(Program::Php, "/usr/bin/php8.2", command, "/srv/shop", &[]), judgement);
    }

    #[rstest]
    #[case::starting(&["php-fpm8.2", "--nodaemonize"], named("php-fpm"))]
    #[case::master(&["php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)"], named("php-fpm"))]
    #[case::pool(&["php-fpm: pool shop"], Judgement::Worker(Some("shop".into())))]
    #[case::first_pool(&["php-fpm: pool www"], Judgement::Worker(None))]
    fn pools_are_services_of_their_own(#[case] command: &[&str], #[case] judgement: Judgement) {
        assert_eq!(judged(Program::Php, "/usr/sbin/php-fpm8.2", command, "/", &[]), judgement);
    }
}
