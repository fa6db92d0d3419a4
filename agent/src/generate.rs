//! Shell completions and man pages, from the same table as `--help`. The packages contain them.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;

/// The name of the program, as users type it.
const PROGRAM: &str = "onlooker";

/// The script that completes commands and options in `shell`.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(), PROGRAM, &mut script);
    script
}

/// Writes one page for each command into `folder`: `onlooker.1`, `onlooker-run.1` and so on.
pub fn man_pages(folder: &Path) -> io::Result<()> {
    // Otherwise a folder that is missing would be an error of its first page.
    fs::metadata(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}

/// The command line without its hidden commands, which clap's completions would offer too.
fn visible() -> Command {
    let whole = Cli::command();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(commands.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::injection::client;
    use crate::kernel::keeper;

    #[rstest]
    #[case::bash(Shell::Bash)]
    #[case::zsh(Shell::Zsh)]
    #[case::fish(Shell::Fish)]
    fn completions_have_the_options_and_no_hidden_command(#[case] shell: Shell) {
        let script = String::from_utf8(completions(shell)).unwrap();
        for word in ["doctor", "max-connections", "cgroup"] {
            assert!(script.contains(word), "{word}");
        }
        for hidden in [client::VERB, keeper::VERB] {
            assert!(!script.contains(hidden), "{hidden}");
        }
    }

    #[test]
    fn each_visible_command_has_a_man_page() {
        let folder = tempfile::tempdir().unwrap();
        man_pages(folder.path()).unwrap();
        let mut pages: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        pages.sort();
        let expected = [
            "onlooker-config-check.1",
            "onlooker-config-print.1",
            "onlooker-config.1",
            "onlooker-doctor.1",
            "onlooker-exec.1",
            "onlooker-generate-completions.1",
            "onlooker-generate-man.1",
            "onlooker-generate.1",
            "onlooker-propagation.1",
            "onlooker-run.1",
            "onlooker.1",
        ];
        assert_eq!(pages, expected);
        let run = fs::read_to_string(folder.path().join("onlooker-run.1")).unwrap();
        assert!(run.contains(r"\-\-max\-connections"), "{run}");
    }
}
