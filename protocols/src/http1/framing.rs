//! How the body of a message is framed (RFC 9112 6.3).

/// How the body of a message is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// RFC 9112 6.3: no body, e.g. 204, 304, any response to HEAD.
    None,
    Length(u64),
    /// `trailers`: the head announces trailer fields.
    Chunked {
        trailers: bool,
    },
    /// RFC 9112 6.3 rule 8: until the connection closes.
    UntilClose,
    /// The fields are invalid or contradict each other. Receivers close the connection or guess.
    Broken,
}

impl Framing {
    /// The length of the body, if its head gives it.
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            _ => None,
        }
    }
}
