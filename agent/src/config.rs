//! The configuration file: OpenTelemetry's declarative configuration, with Onlooker's part under `extensions.onlooker`.
//!
//! A file is read in four steps: [`yaml`] makes a tree in which every value has its line, [`substitute`] replaces
//! references to variables, [`read`] compares the tree with the table [`keys::KEYS`], and each row sets its part of the
//! [`Settings`]. Whatever is wrong is one sentence with the file and the line. With a file, the other `OTEL_*` variables
//! have no effect. Options of the command line take precedence over the file.

mod changes;
mod checks;
mod keys;
mod page;
mod print;
mod problem;
mod read;
mod row;
mod schema;
mod setters;
mod settings;
mod substitute;
mod yaml;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::cli::Tracing;
use crate::export;
use read::{Found, Reader};

pub use changes::Changes;
pub use keys::KEYS;
pub use page::page;
pub use print::print;
pub use problem::{Problem, Unusable};
pub(crate) use row::one_of;
pub use row::{Given, Key, Kind};
pub use settings::{ResourceAttributes, Settings};

/// The variable with the path of the file.
pub const FILE_VARIABLE: &str = "OTEL_CONFIG_FILE";

/// The largest file that is read. A thousand rules have 200 KiB.
const MOST_BYTES: u64 = 4 << 20;

/// The options of the command line that configure an agent, and which of them were given.
#[derive(Debug, Clone)]
pub struct CommandLine {
    pub tracing: Tracing,
    /// The ids and the texts of the options that were given. The others have their defaults.
    pub given: Vec<(String, String)>,
}

/// The configuration in effect, and where it comes from.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub settings: Settings,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The text of the file.
    pub text: String,
    /// What the file has, in its order.
    found: Vec<Found>,
    given: Vec<(String, String)>,
    /// A sentence for each key that has no effect.
    pub warnings: Vec<String>,
}

impl CommandLine {
    /// The file that the command line names, or else the environment.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        self.tracing.config.clone().or_else(variable)
    }
}

impl Configuration {
    /// The configuration without a file: the command line and the environment.
    #[must_use]
    pub fn without_file(command_line: CommandLine) -> Self {
        let CommandLine { tracing, given } = command_line;
        Self {
            settings: Settings::new(tracing),
            file: None,
            text: String::new(),
            found: Vec::new(),
            given,
            warnings: Vec::new(),
        }
    }

    /// Reads the file of the command line or of the environment, if there is one.
    pub fn load(command_line: CommandLine) -> Result<Self, Unusable> {
        match command_line.file() {
            Some(file) => Self::of_file(&file, command_line),
            None => Ok(Self::without_file(command_line)),
        }
    }

    /// Reads a file. References are substituted from the environment.
    pub fn of_file(file: &Path, command_line: CommandLine) -> Result<Self, Unusable> {
        let text = contents(file).map_err(|error| Unusable {
            sentences: vec![format!("cannot read the configuration file {}: {error}", file.display())],
        })?;
        Self::of_text(file, &text, command_line, &|name| std::env::var(name).ok())
    }

    /// Reads the file again, with the same command line. `self` stays as it is if the file cannot be used.
    pub fn read_again(&self, command_line: CommandLine) -> Result<Self, Unusable> {
        match &self.file {
            Some(file) => Self::of_file(file, command_line),
            None => Ok(Self::without_file(command_line)),
        }
    }

    /// A sentence for each key with another value than in `before` that takes effect only when the agent starts.
    #[must_use]
    pub fn needing_restart(&self, before: &Self) -> Vec<String> {
        let fixed = KEYS.iter().filter(|key| key.needs_restart);
        let of = |found: &[Found], key: &Key| -> Vec<Given> {
            found.iter().filter(|found| found.key.path == key.path).map(|found| found.given.clone()).collect()
        };
        let changed = fixed.filter(|key| of(&self.found, key) != of(&before.found, key));
        changed
            .map(|key| {
                let line = self.found.iter().find(|found| found.key.path == key.path).map_or(1, |found| found.line);
                let sentence = format!("{} has changed, which takes effect when Onlooker is started again", key.path);
                Problem::new(line, sentence).of(self.file.as_deref().unwrap_or(Path::new("")))
            })
            .collect()
    }

    fn of_text(
        file: &Path,
        text: &str,
        command_line: CommandLine,
        variable: substitute::Variable<'_>,
    ) -> Result<Self, Unusable> {
        let tree = yaml::parse(text).and_then(|mut tree| substitute::substitute(&mut tree, variable).map(|()| tree));
        let tree = tree.map_err(|problem| Unusable { sentences: vec![problem.of(file)] })?;
        let mut configuration = Self::without_file(command_line);
        configuration.settings.file.get_or_insert_default();
        let is_given = |flag: &str| configuration.given.iter().any(|(id, _)| id == flag);
        let mut reader = Reader::new(&mut configuration.settings, &is_given);
        reader.document(&tree);
        let Reader { found, mut problems, warnings, .. } = reader;
        problems.sort_by_key(|problem| problem.line);
        let mut sentences: Vec<_> = problems.iter().map(|problem| problem.of(file)).collect();
        if sentences.is_empty() {
            let wrong = wrong_together(&configuration.settings);
            sentences.extend(wrong.iter().map(|problem| format!("{}: {problem}", file.display())));
        }
        if !sentences.is_empty() {
            return Err(Unusable { sentences });
        }
        configuration.found = found;
        configuration.warnings = warnings.iter().map(|warning| warning.of(file)).collect();
        configuration.file = Some(file.to_owned());
        configuration.text = text.to_owned();
        Ok(configuration)
    }
}

/// Checks a file, as `onlooker run` would read it. Returns a sentence for each key that has no effect.
pub fn check(file: &Path) -> Result<Vec<String>, Unusable> {
    let command_line = CommandLine { tracing: Tracing::default(), given: Vec::new() };
    Ok(Configuration::of_file(file, command_line)?.warnings)
}

/// What is wrong with the exporters, although each key by itself has a valid value.
fn wrong_together(settings: &Settings) -> Vec<String> {
    let choices = export::Choices::default();
    match export::Config::read(&choices, &|name| settings.variable(name)) {
        Ok(config) => config.ignored.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// The text of the file. Only a regular file, or a pipe, has one of bounded length.
fn contents(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {} MiB", MOST_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not valid UTF-8"))
}

#[cfg(test)]
mod tests;
