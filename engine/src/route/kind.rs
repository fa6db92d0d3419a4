//! The kinds of pieces of a path.

/// The kind of a piece of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Probably part of a route.
    Word,
    /// A number, UUID or hash, or anything that is no word and too short for a secret.
    Id,
    Date,
    Email,
    /// Text written by people: escaped, not ASCII, or as long as a title.
    Name,
    /// The variable part of a file name.
    Hash,
    /// A credential, or something that looks like one.
    Token,
}

impl Kind {
    /// The placeholder in templates. `None` for a word, which stays.
    pub(super) fn placeholder(self) -> Option<&'static str> {
        match self {
            Self::Word => None,
            Self::Id => Some("{id}"),
            Self::Date => Some("{date}"),
            Self::Email => Some("{email}"),
            Self::Name => Some("{name}"),
            Self::Hash => Some("{hash}"),
            Self::Token => Some("{token}"),
        }
    }
}
