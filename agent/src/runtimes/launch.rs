//! How a process was started, and the name of its service that follows from that.
//!
//! A service that does not name itself is named after what its process runs, never after what runs it:
//! `gunicorn shop:app` is `shop`, whatever Python, options and workers. Titles that processes write over their arguments
//! are read for what they say about that, and never shown. Nothing here touches /proc: the caller fills the [`Launch`].

use std::fmt;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use compact_str::CompactString;

use super::paths::{file_name, project, stem, without_version};
use crate::presentable::presentable;

/// The environment variables of a process that rows of the table ask for.
pub type Variables = [(&'static str, String)];

/// How a process was started.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    /// The file names of its runtime's own executables ([`super::Runtime::executables`]).
    pub interpreters: &'static [&'static str],
    /// Path of the executable, in the process's own root.
    pub executable: &'a Path,
    /// The path that execve(2) was given: a link to the executable, or a script that starts with `#!`.
    pub started_by: Option<&'a Path>,
    /// What /proc/PID/cmdline holds now.
    pub arguments: &'a [String],
    pub working_directory: Option<&'a Path>,
    pub variables: &'a Variables,
    /// Reads a small text file in the process's root. None if there is no such file.
    pub read: &'a dyn Fn(&Path) -> Option<String>,
    /// Opens a regular file in the process's root.
    pub open: &'a dyn Fn(&Path) -> Option<File>,
    /// Whether there is a file or folder at a path in the process's root.
    pub exists: &'a dyn Fn(&Path) -> bool,
    /// The executable contains the runtime, though it has another name. So it may be the interpreter, renamed.
    pub contains_runtime: bool,
}

impl fmt::Debug for Launch<'_> {
    /// Without arguments and variables, which may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch").field("executable", &self.executable).finish_non_exhaustive()
    }
}

/// What a launch says about the service's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceName {
    Known(CompactString),
    /// The process is a worker of its parent, if that runs the same executable. Its service has this name, or else the
    /// parent's.
    Worker(Option<CompactString>),
    /// A title hides the command line. The process is a worker of its parent if it was forked from it. If it executed a
    /// program itself, its service is unknown.
    Titled,
    Unknown,
}

/// What /proc/PID/cmdline contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandLine<'a> {
    /// The arguments, without the first, which is the program's own name.
    Arguments(Vec<&'a str>),
    /// A title that the process has written over them.
    Title(&'a str),
}

impl ServiceName {
    /// The service is called `name`, as far as that can be shown.
    pub(super) fn of(name: &str) -> Self {
        presentable(name).map_or(Self::Unknown, |name| Self::Known(name.into()))
    }

    /// The service is called after the script at `path`. The path of a descriptor says nothing.
    pub(super) fn of_script(path: &str) -> Self {
        if path.starts_with("/dev/") || path.starts_with("/proc/") { Self::Unknown } else { Self::of(stem(path)) }
    }
}

impl<'a> Launch<'a> {
    /// The program's name as it was called. Of a title only the first word, and only if that is the program: the rest
    /// may be a whole command line with secrets in it.
    #[must_use]
    pub fn called(&self) -> Option<&'a str> {
        let first = self.arguments.first()?;
        if self.is_one_word(first) { Some(first) } else { self.split(first).map(|(program, _)| program) }
    }

    pub(super) fn command_line(&self) -> CommandLine<'a> {
        let Some((first, rest)) = self.arguments.split_first() else { return CommandLine::Arguments(Vec::new()) };
        if !rest.is_empty() || self.is_one_word(first) {
            return CommandLine::Arguments(rest.iter().map(String::as_str).collect());
        }
        // `node /srv/shop/server.js`, as pm2 writes it.
        match self.split(first) {
            Some((_, words)) => CommandLine::Arguments(words.collect()),
            None => CommandLine::Title(first),
        }
    }

    /// Whether the first argument cannot be a title. The program's path may contain spaces.
    fn is_one_word(&self, first: &str) -> bool {
        let mut paths = self.started_by.into_iter().chain([self.executable]);
        !first.contains(|c: char| c.is_ascii_whitespace()) || paths.any(|path| path.ends_with(first))
    }

    /// Splits a title into the program and its arguments, if it begins with the program.
    fn split(&self, title: &'a str) -> Option<(&'a str, impl Iterator<Item = &'a str> + use<'a>)> {
        let mut words = title.split_ascii_whitespace();
        let program = words.next()?;
        let name = file_name(Path::new(program));
        let mut paths = self.started_by.into_iter().chain([self.executable]);
        paths.any(|path| name == file_name(path)).then_some((program, words))
    }

    /// The script that was executed, where the kernel started the interpreter for its `#!`.
    pub(super) fn script(&self) -> Option<&'a str> {
        let is_interpreter = |path: &&Path| self.interpreters.contains(&without_version(file_name(path)));
        self.started_by.filter(|path| !is_interpreter(path))?.to_str()
    }

    /// Whether an executable that contains the runtime was given a file to run.
    pub(super) fn runs_a_file(&self) -> bool {
        let CommandLine::Arguments(arguments) = self.command_line() else { return false };
        let mut words = arguments.iter().filter(|argument| !argument.starts_with('-'));
        self.contains_runtime && words.any(|word| word.contains('.') && (self.exists)(&self.absolute(word)))
    }

    /// The value of an environment variable, which a row of the table must list.
    pub(super) fn variable(&self, name: &str) -> Option<&'a str> {
        self.variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.as_str())
    }

    /// `path` in the process's root, absolute and without dots.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        let mut absolute = PathBuf::from("/");
        for component in self.working_directory.unwrap_or(Path::new("/")).join(path).components() {
            match component {
                Component::ParentDir => {
                    absolute.pop();
                }
                Component::Normal(name) => absolute.push(name),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        absolute
    }

    /// The name of the project in whose folder the process works.
    pub(super) fn project(&self) -> Option<&'a str> {
        project(self.working_directory?)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn launch<'a>(executable: &'a str, arguments: &'a [String]) -> Launch<'a> {
        Launch {
            interpreters: &["node", "perl"],
            executable: Path::new(executable),
            started_by: None,
            arguments,
            working_directory: None,
            variables: &[],
            read: &|_| None,
            open: &|_| None,
            exists: &|_| false,
            contains_runtime: false,
        }
    }

    #[rstest]
    #[case::arguments(&["/usr/bin/node", "app.js", "a b"], CommandLine::Arguments(vec!["app.js", "a b"]))]
    #[case::alone(&["/usr/bin/node"], CommandLine::Arguments(vec![]))]
    #[case::none(&[], CommandLine::Arguments(vec![]))]
    #[case::title(&["next-server (v14.1.0)"], CommandLine::Title("next-server (v14.1.0)"))]
    #[case::title_like_a_command(&["node /srv/shop/server.js"], CommandLine::Arguments(vec!["/srv/shop/server.js"]))]
    fn a_title_is_distinguished_from_arguments(#[case] arguments: &[&str], #[case] expected: CommandLine<'_>) {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        assert_eq!(launch("/usr/bin/node", &arguments).command_line(), expected);
    }

    #[rstest]
    #[case::arguments(&["/usr/bin/perl", "worker.pl", "--password=hunter2"], Some("/usr/bin/perl"))]
    #[case::none(&[], None)]
    #[case::title(&["worker: card 4111"], None)]
    #[case::title_like_a_command(&["/srv/worker.pl --password=hunter2"], Some("/srv/worker.pl"))]
    #[case::title_of_the_program(&["perl worker.pl --password=hunter2"], Some("perl"))]
    #[case::title_that_ends_with_the_program(&["worker --password=hunter2 --with=/usr/bin/perl"], None)]
    #[case::title_before_leftover_arguments(&["worker --password=hunter2", "left"], None)]
    #[case::path_with_a_space(&["/srv/my shop/worker.pl"], Some("/srv/my shop/worker.pl"))]
    fn only_the_program_of_a_title_is_shown(#[case] arguments: &[&str], #[case] called: Option<&str>) {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let started_by = Some(Path::new("/srv/my shop/worker.pl"));
        assert_eq!(Launch { started_by, ..launch("/usr/bin/perl", &arguments) }.called(), called);
    }
}
