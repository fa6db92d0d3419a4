//! Node, Deno and Bun: the package that the script belongs to, else the script.

use std::path::Path;

use super::{Command, Judgement, Launch, file_name, named, stem};
use crate::discover::runtime::Program;

/// Options that take the next argument for their value; all others have theirs attached or have none.
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
/// Folders above a script that are looked through for its package.
const FOLDERS_READ: usize = 32;

pub(super) fn judge(launch: &Launch<'_>) -> Judgement {
    match launch.command() {
        // next-server (v14.1.0)
        Command::Title(_) => match launch.script() {
            Some(path) => script(launch, path),
            None => in_working_directory(launch).unwrap_or(Judgement::Worker(None)),
        },
        Command::Arguments(arguments) => {
            let mut arguments = arguments.iter();
            let mut subcommand = launch.program != Program::Node;
            while let Some(argument) = arguments.next() {
                match *argument {
                    // Code on the command line, or on stdin.
                    "-e" | "--eval" | "-p" | "--print" | "-" | "eval" => return Judgement::Unknown,
                    "run" | "serve" | "x" if subcommand => subcommand = false,
                    "task" | "start" | "test" | "install" if subcommand => {
                        return in_working_directory(launch).unwrap_or(Judgement::Unknown);
                    }
                    option if WITH_VALUE.contains(&option) => {
                        arguments.next();
                    }
                    option if option.starts_with('-') => {}
                    path => return script(launch, path),
                }
            }
            Judgement::Unknown
        }
    }
}

fn script(launch: &Launch<'_>, given: &str) -> Judgement {
    let path = launch.absolute(given);
    // A tool that a package brought runs for the package it was brought into.
    let brought = path.ancestors().filter(|folder| file_name(folder) == "node_modules").last().and_then(Path::parent);
    let package = match brought {
        Some(above) => package(launch, above)
            .or_else(|| package(launch, launch.working_directory?))
            .or_else(|| package(launch, path.parent()?)),
        // `node .` names a folder.
        None => package(launch, &path),
    };
    if let Some(package) = package {
        return named(&package);
    }
    match stem(given) {
        "index" | "" => named(path.parent().map(file_name).filter(|name| !name.is_empty()).unwrap_or("index")),
        "." | ".." => named(file_name(&path)),
        stem => named(stem),
    }
}

fn in_working_directory(launch: &Launch<'_>) -> Option<Judgement> {
    package(launch, launch.working_directory?).map(|name| named(&name))
}

/// The name in the nearest manifest that has one, from `folder` upwards.
fn package(launch: &Launch<'_>, folder: &Path) -> Option<String> {
    let manifests: &[&str] = match launch.program {
        Program::Deno => &["deno.json", "package.json"],
        _ => &["package.json"],
    };
    folder.ancestors().take(FOLDERS_READ).find_map(|folder| {
        manifests.iter().find_map(|manifest| {
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

    use super::super::tests::judged;
    use super::*;

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
    fn node_is_its_package_or_script(#[case] command: &[&str], #[case] folder: &str, #[case] name: &str) {
        let files = [SHOP, NAMELESS, NEXT, GLOBAL, BROKEN];
        assert_eq!(judged(Program::Node, "/usr/bin/node", command, folder, &files), named(name));
    }

    #[rstest]
    #[case::repl(&["node"], Judgement::Unknown)]
    #[case::code(&["node", "-e", "serve()"], Judgement::Unknown)]
    #[case::title(&["waiting for work"], Judgement::Worker(None))]
    fn node_that_does_not_tell(#[case] command: &[&str], #[case] judgement: Judgement) {
        assert_eq!(judged(Program::Node, "/usr/bin/node", command, "/", &[]), judgement);
    }

    #[rstest]
    #[case::deno(Program::Deno, "deno", &["deno", "run", "-A", "--config", "x.json", "main.ts"], "depot")]
    #[case::deno_remote(Program::Deno, "deno", &["deno", "run", "https://shop.example/checkout.ts"], "depot")]
    #[case::bun(Program::Bun, "bun", &["bun", "--watch", "run", "checkout.ts"], "depot-bun")]
    #[case::bun_script_of_package(Program::Bun, "bun", &["bun", "start"], "depot-bun")]
    fn deno_and_bun_too(#[case] program: Program, #[case] exe: &str, #[case] command: &[&str], #[case] name: &str) {
        let files = [("/srv/deno.json", r#"{"name": "depot"}"#), ("/srv/package.json", r#"{"name": "depot-bun"}"#)];
        assert_eq!(judged(program, exe, command, "/srv", &files), named(name));
    }
}
