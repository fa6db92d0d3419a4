//! Tells which words, with or without the quotes of names, are values: what parameters are set to, and passwords whose
//! quotes are missing or not those of strings.
//!
//! PostgreSQL takes `SET app.token = "..."` for a value. It refuses `PASSWORD "..."`, which is MySQL's way, but by then the
//! statement was sent.

use super::keyword::Keyword;
use super::lexer::Kind;

/// Where a statement is, as far as values may follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Values {
    /// At its beginning.
    #[default]
    Begin,
    /// After `CREATE` or `ALTER`: of what?
    Define { alters: bool },
    /// A role is defined: passwords and parameters.
    Role,
    /// Something else is altered: parameters.
    Alter,
    /// After `PASSWORD`
    Password,
    /// After `SET`, or the dot of a parameter's name.
    Set,
    /// The name of what may be a parameter.
    Parameter,
    /// After `=` or `TO`.
    Value,
    /// No values follow.
    None,
}

impl Values {
    /// Takes the next token; says whether it is a value.
    pub(super) fn take(&mut self, token: Kind) -> bool {
        if *self == Self::None && token != Kind::Mark(b';') {
            return false;
        }
        let is_name = matches!(token, Kind::Word(_) | Kind::Quoted);
        let is_value = match (*self, token) {
            (Self::Value, Kind::Word(Keyword::Default)) | (Self::Password, Kind::Word(Keyword::Null)) => false,
            (Self::Value | Self::Password, _) => is_name,
            _ => false,
        };
        *self = match (*self, token) {
            (_, Kind::Mark(b';')) => Self::Begin,
            (Self::Begin | Self::Role | Self::Alter, Kind::Word(Keyword::Set)) => Self::Set,
            (Self::Begin, Kind::Word(Keyword::Alter)) => Self::Define { alters: true },
            (Self::Begin, Kind::Word(Keyword::Create)) => Self::Define { alters: false },
            (Self::Define { .. }, Kind::Word(Keyword::User | Keyword::Role | Keyword::Group)) => Self::Role,
            (Self::Define { alters: true }, _) => Self::Alter,
            (Self::Role, Kind::Word(Keyword::Password)) => Self::Password,
            (Self::Password, Kind::Mark(_)) => Self::Password,
            (Self::Password, _) => Self::Role,
            (Self::Set, Kind::Word(Keyword::Session | Keyword::Local)) => Self::Set,
            (Self::Set, _) if is_name => Self::Parameter,
            (Self::Parameter, Kind::Mark(b'.')) => Self::Set,
            (Self::Parameter, Kind::Mark(b'=') | Kind::Word(Keyword::To)) => Self::Value,
            (same @ (Self::Role | Self::Alter | Self::Value), _) => same,
            _ => Self::None,
        };
        is_value
    }
}
