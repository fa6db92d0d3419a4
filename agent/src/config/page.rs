//! Makes docs/options.md: every key of the file, and every option of the command line.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::keys::KEYS;
use super::row::{Key, Kind};
use super::schema::NOT_IMPLEMENTED;
use crate::cli::Cli;

const HEAD: &str = "# Options

<!-- Generated: `cargo xtask docs` writes this page. -->

Every key of the configuration file and every option of the command line. [Configuration](configuration.md) explains how they
work together.

## Keys of the configuration file

The file is OpenTelemetry's declarative configuration, with Onlooker's keys under `extensions.onlooker`. `[]` is any item of
a list. A variable sets the same where no file is used. An option of the command line takes precedence over the file.
";

const REST: &str = "
## Keys without effect

Onlooker accepts these keys of OpenTelemetry's schema, because SDKs may use the same file. It warns that they have no effect.

";

const TOP: &str = "onlooker";
/// This command has the options of another.
const PRINT: &str = "onlooker config print";

/// The page in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut before = None;
    for key in KEYS {
        let section = section_of(key);
        if before.replace(section) != Some(section) {
            let title = if section.is_empty() { "General".to_owned() } else { format!("`{section}`") };
            page += &format!(
                "\n### {title}\n\n| key | takes | default | variable | option | what it does |\n|---|---|---|---|---|---|\n"
            );
        }
        row(&mut page, key, section);
    }
    page += REST;
    for path in NOT_IMPLEMENTED {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "- `{path}`");
    }
    page += "\n## Command line\n";
    let mut cli = Cli::command();
    cli.build();
    commands(&mut page, &cli, TOP);
    page
}

/// The keys above a key, as far as a section of the page has them in common.
fn section_of(key: &Key) -> &'static str {
    const SECTIONS: &[&str] = &[
        "extensions.onlooker.selection[]",
        "extensions.onlooker",
        "tracer_provider.processors[].batch.exporter.otlp_http",
        "tracer_provider.processors[].batch.exporter.otlp_grpc",
        "tracer_provider.processors[].batch",
        "tracer_provider",
        "resource",
    ];
    SECTIONS.iter().find(|section| key.path.starts_with(**section)).copied().unwrap_or_default()
}

fn row(page: &mut String, key: &Key, section: &str) {
    let path = key.path.strip_prefix(section).unwrap_or(key.path).trim_start_matches('.');
    let path = if path.is_empty() { key.name() } else { path };
    let required = if key.is_required { ", required" } else { "" };
    let has_items = |other: &Key| other.path.strip_prefix(key.path).is_some_and(|rest| rest.starts_with('['));
    let takes = match key.kind {
        Kind::Section if KEYS.iter().any(has_items) => "a list".to_owned(),
        Kind::Section => "a map".to_owned(),
        kind => kind.describe(),
    };
    let variables: Vec<_> = key.variables.iter().map(|name| format!("`{name}`")).collect();
    let option = key.flag.map(|flag| format!("`--{}`", flag.replace('_', "-"))).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "| `{path}` | {takes}{required} | {} | {} | {option} | {} |",
        key.default,
        variables.join(", "),
        if key.needs_restart { format!("{} A change needs a restart.", key.doc) } else { key.doc.to_owned() }
    );
}

fn commands(page: &mut String, command: &Command, name: &str) {
    let is_shown = |argument: &&Arg| is_own(argument) && (name == TOP || !argument.is_global_set());
    let options: Vec<_> = command.get_arguments().filter(is_shown).collect();
    if name == PRINT {
        let _ = write!(page, "\n### `{name}`\n\n{}. It takes the options of `onlooker run`.\n", about(command));
    } else if !options.is_empty() {
        let about = about(command);
        let _ = write!(page, "\n### `{name}`\n\n{about}.\n\n| option | default | what it does |\n|---|---|---|\n");
        options.iter().for_each(|argument| option(page, argument));
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        commands(page, below, &format!("{name} {}", below.get_name()));
    }
}

fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    about.trim_end_matches('.').to_owned()
}

/// clap adds options of its own.
fn is_own(argument: &Arg) -> bool {
    !matches!(argument.get_id().as_str(), "help" | "version")
}

fn option(page: &mut String, argument: &Arg) {
    let values: Vec<_> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let takes_value = argument.get_action().takes_values();
    let value = if takes_value { values.join(" ") } else { String::new() };
    let short = argument.get_short().map(|short| format!("-{short}"));
    let names: Vec<_> = short.into_iter().chain(argument.get_long().map(|long| format!("--{long}"))).collect();
    let shown = format!("{} {value}", names.join(", ")).trim().to_owned();
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if takes_value { defaults.join(", ") } else { String::new() };
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.replace("\n\n", ". ");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let _ = writeln!(page, "| `{shown}` | {default} | {help} |");
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    #[test]
    fn the_documentation_has_every_option() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/options.md");
        if env::var_os("WRITE_DOCS").is_some() {
            fs::write(path, page()).expect("the page can be written");
        }
        let found = fs::read_to_string(path).expect("the page can be read");
        assert_eq!(found, page(), "docs/options.md is stale: run `cargo xtask docs`");
    }

    #[test]
    fn every_option_of_a_key_exists() {
        let mut cli = Cli::command();
        cli.build();
        let run = cli.find_subcommand("run").expect("run is a command");
        for flag in KEYS.iter().filter_map(|key| key.flag) {
            assert!(run.get_arguments().any(|argument| argument.get_id() == flag), "{flag}");
        }
    }
}
