//! The project's developer commands, one file each: `cargo xtask <verb>`.

mod bench;
mod build;
mod build_ebpf;
mod ci;
mod cluster;
mod demo;
mod docs;
mod fuzz;
mod gateway;
mod go_offsets;
mod http2_matrix;
mod lint;
mod manifests;
mod mutants;
mod package;
mod run;
mod same_bytes;
mod setup;
mod shell;
mod soak;
mod sql_check;
mod test;
mod tls_matrix;
mod vm;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{ArgMatches, Command};

/// The options of a verb and what it does with them. The first line of the type's doc comment is the verb's help.
trait Verb: clap::Args {
    /// Returns the exit code of the process. An error is printed and exits with 1.
    fn run(&self) -> Result<ExitCode>;
}

/// A row of [`VERBS`].
struct Entry {
    name: &'static str,
    options: fn(Command) -> Command,
    run: fn(&ArgMatches) -> Result<ExitCode>,
}

impl Entry {
    const fn of<V: Verb>(name: &'static str) -> Self {
        Self {
            name,
            options: V::augment_args,
            run: |matches| V::from_arg_matches(matches).context("clap checked the arguments")?.run(),
        }
    }
}

/// All verbs, in the order of `--help`.
const VERBS: &[Entry] = &[
    Entry::of::<setup::Options>("setup"),
    Entry::of::<build::Options>("build"),
    Entry::of::<build_ebpf::Options>("build-ebpf"),
    Entry::of::<package::Options>("package"),
    Entry::of::<run::Options>("run"),
    Entry::of::<demo::Options>("demo"),
    Entry::of::<docs::Options>("docs"),
    Entry::of::<test::Options>("test"),
    Entry::of::<lint::Options>("lint"),
    Entry::of::<ci::Options>("ci"),
    Entry::of::<fuzz::Options>("fuzz"),
    Entry::of::<go_offsets::Options>("go-offsets"),
    Entry::of::<http2_matrix::Options>("http2-matrix"),
    Entry::of::<tls_matrix::Options>("tls-matrix"),
    Entry::of::<same_bytes::Options>("same-bytes"),
    Entry::of::<mutants::Options>("mutants"),
    Entry::of::<sql_check::Options>("sql-check"),
    Entry::of::<bench::Options>("bench"),
    Entry::of::<vm::Options>("vm"),
    Entry::of::<gateway::Options>("gateway"),
    Entry::of::<manifests::Options>("manifests"),
    Entry::of::<cluster::Options>("cluster"),
    Entry::of::<soak::Options>("soak"),
];

fn main() -> ExitCode {
    let matches = command().get_matches();
    let verb = matches.subcommand().and_then(|(name, options)| Some((find(name)?, options)));
    // clap exits by itself when the verb is missing or unknown.
    let result = verb.context("clap checked the verb").and_then(|(verb, options)| (verb.run)(options));
    result.unwrap_or_else(|error| {
        shell::error(&error);
        ExitCode::FAILURE
    })
}

fn find(name: &str) -> Option<&'static Entry> {
    VERBS.iter().find(|verb| verb.name == name)
}

fn command() -> Command {
    let verbs = VERBS.iter().map(|verb| (verb.options)(Command::new(verb.name)));
    Command::new("cargo xtask")
        .bin_name("cargo xtask")
        .about("Onlooker's developer commands")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(verbs)
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn every_verb_has_valid_options_and_a_help_text() {
        command().debug_assert();
        for verb in command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
        }
    }
}
