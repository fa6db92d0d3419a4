//! Node, Deno and Bun. A service is named after the package that its script belongs to, or else after the script.

use std::path::Path;

use super::launch::{CommandLine, Launch, ServiceName};
use super::paths::{file_name, stem};
use super::row::{Mark, Runtime, Version, Work};

pub(super) const NODE: Runtime = Runtime {
    name: "node",
    executables: &["node", "nodejs"],
    libraries: &["libnode.so"],
    hints: &[Mark::Symbol("node_module_register")],
    runtime_name: Some("nodejs"),
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
    executables: &["bun"],
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

/// Options that take the next argument as their value. All others have it attached, or have none.
const WITH_VALUE: [&str; 24] = [
    "--conditions",
    "--config",
    "--cwd",
    "--diagnostic-dir",
    "--env-file",
    "--experimental-loader",
    "--icu-data-dir",
    "--import",
    "--import-map",
    "--input-type",
    "--inspect-port",
    "--loader",
    "--location",
    "--openssl-config",
    "--preload",
    "--redirect-warnings",
    "--require",
    "--title",
    "--unhandled-rejections",
    "--watch-path",
    "-C",
    "-c",
    "-r",
    "--seed",
];
/// How many folders above a script are searched for its package.
const FOLDERS_READ: usize = 32;

fn service_name(launch: &Launch<'_>, tool: &Tool) -> ServiceName {
    match launch.command_line() {
        // next-server (v14.1.0)
        CommandLine::Title(_) => match launch.script() {
            Some(path) => script(launch, tool, path),
            None => in_working_directory(launch, tool).unwrap_or(ServiceName::Worker(None)),
        },
        CommandLine::Arguments(arguments) => {
            let mut arguments = arguments.iter();
            let mut subcommand = tool.has_subcommands;
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
                    option if option.starts_with('-') => {}
                    path => return script(launch, tool, path),
                }
            }
            ServiceName::Unknown
        }
    }
}

fn script(launch: &Launch<'_>, tool: &Tool, given: &str) -> ServiceName {
    let path = launch.absolute(given);
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
    use crate::runtimes::sample::named;

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

    #[rstest]
    #[case::repl(&["node"], ServiceName::Unknown)]
    #[case::code(&["node", "-e", "serve()"], ServiceName::Unknown)]
    #[case::title(&["waiting for work"], ServiceName::Worker(None))]
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
