//! Finds values that are written as names: the values of parameters, and passwords without the quotes of strings.
//!
//! PostgreSQL accepts `SET app.token = "..."`. It rejects `PASSWORD "..."`, which MySQL accepts, but the statement was sent
//! nevertheless.

use super::keyword::Keyword;
use super::lexer::Kind;

/// The place in a statement, as far as such values may follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Values {
    /// At the beginning of a statement.
    #[default]
    Begin,
    /// After `CREATE` or `ALTER`, before the type of object.
    Define { alters: bool },
    /// In the definition of a role: passwords and parameters may follow.
    Role,
    /// In `ALTER` of another object: parameters may follow.
    Alter,
    /// After `PASSWORD`.
    Password,
    /// After `SET`, or after the dot in a parameter's name.
    Set,
    /// After a name that may be a parameter's.
    Parameter,
    /// After `=` or `TO`.
    Value,
    /// No value can follow in this statement.
    None,
}

impl Values {
    /// Takes the next token. Returns whether it is a value.
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
