//! Shells, running a script or a person's commands.

use super::row::Runtime;
use super::script;

pub(super) const SHELL: Runtime = Runtime {
    name: "shell",
    executables: &["sh", "bash", "dash", "zsh", "ksh", "ash", "fish"],
    interprets: true,
    service_name: |launch| script::service_name(launch, values),
    ..Runtime::COMPILED
};

/// How many arguments after an option are its values. None for `-c` (`-lc`), which has the program after it, and for
/// `-s` and `-`, with which the program comes from stdin.
fn values(option: &str) -> Option<usize> {
    if let Some(long) = option.strip_prefix('-') {
        return Some(usize::from(matches!(long, "rcfile" | "init-file")));
    }
    // `-euo pipefail`, bash's `-O extglob`
    (!option.is_empty() && !option.contains(['c', 's'])).then(|| option.matches(['o', 'O']).count())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::launch::ServiceName;
    use crate::runtimes::sample::named;

    #[rstest]
    #[case::script(&["bash", "/srv/serve.sh", "80"], ServiceName::of("serve"))]
    #[case::option(&["bash", "-eu", "--posix", "/srv/serve.sh"], ServiceName::of("serve"))]
    #[case::option_with_value(&["bash", "-euo", "pipefail", "+O", "extglob", "serve.sh"], ServiceName::of("serve"))]
    #[case::options_with_values(&["bash", "-oO", "pipefail", "extglob", "--rcfile", "rc.sh", "serve.sh"], ServiceName::of("serve"))]
    #[case::option_alone(&["bash", "-o"], ServiceName::Unknown)]
    #[case::stdin(&["bash", "-es", "80"], ServiceName::Unknown)]
    #[case::descriptor(&["bash", "/dev/fd/3"], ServiceName::Unknown)]
    #[case::code(&["sh", "-c", "serve"], ServiceName::Unknown)]
    #[case::code_in_a_login_shell(&["bash", "-lc", "serve"], ServiceName::Unknown)]
    #[case::alone(&["-bash"], ServiceName::Unknown)]
    fn a_shell_is_named_after_its_script(#[case] command: &[&str], #[case] expected: ServiceName) {
        assert_eq!(named(&SHELL, "/usr/bin/bash", command, "/", &[]), expected);
    }
}
