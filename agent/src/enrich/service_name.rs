//! What a service is called that does not say so itself: by what its process runs, never by what runs it.
//!
//! `gunicorn shop:app` is `shop`, whatever Python, options and workers; a compiled program goes by its own name. Each
//! language has its file. Titles that processes write over their arguments are read for what they say of that, and
//! never shown. Nothing here touches /proc: a [`Launch`] is what was read there.

mod javascript;
mod jvm;
mod others;
mod php;
mod python;
mod ruby;

use std::path::{Component, Path, PathBuf};

use compact_str::CompactString;

use super::environment::{Environment, presentable};
use crate::discover::runtime::Program;

/// How a process was started.
#[derive(Clone, Copy)]
pub(super) struct Launch<'a> {
    pub(super) program: Program,
    /// Path of the executable, in its own root.
    pub(super) executable: &'a Path,
    /// What execve(2) was given: a link to the executable, or the script for one that starts with `#!`.
    pub(super) started_by: Option<&'a Path>,
    /// What /proc/PID/cmdline holds now.
    pub(super) arguments: &'a [String],
    pub(super) working_directory: Option<&'a Path>,
    pub(super) environment: &'a Environment,
    /// Reads a small text file in the process's root; None if there is no such file.
    pub(super) read: &'a dyn Fn(&Path) -> Option<String>,
}

/// What a launch says of the service's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    Named(CompactString),
    /// A worker of its parent, if that runs the same executable: its service goes by this name, else by the parent's.
    Worker(Option<CompactString>),
    Unknown,
}

/// What /proc/PID/cmdline turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// The arguments, without the first, which is the program's own name.
    Arguments(Vec<&'a str>),
    /// What the process has written over them.
    Title(&'a str),
}

/// Judges by the program that runs and how it was started.
pub(super) fn judge(launch: &Launch<'_>) -> Judgement {
    let name = file_name(launch.executable);
    // A server that has an interpreter inside is still that server: uwsgi, apache2.
    let interpreted = Program::by_name(name) == Some(launch.program);
    match launch.program {
        Program::Python | Program::PyPy if interpreted || name.starts_with("uwsgi") => python::judge(launch),
        Program::Node | Program::Deno | Program::Bun if interpreted => javascript::judge(launch),
        Program::Jvm if interpreted => jvm::judge(launch),
        Program::Php if interpreted => php::judge(launch),
        Program::Ruby if interpreted => ruby::judge(launch),
        Program::Perl | Program::Shell if interpreted => others::script(launch),
        Program::DotNet if interpreted => others::dotnet(launch),
        Program::Beam => others::beam(launch),
        _ => others::compiled(launch),
    }
}

impl<'a> Launch<'a> {
    pub(super) fn command(&self) -> Command<'a> {
        let Some((first, rest)) = self.arguments.split_first() else { return Command::Arguments(Vec::new()) };
        if !rest.is_empty() || self.is_one_word(first) {
            return Command::Arguments(rest.iter().map(String::as_str).collect());
        }
        // `node /srv/shop/server.js`, as pm2 writes it.
        match self.split(first) {
            Some((_, words)) => Command::Arguments(words.collect()),
            None => Command::Title(first),
        }
    }

    /// What the program was called by. Of a title only its first word, and only if that is the program: all else of
    /// it may be a whole command line.
    pub(super) fn called(&self) -> Option<&'a str> {
        let first = self.arguments.first()?;
        if self.is_one_word(first) { Some(first) } else { self.split(first).map(|(program, _)| program) }
    }

    /// Whether the first argument can be no title, though the program's path may have spaces.
    fn is_one_word(&self, first: &str) -> bool {
        let mut paths = self.started_by.into_iter().chain([self.executable]);
        !first.contains(|c: char| c.is_ascii_whitespace()) || paths.any(|path| path.ends_with(first))
    }

    /// A title as the program and its arguments, if it begins with the program.
    fn split(&self, title: &'a str) -> Option<(&'a str, impl Iterator<Item = &'a str> + use<'a>)> {
        let mut words = title.split_ascii_whitespace();
        let program = words.next()?;
        let name = file_name(Path::new(program));
        let mut paths = self.started_by.into_iter().chain([self.executable]);
        paths.any(|path| name == file_name(path)).then_some((program, words))
    }

    /// The script the process was started by, if it was.
    fn script(&self) -> Option<&'a str> {
        let path = self.started_by.filter(|path| Program::by_name(file_name(path)) != Some(self.program))?;
        path.to_str()
    }

    /// `path` in the process's root, whole and without dots.
    fn absolute(&self, path: &str) -> PathBuf {
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
    fn project(&self) -> Option<&'a str> {
        project(self.working_directory?)
    }
}

fn named(name: &str) -> Judgement {
    presentable(name).map_or(Judgement::Unknown, |name| Judgement::Named(name.into()))
}

/// By the script at `path`, unless that is a descriptor's number.
fn scripted(path: &str) -> Judgement {
    if path.starts_with("/dev/") || path.starts_with("/proc/") { Judgement::Unknown } else { named(stem(path)) }
}

/// The last component of a path.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A file's name without folders and without its extension.
fn stem(path: &str) -> &str {
    let name = file_name(Path::new(path));
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// What the project in `folder` is called: the folder, past what deployments put below a project's
/// (`/srv/shop/current`, `/srv/shop/releases/20240131`). None for the root.
fn project(folder: &Path) -> Option<&str> {
    let name = folder.file_name()?.to_str()?;
    let above = folder.parent()?;
    if name == "current" {
        return project(above).or(Some(name));
    }
    if file_name(above) == "releases" && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return project(above.parent()?).or(Some(name));
    }
    Some(name)
}

/// The arguments that are no options, each with its place. An option takes the next argument for its value unless it
/// has one attached or is in `flags`.
fn positional<'a>(arguments: &'a [&'a str], flags: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let argument = *arguments.get(at)?;
            at += 1;
            if !argument.starts_with('-') || argument == "-" {
                return Some((at - 1, argument));
            }
            let short = !argument.starts_with("--");
            let attached = argument.contains('=') || short && argument.len() > 2;
            if !attached && !flags.contains(&argument) && !argument.starts_with("--no-") && argument != "--" {
                at += 1;
            }
        }
    })
}

/// The value of an option in any of its spellings: `-A shop`, `-Ashop`, `--app shop`, `--app=shop`.
fn option<'a>(arguments: &[&'a str], names: &[&str]) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(at, argument)| {
        names.iter().find_map(|name| match argument.strip_prefix(name)? {
            "" => arguments.get(at + 1).copied(),
            attached if name.starts_with("--") => attached.strip_prefix('='),
            attached => Some(attached),
        })
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// A launch written as one line, judged. A path in `files` holds the text after it.
    pub(super) fn judged(
        program: Program,
        executable: &str,
        command: &[&str],
        folder: &str,
        files: &[(&str, &str)],
    ) -> Judgement {
        judged_in(program, executable, None, command, folder, files, &Environment::default())
    }

    pub(super) fn judged_in(
        program: Program,
        executable: &str,
        started_by: Option<&str>,
        command: &[&str],
        folder: &str,
        files: &[(&str, &str)],
        environment: &Environment,
    ) -> Judgement {
        let arguments: Vec<String> = command.iter().map(|argument| (*argument).to_owned()).collect();
        let read =
            |path: &Path| files.iter().find(|(file, _)| Path::new(file) == path).map(|(_, text)| (*text).to_owned());
        judge(&Launch {
            program,
            executable: Path::new(executable),
            started_by: started_by.map(Path::new),
            arguments: &arguments,
            working_directory: Some(Path::new(folder)),
            environment,
            read: &read,
        })
    }

    #[rstest]
    #[case::arguments(&["/usr/bin/node", "app.js", "a b"], Command::Arguments(vec!["app.js", "a b"]))]
    #[case::alone(&["/usr/bin/node"], Command::Arguments(vec![]))]
    #[case::none(&[], Command::Arguments(vec![]))]
    #[case::title(&["next-server (v14.1.0)"], Command::Title("next-server (v14.1.0)"))]
    #[case::title_like_a_command(&["node /srv/shop/server.js"], Command::Arguments(vec!["/srv/shop/server.js"]))]
    fn a_title_is_told_from_arguments(#[case] arguments: &[&str], #[case] command: Command<'_>) {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let launch = Launch {
            program: Program::Node,
            executable: Path::new("/usr/bin/node"),
            started_by: None,
            arguments: &arguments,
            working_directory: None,
            environment: &Environment::default(),
            read: &|_| None,
        };
        assert_eq!(launch.command(), command);
    }

    #[rstest]
    #[case::arguments(&["/usr/bin/perl", "worker.pl", "--password=hunter2"], Some("/usr/bin/perl"))]
    #[case::none(&[], None)]
    #[case::title(&["worker: card 4111"], None)]
    #[case::title_like_a_command(&["/srv/worker.pl --password=hunter2"], Some("/srv/worker.pl"))]
    #[case::title_of_the_program(&["perl worker.pl --password=hunter2"], Some("perl"))]
    #[case::title_that_ends_with_the_program(&["worker --password=hunter2 --with=/usr/bin/perl"], None)]
    #[case::title_before_what_it_left(&["worker --password=hunter2", "left"], None)]
    #[case::path_with_a_space(&["/srv/my shop/worker.pl"], Some("/srv/my shop/worker.pl"))]
    fn a_program_is_called_by_one_word(#[case] arguments: &[&str], #[case] called: Option<&str>) {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let launch = Launch {
            program: Program::Perl,
            executable: Path::new("/usr/bin/perl"),
            started_by: Some(Path::new("/srv/my shop/worker.pl")),
            arguments: &arguments,
            working_directory: None,
            environment: &Environment::default(),
            read: &|_| None,
        };
        assert_eq!(launch.called(), called);
    }

    #[rstest]
    #[case::folder("/srv/shop", Some("shop"))]
    #[case::current("/srv/shop/current", Some("shop"))]
    #[case::release("/srv/shop/releases/20240131120000", Some("shop"))]
    #[case::not_a_release("/srv/releases/shop", Some("shop"))]
    #[case::root("/", None)]
    fn projects_by_folder(#[case] folder: &str, #[case] name: Option<&str>) {
        assert_eq!(project(Path::new(folder)), name);
    }

    #[rstest]
    #[case(&["-A", "shop"], Some("shop"))]
    #[case(&["-Ashop"], Some("shop"))]
    #[case(&["-v", "--app", "shop"], Some("shop"))]
    #[case(&["--app=shop"], Some("shop"))]
    #[case(&["--application=shop"], None)]
    #[case(&["--app"], None)]
    fn options_in_their_spellings(#[case] arguments: &[&str], #[case] value: Option<&str>) {
        assert_eq!(option(arguments, &["-A", "--app"]), value);
    }

    #[test]
    fn positional_arguments_are_no_options_and_no_values() {
        let arguments = ["-w", "4", "--reload", "--bind=0:80", "-w4", "shop:app", "--log", "x", "--no-color", "more"];
        let found: Vec<_> = positional(&arguments, &["--reload"]).collect();
        assert_eq!(found, [(5, "shop:app"), (9, "more")]);
    }
}
