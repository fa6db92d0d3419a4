//! The end of an operation, whose bytes are always captured.

/// The last bytes that passed without a hole between them, as many as are captured of every operation's end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail {
    /// The newest byte is the last.
    bytes: [u8; Self::LENGTH],
    length: usize,
}

impl Tail {
    pub(crate) const LENGTH: usize = 16;

    /// Appends the bytes that passed.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(Self::LENGTH)..];
        self.bytes.copy_within(last.len().., 0);
        self.bytes[Self::LENGTH - last.len()..].copy_from_slice(last);
        self.length = (self.length + last.len()).min(Self::LENGTH);
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[Self::LENGTH - self.length..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept() {
        let mut tail = Tail::default();
        tail.push(b"abc");
        tail.push(b"de");
        assert_eq!(tail.bytes(), b"abcde");
        tail.push(b"0123456789ABCDEF-GHIJ");
        assert_eq!(tail.bytes(), b"56789ABCDEF-GHIJ");
        tail.push(b"K");
        assert_eq!(tail.bytes(), b"6789ABCDEF-GHIJK");
        tail.clear();
        tail.push(b"x");
        assert_eq!(tail.bytes(), b"x");
    }
}
