//! Python. A service is named after its script, its module, or the application that a server runs.

use std::path::Path;

use compact_str::format_compact;
use onlooker_common::unit;

use super::arguments::{option, positional};
use super::launch::{CommandLine, Launch, ServiceName};
use super::paths::{file_name, project, stem};
use super::row::{Enrolment, Mark, Runtime, Version};
use crate::attach::{UnitOfWork, runtimes};

pub(super) const PYTHON: Runtime = Runtime {
    name: "python",
    executables: &["python", "Python"],
    libraries: &["libpython"],
    hints: &[Mark::Symbol("Py_BytesMain"), Mark::Symbol("Py_Main")],
    version: Version::FileName,
    interprets: true,
    service_name,
    hosts: &["uwsgi"],
    variables: &["FLASK_APP", "DJANGO_SETTINGS_MODULE", GUNICORN_CMD_ARGS],
    sdk_language: Some("python"),
    runtime_name: Some("cpython"),
    enrolment: Enrolment::Without(&["libQt", "libgio-"]),
    unit_of_work: Some(UnitOfWork { kind: unit::PYTHON_CONTEXT, find: runtimes::python::find }),
    ..Runtime::COMPILED
};

pub(super) const PYPY: Runtime = Runtime {
    name: "pypy",
    executables: &["pypy"],
    libraries: &["libpypy"],
    hints: &[],
    runtime_name: Some("pypy"),
    enrolment: Enrolment::OfFirstRequest,
    unit_of_work: None,
    ..PYTHON
};

/// gunicorn's variable with more options.
const GUNICORN_CMD_ARGS: &str = "GUNICORN_CMD_ARGS";
/// Names of modules that say nothing about the application.
const CONVENTIONS: [&str; 4] = ["app", "asgi", "main", "wsgi"];
/// Options of the servers below that take no value.
const FLAGS: [&str; 26] = [
    "--access-log",
    "--call",
    "--capture-output",
    "--check-config",
    "--daemon",
    "--date-header",
    "--debug",
    "--disable-redirect-access-to-syslog",
    "--enable-stdio-inheritance",
    "--expose-tracebacks",
    "--factory",
    "--initgroups",
    "--log-syslog",
    "--preload",
    "--print-config",
    "--proxy-headers",
    "--quiet",
    "--reload",
    "--reuse-port",
    "--server-header",
    "--spew",
    "--use-colors",
    "--ws-per-message-deflate",
    "-D",
    "-R",
    "-v",
];

fn service_name(launch: &Launch<'_>) -> ServiceName {
    match launch.command_line() {
        CommandLine::Title(title) => titled(launch, title),
        CommandLine::Arguments(arguments) if file_name(launch.executable).starts_with("uwsgi") => {
            uwsgi(launch, &arguments)
        }
        CommandLine::Arguments(arguments) => interpreter(launch, &arguments),
    }
}

/// `python [options] script`, `-m module`, `-c code` or `-`, each with arguments of its own after it.
fn interpreter(launch: &Launch<'_>, arguments: &[&str]) -> ServiceName {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        at += 1;
        let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            // `-` is a script on stdin.
            let rest = arguments.get(at..).unwrap_or_default();
            return if *argument == "-" { ServiceName::Unknown } else { script(launch, argument, rest) };
        };
        if letters.starts_with('-') {
            if letters == "-check-hash-based-pycs" {
                at += 1;
            }
            continue;
        }
        // Letters may be joined. The first that has a value takes the rest of them, or the next argument: -Im shop.
        let Some(letter) = letters.find(['c', 'm', 'W', 'X']) else { continue };
        let attached = letters.get(letter + 1..).filter(|value| !value.is_empty());
        let value = attached.or_else(|| arguments.get(at).copied());
        at += usize::from(attached.is_none());
        match (letters.as_bytes().get(letter), value) {
            (Some(b'm'), Some(name)) => return module(launch, name, arguments.get(at..).unwrap_or_default()),
            // multiprocessing starts the workers of a pool like this, and uvicorn its workers.
            (Some(b'c'), Some(code)) if code.contains("multiprocessing") => return ServiceName::Worker(None),
            (Some(b'c' | b'm'), _) => return ServiceName::Unknown,
            _ => {}
        }
    }
    ServiceName::Unknown
}

fn module(launch: &Launch<'_>, name: &str, arguments: &[&str]) -> ServiceName {
    let name = name.strip_suffix(".__main__").unwrap_or(name);
    let package = name.split('.').next().unwrap_or(name);
    // Only the tool itself: celery.apps.x may be any application's module.
    let tool = if name.starts_with("gunicorn") { package } else { name };
    tool_run(launch, tool, arguments).unwrap_or_else(|| ServiceName::of(name))
}

fn script(launch: &Launch<'_>, path: &str, arguments: &[&str]) -> ServiceName {
    let name = file_name(Path::new(path));
    match name {
        "manage.py" | "__main__.py" | "" => {
            let whole = launch.absolute(path);
            let folder = if name.is_empty() { Some(whole.as_path()) } else { whole.parent() };
            ServiceName::of(folder.and_then(project).unwrap_or(stem(path)))
        }
        _ => tool_run(launch, name, arguments).unwrap_or_else(|| ServiceName::of_script(path)),
    }
}

/// What a known tool runs. None if the tool is not known.
fn tool_run(launch: &Launch<'_>, tool: &str, arguments: &[&str]) -> Option<ServiceName> {
    let found = match tool {
        "gunicorn" => gunicorn(launch, arguments),
        "uvicorn" | "hypercorn" | "daphne" | "granian" | "waitress-serve" | "waitress" => served(launch, arguments),
        "flask" => option(arguments, &["-A", "--app"])
            .or(launch.variable("FLASK_APP"))
            .or_else(|| {
                // The order in which Flask looks for them.
                ["wsgi", "app"]
                    .into_iter()
                    .find(|module| (launch.read)(&launch.absolute(&format!("{module}.py"))).is_some())
            })
            .map(|value| application(launch, value)),
        "celery" => {
            let application = option(arguments, &["-A", "--app"]).map(|value| application(launch, value));
            let role = positional(arguments, &FLAGS)
                .map(|(_, word)| word)
                .find(|word| matches!(*word, "worker" | "beat" | "flower"));
            match (application, role) {
                (Some(application), Some(role)) => Some(format!("{application}-{role}")),
                (application, _) => application,
            }
        }
        "fastapi" | "streamlit" => positional(arguments, &FLAGS).nth(1).map(|(_, path)| stem(path).to_owned()),
        "django-admin" | "django" => {
            let settings = option(arguments, &["--settings"]).or(launch.variable("DJANGO_SETTINGS_MODULE"));
            settings.and_then(|settings| settings.split('.').next()).map(str::to_owned)
        }
        _ => return None,
    };
    Some(ServiceName::of(found.as_deref().unwrap_or(tool)))
}

/// gunicorn reads its command line, then `GUNICORN_CMD_ARGS`, then a configuration file.
fn gunicorn(launch: &Launch<'_>, arguments: &[&str]) -> Option<String> {
    let environment: Vec<&str> =
        launch.variable(GUNICORN_CMD_ARGS).unwrap_or_default().split_ascii_whitespace().collect();
    let given = |names: &[&str]| option(arguments, names).or_else(|| option(&environment, names));
    let file = given(&["-c", "--config"]).unwrap_or("gunicorn.conf.py");
    let configuration = (launch.read)(&launch.absolute(file)).unwrap_or_default();
    let name = given(&["-n", "--name"]).or_else(|| setting(&configuration, "proc_name")).map(str::to_owned);
    let application = |found: &str| application(launch, found);
    name.or_else(|| served(launch, arguments))
        .or_else(|| served(launch, &environment))
        .or_else(|| setting(&configuration, "wsgi_app").map(application))
}

/// The text that a configuration file in Python assigns to a variable: `wsgi_app = "shop:app"`.
fn setting<'a>(configuration: &'a str, name: &str) -> Option<&'a str> {
    configuration.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        value[1..].split_once(quote).map(|(text, _)| text).filter(|text| !text.is_empty())
    })
}

/// The application that a WSGI or ASGI server runs: `shop.wsgi:application`.
fn served(launch: &Launch<'_>, arguments: &[&str]) -> Option<String> {
    let words: Vec<&str> = positional(arguments, &FLAGS).map(|(_, word)| word).collect();
    let chosen = words
        .iter()
        .find(|word| names_object(word))
        // An option that is not known here seemed to take it as its value.
        .or_else(|| arguments.iter().find(|word| !word.starts_with('-') && names_object(word)))
        .or(words.last())?;
    Some(application(launch, chosen))
}

/// Whether it is `module:attribute`, not `0.0.0.0:8000` or `unix:/run/shop.sock`.
fn names_object(word: &str) -> bool {
    word.split_once(':').is_some_and(|(module, attribute)| {
        !module.is_empty() && attribute.starts_with(|c: char| c.is_alphabetic() || c == '_')
    })
}

/// The name of an application given as `module`, `module:attribute`, `module:factory("argument")` or a path: its module,
/// without a last part that is only a convention (`shop.wsgi`).
fn application(launch: &Launch<'_>, given: &str) -> String {
    let module = given.split([':', '(']).next().unwrap_or(given);
    let module = if module.contains('/') || module.ends_with(".py") { stem(module) } else { module };
    match module.rsplit_once('.') {
        Some((package, "wsgi" | "asgi" | "celery")) => package.to_owned(),
        None if CONVENTIONS.contains(&module) => launch.project().unwrap_or(module).to_owned(),
        _ => module.to_owned(),
    }
}

/// `uwsgi --module shop:app`, `-w shop:app`, `--wsgi-file shop.py`.
fn uwsgi(launch: &Launch<'_>, arguments: &[&str]) -> ServiceName {
    let given = option(arguments, &["--module", "--wsgi-file", "--file", "--wsgi", "-w"]);
    given.map_or_else(|| ServiceName::of("uwsgi"), |given| ServiceName::of(&application(launch, given)))
}

fn titled(launch: &Launch<'_>, title: &str) -> ServiceName {
    // gunicorn: master [shop:app]
    if let Some(title) = title.strip_prefix("gunicorn:") {
        let shown = title.rsplit_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
        return shown.map_or(ServiceName::Titled, |shown| ServiceName::of(&application(launch, shown)));
    }
    // [celeryd: celery@host:ForkPoolWorker-1] -active- (worker -A shop)
    if title.starts_with("[celery") {
        let command = title.rsplit_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
        let arguments: Vec<&str> = command.split_ascii_whitespace().collect();
        return match tool_run(launch, "celery", &arguments) {
            Some(ServiceName::Known(name)) if name != format_compact!("celery") => ServiceName::Known(name),
            _ => ServiceName::Titled,
        };
    }
    match launch.script() {
        Some(path) if !path.ends_with("/gunicorn") => script(launch, path, &[]),
        _ => ServiceName::Titled,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::sample::{named, named_in};

    #[rstest]
    #[case::script(&["python3", "/srv/shop/checkout.py", "--port", "80"], "checkout")]
    #[case::script_without_extension(&["python3", "/venv/bin/shop-server"], "shop-server")]
    #[case::options_before(&["python3", "-u", "-W", "ignore", "-Xdev", "checkout.py"], "checkout")]
    #[case::module(&["python3", "-m", "shop.web"], "shop.web")]
    #[case::module_run_together(&["python3", "-Im", "shop.web"], "shop.web")]
    #[case::module_attached(&["python3", "-mshop"], "shop")]
    #[case::main_of_package(&["python3", "-m", "shop.__main__"], "shop")]
    #[case::main_by_path(&["python3", "/srv/shop/__main__.py"], "shop")]
    #[case::standard_library(&["python3", "-m", "http.server", "8000"], "http.server")]
    #[case::manage(&["python3", "manage.py", "runserver"], "depot")]
    #[case::manage_elsewhere(&["python3", "../shop/manage.py", "runserver"], "shop")]
    #[case::folder(&["python3", "."], "depot")]
    #[case::gunicorn(&["/venv/bin/python", "/venv/bin/gunicorn", "shop:app"], "shop")]
    #[case::gunicorn_options(&["python", "/venv/bin/gunicorn", "-w", "4", "-b", "0.0.0.0:8000", "--reload", "-k", "gthread", "shop:app"], "shop")]
    #[case::gunicorn_unix(&["python", "/venv/bin/gunicorn", "--bind", "unix:/run/shop.sock", "shop.web:create()"], "shop.web")]
    #[case::gunicorn_django(&["python", "/venv/bin/gunicorn", "shop.wsgi", "--workers", "3"], "shop")]
    #[case::gunicorn_django_object(&["python", "/venv/bin/gunicorn", "shop.wsgi:application"], "shop")]
    #[case::gunicorn_named(&["python", "/venv/bin/gunicorn", "--name", "checkout", "shop:app"], "checkout")]
    #[case::gunicorn_only_convention(&["python", "/venv/bin/gunicorn", "wsgi:app"], "depot")]
    #[case::gunicorn_configured_by_file(&["python", "/venv/bin/gunicorn", "-c", "gunicorn.conf.py"], "gunicorn")]
    #[case::gunicorn_module(&["python", "-m", "gunicorn", "shop:app"], "shop")]
    #[case::gunicorn_application_module(&["python", "-m", "gunicorn.app.wsgiapp", "shop:app"], "shop")]
    #[case::option_unknown_here(&["python", "/venv/bin/gunicorn", "--new-flag", "shop:app"], "shop")]
    #[case::uvicorn(&["python", "/venv/bin/uvicorn", "pkg.main:app", "--host", "0.0.0.0", "--proxy-headers"], "pkg.main")]
    #[case::uvicorn_module(&["python", "-m", "uvicorn", "--factory", "shop.web:create", "--port", "80"], "shop.web")]
    #[case::hypercorn(&["python", "/venv/bin/hypercorn", "-b", "0.0.0.0:80", "shop.asgi:application"], "shop")]
    #[case::waitress(&["python", "/venv/bin/waitress-serve", "--port=80", "--call", "shop:create_app"], "shop")]
    #[case::flask(&["python", "-m", "flask", "--app", "shop", "run"], "shop")]
    #[case::flask_path(&["python", "/venv/bin/flask", "--app=web/shop.py", "run", "-p", "80"], "shop")]
    #[case::flask_factory(&["python", "/venv/bin/flask", "-A", "shop:create_app('dev')", "run"], "shop")]
    #[case::flask_without(&["python", "/venv/bin/flask", "run"], "flask")]
    #[case::celery(&["python", "/venv/bin/celery", "-A", "shop", "worker", "-l", "info"], "shop-worker")]
    #[case::celery_beat(&["python", "-m", "celery", "--app=shop.celery:app", "beat"], "shop-beat")]
    #[case::fastapi(&["python", "/venv/bin/fastapi", "run", "web/checkout.py"], "checkout")]
    #[case::streamlit(&["python", "/venv/bin/streamlit", "run", "board.py"], "board")]
    #[case::script_called_like_a_tool(&["python", "celery.py"], "celery")]
    #[case::title_of_gunicorn(&["gunicorn: master [shop:app]"], "shop")]
    #[case::title_of_its_worker(&["gunicorn: worker [shop.wsgi]"], "shop")]
    #[case::title_of_celery(&["[celeryd: celery@host:MainProcess] -active- (worker -A shop -l info)"], "shop-worker")]
    fn python_is_named_after_what_it_runs(#[case] command: &[&str], #[case] name: &str) {
        let judgement = named(&PYTHON, "/usr/bin/python3.11", command, "/srv/depot", &[]);
        assert_eq!(judgement, ServiceName::of(name));
    }

    #[rstest]
    #[case::repl(&["python3"], ServiceName::Unknown)]
    #[case::code(&["python3", "-c", "serve()"], ServiceName::Unknown)]
    #[case::standard_input(&["python3", "-"], ServiceName::Unknown)]
    #[case::module_missing(&["python3", "-m"], ServiceName::Unknown)]
    #[case::spawned_worker(&["python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()", "--multiprocessing-fork"], ServiceName::Worker(None))]
    #[case::resource_tracker(&["python3", "-sc", "from multiprocessing.resource_tracker import main;main(5)"], ServiceName::Worker(None))]
    #[case::title_of_its_own(&["shop: waiting for work"], ServiceName::Titled)]
    #[case::title_of_celery_without(&["[celeryd: celery@host:ForkPoolWorker-1]"], ServiceName::Titled)]
    fn python_without_a_script_is_unknown(#[case] command: &[&str], #[case] judgement: ServiceName) {
        assert_eq!(named(&PYTHON, "/usr/bin/python3.11", command, "/srv/depot", &[]), judgement);
    }

    /// Issue 7, fault 3.
    #[rstest]
    #[case::conventional_module(&["python", "/venv/bin/uvicorn", "main:app"], &[], &[], "depot")]
    #[case::configuration(&["python", "/venv/bin/gunicorn"], &[("/srv/depot/gunicorn.conf.py", "workers = 4\nwsgi_app = 'shop.web:app'\n")], &[], "shop.web")]
    #[case::configuration_by_option(&["python", "/venv/bin/gunicorn", "-c", "conf/g.py"], &[("/srv/depot/conf/g.py", "wsgi_app=\"shop:app\" # all\n")], &[], "shop")]
    #[case::name_in_configuration(&["python", "/venv/bin/gunicorn", "web:app"], &[("/srv/depot/gunicorn.conf.py", "proc_name = \"shop\"")], &[], "shop")]
    #[case::environment(&["python", "/venv/bin/gunicorn", "web:app"], &[], &[(GUNICORN_CMD_ARGS, "--workers=3 --name=shop")], "shop")]
    #[case::command_line_first(&["python", "/venv/bin/gunicorn", "--name", "shop", "web:app"], &[], &[(GUNICORN_CMD_ARGS, "--name other")], "shop")]
    fn an_application_server_is_named_by_its_configuration(
        #[case] command: &[&str],
        #[case] files: &[(&str, &str)],
        #[case] variables: &[(&'static str, &str)],
        #[case] name: &str,
    ) {
        let found = named_in(&PYTHON, "/usr/bin/python3.11", None, command, "/srv/depot", files, variables);
        assert_eq!(found, ServiceName::of(name));
    }

    #[test]
    fn flask_without_an_option_is_named_by_its_file_or_variable() {
        let run = ["python3", "/venv/bin/flask", "run"];
        let python = "/usr/bin/python3.11";
        let by_file = named(&PYTHON, python, &run, "/srv/depot", &[("/srv/depot/app.py", "")]);
        assert_eq!(by_file, ServiceName::of("depot"));
        let variables = [("FLASK_APP", "shop/web.py")];
        let by_environment = named_in(&PYTHON, python, None, &run, "/srv/depot", &[], &variables);
        assert_eq!(by_environment, ServiceName::of("web"));
    }

    #[test]
    fn a_script_with_a_rewritten_title_is_named_after_the_script() {
        let judge = |script| {
            let title = ["shop: 3 requests"];
            named_in(&PYTHON, "/usr/bin/python3.11", Some(script), &title, "/", &[], &[])
        };
        assert_eq!(judge("/srv/shop/checkout.py"), ServiceName::of("checkout"));
        assert_eq!(judge("/usr/bin/python3"), ServiceName::Titled);
    }

    #[rstest]
    #[case(&["uwsgi", "--http", ":80", "--module", "shop.wsgi:application"], "shop")]
    #[case(&["uwsgi", "--ini", "shop.ini"], "uwsgi")]
    fn uwsgi_is_named_after_its_application(#[case] command: &[&str], #[case] name: &str) {
        assert_eq!(named(&PYTHON, "/usr/bin/uwsgi-core", command, "/", &[]), ServiceName::of(name));
    }
}
