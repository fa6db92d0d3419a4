//! The verdict on bytes that could be anything.

/// Whether bytes can be the beginning of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// They are one: all that distinguishes it is there.
    Right,
    /// They can be one, and more bytes are needed to tell.
    RightSoFar,
    /// They are not one.
    Wrong,
}

impl Looks {
    /// Compares the first bytes with a fixed beginning.
    #[must_use]
    pub fn begins_with(first: &[u8], wanted: &[u8]) -> Self {
        let seen = first.len().min(wanted.len());
        match (first[..seen] == wanted[..seen], seen == wanted.len()) {
            (true, true) => Self::Right,
            (true, false) => Self::RightSoFar,
            (false, _) => Self::Wrong,
        }
    }
}
