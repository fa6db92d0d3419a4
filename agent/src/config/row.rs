//! The columns of the table of keys.

use opentelemetry::KeyValue;

use super::settings::Settings;

/// One key of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Where it is in the file. `[]` is any item of a list.
    pub path: &'static str,
    pub kind: Kind,
    /// The value without the key, for people. Empty: nothing.
    pub default: &'static str,
    /// The variables that set the same where no file is used. The first takes precedence.
    pub variables: &'static [&'static str],
    /// The option of the command line that sets the same, without dashes. It takes precedence over the file.
    pub flag: Option<&'static str>,
    /// Whether its values may be credentials. They are never shown.
    pub is_secret: bool,
    /// Whether the map that it is in must have it.
    pub is_required: bool,
    /// Whether a change takes effect only when the agent starts.
    pub needs_restart: bool,
    /// What it does, for people: the text of the page and of errors.
    pub doc: &'static str,
    pub set: Set,
}

/// Takes a value that has the key's kind. The error completes the sentence `PATH ...`.
pub(super) type Set = fn(&mut Settings, Given) -> Result<(), String>;

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A map of other keys. Being there has a meaning, even if it is empty.
    Section,
    Bool,
    Number {
        least: u64,
        most: u64,
    },
    Text(Check),
    Choice(Names),
    /// A text, or a list of texts. Numbers count as texts.
    Texts(Check),
    /// A name, or a list of names.
    Choices(Names),
    /// A map with `name` and `value`, both texts.
    Pair,
    /// A map with `name`, `value` and perhaps `type`, as the schema has it for attributes.
    Attribute,
}

/// Says what is wrong with a text: the error completes the sentence `PATH ...`.
pub(super) type Check = fn(&str) -> Result<(), String>;
/// The names that may be chosen from.
pub(super) type Names = fn() -> Vec<&'static str>;

/// A value of the right kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    Present,
    Bool(bool),
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    Pair(String, String),
    Attribute(KeyValue),
}

impl Key {
    pub(super) const fn new(
        path: &'static str,
        kind: Kind,
        default: &'static str,
        set: Set,
        doc: &'static str,
    ) -> Self {
        Self {
            path,
            kind,
            default,
            variables: &[],
            flag: None,
            is_secret: false,
            is_required: false,
            needs_restart: false,
            doc,
            set,
        }
    }

    pub(super) const fn variables(self, variables: &'static [&'static str]) -> Self {
        Self { variables, ..self }
    }

    pub(super) const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    pub(super) const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    pub(super) const fn at_start(self) -> Self {
        Self { needs_restart: true, ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// The key without the keys above it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

impl Kind {
    /// What the key takes, for people. It completes `must be ...`.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Section => "a map of keys".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Number { least, most: u64::MAX } => format!("a whole number of at least {least}"),
            Self::Number { least, most } => format!("a whole number from {least} to {most}"),
            Self::Text(_) => "text".to_owned(),
            Self::Choice(names) => one_of(&names()),
            Self::Texts(_) => "text, or a list of texts".to_owned(),
            Self::Choices(names) => format!("a list of: {}", names().join(", ")),
            Self::Pair => "a map with name and value".to_owned(),
            Self::Attribute => "a map with name, value and type".to_owned(),
        }
    }
}

impl Given {
    /// The value as text, for people. A secret is not shown.
    #[must_use]
    pub fn show(&self, is_secret: bool) -> String {
        const HIDDEN: &str = "[hidden]";
        match self {
            Self::Present => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Pair(name, _) if is_secret => format!("{name}: {HIDDEN}"),
            _ if is_secret => HIDDEN.to_owned(),
            Self::Text(text) => text.clone(),
            Self::Texts(texts) => texts.join(", "),
            Self::Pair(name, value) => format!("{name}: {value}"),
            Self::Attribute(KeyValue { key, value, .. }) => format!("{key}: {value}"),
        }
    }
}

/// `a, b or c`
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
