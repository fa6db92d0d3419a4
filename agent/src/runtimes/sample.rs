//! Launches for the tests of the rows.

use std::fs::File;
use std::path::Path;

use super::launch::{Launch, ServiceName};
use super::paths::file_name;
use super::row::Runtime;

/// What a row says about a command line. A path in `files` holds the text after it.
pub(super) fn named(
    runtime: &Runtime,
    executable: &str,
    command: &[&str],
    folder: &str,
    files: &[(&str, &str)],
) -> ServiceName {
    named_in(runtime, executable, None, command, folder, files, &[])
}

/// As [`named`], with the path given to execve(2) and environment variables.
pub(super) fn named_in(
    runtime: &Runtime,
    executable: &str,
    started_by: Option<&str>,
    command: &[&str],
    folder: &str,
    files: &[(&str, &str)],
    variables: &[(&'static str, &str)],
) -> ServiceName {
    name(runtime, executable, started_by, command, folder, files, variables, &|_| None)
}

/// As [`named`], with a function that opens files.
pub(super) fn named_with_open(
    runtime: &Runtime,
    executable: &str,
    command: &[&str],
    folder: &str,
    open: &dyn Fn(&Path) -> Option<File>,
) -> ServiceName {
    name(runtime, executable, None, command, folder, &[], &[], open)
}

#[expect(clippy::too_many_arguments, reason = "each is a part of the launch that a test may state")]
fn name(
    runtime: &Runtime,
    executable: &str,
    started_by: Option<&str>,
    command: &[&str],
    folder: &str,
    files: &[(&str, &str)],
    variables: &[(&'static str, &str)],
    open: &dyn Fn(&Path) -> Option<File>,
) -> ServiceName {
    let arguments: Vec<String> = command.iter().map(|argument| (*argument).to_owned()).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    assert!(variables.iter().all(|(name, _)| runtime.variables.contains(name)), "{runtime:?} reads {variables:?}");
    let read = |path: &Path| files.iter().find(|(file, _)| Path::new(file) == path).map(|(_, text)| (*text).to_owned());
    runtime.name_service(&Launch {
        interpreters: runtime.executables,
        executable: Path::new(executable),
        started_by: started_by.map(Path::new),
        arguments: &arguments,
        working_directory: Some(Path::new(folder)),
        variables: &variables,
        read: &read,
        open,
        exists: &|path| read(path).is_some(),
        contains_runtime: !runtime.is_named(file_name(executable.as_ref())),
    })
}
