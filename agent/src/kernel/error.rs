//! Why the programs cannot be loaded, and what to do about it.

use std::error::Error;
use std::io;

use aya::programs::ProgramError;

use super::types::VMLINUX_BTF;

/// Why the programs cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "Onlooker runs in a pid namespace of its own, but the kernel knows processes by the host's ids; share the host's pid namespace \
         (Kubernetes: hostPID: true; Docker: --pid=host)"
    )]
    PidNamespace,
    #[error(
        "cannot read the kernel's BTF at {VMLINUX_BTF}: {0}; Onlooker needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Btf(String),
    #[error(
        "loading programs into the kernel is not permitted: {0}; run as root, or grant CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE"
    )]
    NotPermitted(String),
    #[error(
        "the kernel's verifier rejected the program {program} ({reason}); please report this with the lines below\n{log}"
    )]
    Rejected { program: &'static str, reason: String, log: String },
    #[error("cannot load the kernel programs: {0}")]
    Load(String),
    #[error("cannot attach the program {program}: {why}")]
    Attach { program: &'static str, why: String },
    #[error("{first}; nor can {other} replace {program}: {second}")]
    NotReplaced { program: &'static str, first: Box<LoadError>, other: &'static str, second: Box<LoadError> },
}

/// An error with its causes, in one line.
pub(super) fn why(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Whether privileges are missing. The verifier uses EACCES for programs that it rejects, so only EPERM says so.
pub(super) fn is_permission(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
            return true;
        }
        next = error.source();
    }
    false
}

pub(super) fn not_loaded(program: &'static str, error: ProgramError) -> LoadError {
    match &error {
        ProgramError::LoadError { io_error, verifier_log } => refused(program, io_error, &verifier_log.to_string()),
        _ if is_permission(&error) => LoadError::NotPermitted(format!("{program}: {}", why(&error))),
        _ => LoadError::Load(format!("{program}: {}", why(&error))),
    }
}

/// The kernel refused to load a program.
fn refused(program: &'static str, error: &io::Error, log: &str) -> LoadError {
    if is_permission(error) {
        LoadError::NotPermitted(format!("{program}: {error}"))
    } else {
        LoadError::Rejected { program, reason: error.to_string(), log: last_lines(log) }
    }
}

/// The end of a verifier's log: it names the instruction that was rejected.
fn last_lines(log: &str) -> String {
    const SHOWN: usize = 20;
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io;

    use rstest::rstest;

    use super::{LoadError, refused};

    #[rstest]
    #[case::privileges(libc::EPERM, false)]
    #[case::access_to_memory(libc::EACCES, true)]
    #[case::stack_or_argument(libc::EINVAL, true)]
    #[case::too_complex(libc::E2BIG, true)]
    fn only_eperm_is_called_missing_privileges(#[case] errno: i32, #[case] is_rejected: bool) {
        let error = refused("sock_send_length", &io::Error::from_raw_os_error(errno), "");
        assert_eq!(matches!(error, LoadError::Rejected { .. }), is_rejected, "{error}");
        assert_eq!(matches!(error, LoadError::NotPermitted(_)), !is_rejected, "{error}");
    }

    #[test]
    fn a_rejection_shows_the_end_of_the_log() {
        let log: String = (0..50).map(|line| format!("line {line}\n")).collect();
        let shown = refused("sock_send_length", &io::Error::from_raw_os_error(libc::EINVAL), &log).to_string();
        assert!(shown.contains("verifier rejected the program sock_send_length"), "{shown}");
        assert!(shown.ends_with("line 49") && shown.contains("line 30\n") && !shown.contains("line 29\n"), "{shown}");
    }
}
