//! Node, Deno and Bun. A service is named after the package that its script belongs to, or else after the script.

use std::path::Path;

use onlooker_common::unit;

use super::launch::{CommandLine, Launch, ServiceName};
use super::paths::{file_name, stem};
use super::row::{Enrolment, Mark, Runtime, Version, Work};
use crate::attach::UnitOfWork;
use crate::attach::runtimes::node;

pub(super) const NODE: Runtime = Runtime {
    name: "node",
    executables: &["node", "nodejs"],
    libraries: &["libnode.so"],
    hints: &[Mark::Symbol("node_module_register")],
    variables: &[PM2_VARIABLE, PM2_CLUSTER_VARIABLE],
    runtime_name: Some("nodejs"),
    enrolment: Enrolment::OfEveryRequest,
    unit_of_work: Some(UnitOfWork { kind: unit::ASYNC_ID, find: node::find }),
    functions: Some(node::functions),
    service_name: |launch| service_name(launch, &Tool { has_subcommands: false, manifests: &["package.json"] }),
    ..EVENT_LOOP
};

pub(super) const DENO: Runtime = Runtime {
    name: "deno",
    executables: &["deno"],
    runtime_name: Some("deno"),
    service_name: |launch| {
        service_name(launch, &Tool { has_subcommands: true, manifests: &["deno.json", "package.json"] })
    },
    ..EVENT_LOOP
};

pub(super) const BUN: Runtime = Runtime {
    name: "bun",
    // Installed from npm, it is bun.exe on all systems.
    executables: &["bun", "bun.exe"],
    runtime_name: Some("bun"),
    service_name: |launch| service_name(launch, &Tool { has_subcommands: true, manifests: &["package.json"] }),
    ..EVENT_LOOP
};

/// What the three have in common.
const EVENT_LOOP: Runtime = Runtime {
    version: Version::FileName,
    work: Work::EventLoop,
    interprets: true,
    sdk_language: Some("nodejs"),
    ..Runtime::COMPILED
};

/// How the command lines of the three differ.
struct Tool {
    /// Whether a word such as `run` stands before the script.
    has_subcommands: bool,
    /// Files that hold a package's name, in the order in which the tool reads them.
    manifests: &'static [&'static str],
}

/// Options that take the next argument as their value, in particular all whose value may be a file.
const WITH_VALUE: [&str; 45] = [
    "--allow-fs-read",
    "--allow-fs-write",
    "--build-snapshot-config",
    "--conditions",
    "--config",
    "--cpu-prof-dir",
    "--cpu-prof-name",
    "--cwd",
    "--diagnostic-dir",
    "--disable-warning",
    "--dns-result-order",
    "--env-file",
    "--env-file-if-exists",
    "--experimental-config-file",
    "--experimental-loader",
    "--heap-prof-dir",
    "--heap-prof-name",
    "--icu-data-dir",
    "--import",
    "--import-map",
    "--input-type",
    "--inspect-port",
    "--loader",
    "--localstorage-file",
    "--location",
    "--max-http-header-size",
    "--openssl-config",
    "--preload",
    "--redirect-warnings",
    "--report-dir",
    "--report-directory",
    "--report-filename",
    "--require",
    "--snapshot-blob",
    "--test-global-setup",
    "--test-reporter-destination",
    "--title",
    "--tls-keylog",
    "--trace-event-file-pattern",
    "--unhandled-rejections",
    "--watch-path",
    "-C",
    "-c",
    "-r",
    "--seed",
];
/// pm2's variable with the path of the script, in fork mode.
const PM2_VARIABLE: &str = "pm_exec_path";
/// The variable in cluster mode, a JSON object with the same key.
const PM2_CLUSTER_VARIABLE: &str = "pm2_env";
/// How many folders above a script are searched for its package.
const FOLDERS_READ: usize = 32;

fn service_name(launch: &Launch<'_>, tool: &Tool) -> ServiceName {
    match launch.command_line() {
        // next-server (v14.1.0)
        CommandLine::Title(_) => match launch.script() {
            Some(path) => script(launch, tool, path),
            None => in_working_directory(launch, tool).unwrap_or(ServiceName::Titled),
        },
        CommandLine::Arguments(arguments) => {
            let mut arguments = arguments.iter();
            let mut subcommand = tool.has_subcommands;
            // An option that is not known here may have a value, which could be a secret. From there on, only a word that
            // exists is the script.
            let mut must_exist = false;
            while let Some(argument) = arguments.next() {
                match *argument {
                    // Code on the command line, or on stdin.
                    "-e" | "--eval" | "-p" | "--print" | "-" | "eval" => return ServiceName::Unknown,
                    "run" | "serve" | "x" if subcommand => subcommand = false,
                    "task" | "start" | "test" | "install" if subcommand => {
                        return in_working_directory(launch, tool).unwrap_or(ServiceName::Unknown);
                    }
                    option if WITH_VALUE.contains(&option) => {
                        arguments.next();
                    }
                    option if option.starts_with('-') => must_exist |= !option.contains('='),
                    word if must_exist && !is_script(launch, word) => {}
                    path => return script(launch, tool, path),
                }
            }
            if must_exist {
                return in_working_directory(launch, tool).unwrap_or(ServiceName::Unknown);
            }
            ServiceName::Unknown
        }
    }
}

/// Whether a word names something that can be run: a file, also without its extension, or a URL.
fn is_script(launch: &Launch<'_>, word: &str) -> bool {
    const EXTENSIONS: [&str; 6] = ["", ".js", ".mjs", ".cjs", ".ts", ".json"];
    let exists = |extension: &&str| (launch.exists)(&launch.absolute(&format!("{word}{extension}")));
    word.contains("://") || EXTENSIONS.iter().any(exists)
}

/// The script that pm2 was given. Its own script only loads that one, and later shows it in a title.
fn script_of_pm2(launch: &Launch<'_>, path: &Path) -> Option<String> {
    let is_container =
        path.ends_with("pm2/lib/ProcessContainerFork.js") || path.ends_with("pm2/lib/ProcessContainer.js");
    let in_cluster = || {
        let environment: serde_json::Value = serde_json::from_str(launch.variable(PM2_CLUSTER_VARIABLE)?).ok()?;
        environment.get(PM2_VARIABLE)?.as_str().map(str::to_owned)
    };
    is_container.then(|| launch.variable(PM2_VARIABLE).map(str::to_owned).or_else(in_cluster))?
}

fn script(launch: &Launch<'_>, tool: &Tool, given: &str) -> ServiceName {
    let path = launch.absolute(given);
    if let Some(script_path) = script_of_pm2(launch, &path) {
        return script(launch, tool, &script_path);
    }
    // A tool that a package depends on runs for that package.
    let depends = path.ancestors().filter(|folder| file_name(folder) == "node_modules").last().and_then(Path::parent);
    let package = match depends {
        Some(above) => package(launch, tool, above)
            .or_else(|| package(launch, tool, launch.working_directory?))
            .or_else(|| package(launch, tool, path.parent()?)),
        // `node .` names a folder.
        None => package(launch, tool, &path),
    };
    if let Some(package) = package {
        return ServiceName::of(&package);
    }
    match stem(given) {
        "index" | "" => {
            ServiceName::of(path.parent().map(file_name).filter(|name| !name.is_empty()).unwrap_or("index"))
        }
        "." | ".." => ServiceName::of(file_name(&path)),
        stem => ServiceName::of(stem),
    }
}

fn in_working_directory(launch: &Launch<'_>, tool: &Tool) -> Option<ServiceName> {
    package(launch, tool, launch.working_directory?).map(|name| ServiceName::of(&name))
}

/// The name in the nearest manifest that has one, from `folder` upwards.
fn package(launch: &Launch<'_>, tool: &Tool, folder: &Path) -> Option<String> {
    folder.ancestors().take(FOLDERS_READ).find_map(|folder| {
        tool.manifests.iter().find_map(|manifest| {
            let text = (launch.read)(&folder.join(manifest))?;
            let manifest: serde_json::Value = serde_json::from_str(&text).ok()?;
            let name = manifest.get("name")?.as_str()?.trim();
            (!name.is_empty()).then(|| name.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::sample::{named, named_in};

    const SHOP: (&str, &str) = ("/srv/shop/package.json", r#"{"name": "@acme/shop", "version": "1.2.0"}"#);
    const NAMELESS: (&str, &str) = ("/srv/shop/dist/package.json", r#"{"type": "module"}"#);
    const NEXT: (&str, &str) = ("/srv/shop/node_modules/next/package.json", r#"{"name": "next"}"#);
    const GLOBAL: (&str, &str) = ("/usr/lib/node_modules/http-server/package.json", r#"{"name": "http-server"}"#);
    const BROKEN: (&str, &str) = ("/srv/broken/package.json", r#"{"name": ["#);

    #[rstest]
    #[case::package(&["node", "server.js"], "/srv/shop", "@acme/shop")]
    #[case::nearest_with_a_name(&["node", "dist/main.js"], "/srv/shop", "@acme/shop")]
    #[case::folder_named(&["node", "."], "/srv/shop", "@acme/shop")]
    #[case::options(&["node", "--require", "./tracing.js", "--max-old-space-size=512", "-r", "x", "server.js"], "/srv/shop", "@acme/shop")]
    #[case::tool_of_the_package(&["node", "/srv/shop/node_modules/next/dist/bin/next", "start"], "/", "@acme/shop")]
    #[case::tool_by_link(&["node", "node_modules/.bin/next", "start"], "/srv/shop", "@acme/shop")]
    #[case::global_tool_in_a_package(&["node", "/usr/lib/node_modules/http-server/bin/http-server"], "/srv/shop", "@acme/shop")]
    #[case::global_tool(&["node", "/usr/lib/node_modules/http-server/bin/http-server"], "/srv", "http-server")]
    #[case::script_without_package(&["node", "/opt/checkout.mjs"], "/", "checkout")]
    #[case::index_without_package(&["node", "/opt/checkout/index.js"], "/", "checkout")]
    #[case::broken_package(&["node", "/srv/broken/checkout.js"], "/", "checkout")]
    #[case::title_in_a_package(&["next-server (v14.1.0)"], "/srv/shop", "@acme/shop")]
    #[case::title_with_the_script(&["node /opt/checkout.js"], "/", "checkout")]
    fn node_is_named_after_its_package_or_script(#[case] command: &[&str], #[case] folder: &str, #[case] name: &str) {
        let files = [SHOP, NAMELESS, NEXT, GLOBAL, BROKEN];
        assert_eq!(named(&NODE, "/usr/bin/node", command, folder, &files), ServiceName::of(name));
    }

    /// Issue 7, fault 3.
    #[rstest]
    #[case::known_option(&["node", "--dns-result-order", "ipv4first", "server.js"], ServiceName::of("server"))]
    #[case::number(&["node", "--max-http-header-size", "65536", "server.js"], ServiceName::of("server"))]
    #[case::warning(&["node", "--disable-warning", "DEP0040", "server.js"], ServiceName::of("server"))]
    #[case::file_that_exists(&["node", "--env-file-if-exists", ".env", "server.js"], ServiceName::of("server"))]
    #[case::unknown_option(&["node", "--new-token", "s3cret", "server.js"], ServiceName::of("server"))]
    #[case::unknown_flag(&["node", "--new-flag", "server.js", "s3cret"], ServiceName::of("server"))]
    #[case::without_extension(&["node", "--new-flag", "server"], ServiceName::of("server"))]
    #[case::only_an_option(&["node", "--new-token", "s3cret"], ServiceName::Unknown)]
    #[case::script_that_is_gone(&["node", "--new-flag", "gone.js", "s3cret"], ServiceName::Unknown)]
    fn the_value_of_an_option_is_not_a_script(#[case] command: &[&str], #[case] expected: ServiceName) {
        let files = [("/srv/server.js", ""), ("/srv/.env", "")];
        assert_eq!(named(&NODE, "/usr/bin/node", command, "/srv", &files), expected);
    }

    /// Issue 7, fault 3.
    #[test]
    fn a_port_of_deno_is_not_a_script() {
        let command = ["deno", "serve", "--port", "8080", "serve.ts"];
        assert_eq!(named(&DENO, "deno", &command, "/srv", &[("/srv/serve.ts", "")]), ServiceName::of("serve"));
    }

    /// Issue 7, fault 3.
    #[test]
    fn bun_from_npm_is_bun() {
        let bun = "/srv/node_modules/bun/bin/bun.exe";
        assert_eq!(crate::runtimes::by_executable("bun.exe"), Some(&BUN));
        assert_eq!(named(&BUN, bun, &["bun", "run", "checkout.ts"], "/srv", &[]), ServiceName::of("checkout"));
    }

    /// Issue 7, fault 19.
    #[test]
    fn an_application_of_pm2_is_not_named_after_the_folder_of_pm2() {
        let files = [("/srv/tools/package.json", r#"{"name": "tools"}"#)];
        let container = ["node", "/usr/lib/node_modules/pm2/lib/ProcessContainerFork.js"];
        let fork = [("pm_exec_path", "/srv/shop/checkout.js")];
        let found = named_in(&NODE, "/usr/bin/node", None, &container, "/srv/tools", &files, &fork);
        assert_eq!(found, ServiceName::of("checkout"));
        let container = ["node", "/usr/lib/node_modules/pm2/lib/ProcessContainer.js"];
        let cluster = [("pm2_env", r#"{"pm_exec_path": "/srv/shop/checkout.js"}"#)];
        let found = named_in(&NODE, "/usr/bin/node", None, &container, "/srv/tools", &files, &cluster);
        assert_eq!(found, ServiceName::of("checkout"));
    }

    /// Issue 7, fault 19.
    #[test]
    fn a_renamed_node_is_named_after_its_script() {
        let named = |command: &[&str]| named(&NODE, "/opt/shop/worker", command, "/srv", &[("/srv/checkout.js", "")]);
        assert_eq!(named(&["worker", "checkout.js"]), ServiceName::of("checkout"));
        // A single executable application.
        assert_eq!(named(&["worker", "--port", "80"]), ServiceName::of("worker"));
    }

    #[rstest]
    #[case::repl(&["node"], ServiceName::Unknown)]
    #[case::code(&["node", "-e", "serve()"], ServiceName::Unknown)]
    #[case::title(&["waiting for work"], ServiceName::Titled)]
    fn node_without_a_script_is_unknown(#[case] command: &[&str], #[case] judgement: ServiceName) {
        assert_eq!(named(&NODE, "/usr/bin/node", command, "/", &[]), judgement);
    }

    #[rstest]
    #[case::deno(&DENO, "deno", &["deno", "run", "-A", "--config", "x.json", "main.ts"], "depot")]
    #[case::deno_remote(&DENO, "deno", &["deno", "run", "https://shop.example/checkout.ts"], "depot")]
    #[case::bun(&BUN, "bun", &["bun", "--watch", "run", "checkout.ts"], "depot-bun")]
    #[case::bun_script_of_package(&BUN, "bun", &["bun", "start"], "depot-bun")]
    fn deno_and_bun_are_named_after_their_package(
        #[case] runtime: &Runtime,
        #[case] exe: &str,
        #[case] command: &[&str],
        #[case] name: &str,
    ) {
        let files = [("/srv/deno.json", r#"{"name": "depot"}"#), ("/srv/package.json", r#"{"name": "depot-bun"}"#)];
        assert_eq!(named(runtime, exe, command, "/srv", &files), ServiceName::of(name));
    }
}
