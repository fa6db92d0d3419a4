//! The valid lines of RESP, by type.

/// How much of a line or string is kept. Command names, subcommands and error words are shorter.
pub(super) const KEPT: usize = 64;
pub(super) const CR_LF: &[u8; 2] = b"\r\n";

/// Whether a reply may begin with this byte.
pub(super) fn is_reply_type(first: u8) -> bool {
    b"+-:$*_#,(!=%~>|".contains(&first)
}

/// The number after a type. `None` is the null of RESP2.
pub(super) fn length(content: &[u8], whole: bool) -> Result<Option<u64>, &'static str> {
    if content == b"-1" {
        return Ok(None);
    }
    let digits = std::str::from_utf8(content).ok().filter(|_| whole);
    let plain = digits.filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    plain.and_then(|digits| digits.parse().ok()).map(Some).ok_or("a length that is no number")
}

/// Whether the content of a line is valid for its type.
pub(super) fn is_value(kind: u8, content: &[u8], whole: bool) -> bool {
    let unsigned = content.strip_prefix(b"-").or(content.strip_prefix(b"+")).unwrap_or(content);
    match kind {
        b':' => whole && !unsigned.is_empty() && unsigned.iter().all(u8::is_ascii_digit),
        b'(' => !unsigned.is_empty() && (!whole || unsigned.iter().all(u8::is_ascii_digit)),
        b',' => {
            matches!(unsigned, b"inf" | b"nan")
                || (!unsigned.is_empty() && unsigned.iter().all(|byte| b"0123456789+-.eE".contains(byte)))
        }
        b'#' => matches!(content, b"t" | b"f"),
        b'_' => content.is_empty(),
        _ => true,
    }
}
