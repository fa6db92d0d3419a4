//! Checks of all bytes of a short text.

/// Whether all bytes are printable ASCII.
pub(crate) fn is_printable(bytes: &[u8]) -> bool {
    all(bytes, |byte| matches!(byte, b' '..=b'~'))
}

/// Whether all bytes fit.
#[inline(always)]
pub(crate) fn all(bytes: &[u8], fits: impl Fn(u8) -> bool) -> bool {
    let (eights, rest) = bytes.as_chunks::<8>();
    // Eight at a time without a branch compiles to a few instructions.
    eights.iter().all(|eight| eight.iter().fold(true, |all, &byte| all & fits(byte)))
        && rest.iter().all(|&byte| fits(byte))
}
