//! Hexadecimal digits in lower case.

/// The bytes of twice as many digits.
pub(super) fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A trace id of 32 digits, or of 16 whose upper half is 0. `None` for the invalid id of zeros.
pub(super) fn trace_id(digits: &[u8]) -> Option<[u8; 16]> {
    let id = match hex::<8>(digits) {
        Some(low) => {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&low);
            id
        }
        None => hex(digits)?,
    };
    (id != [0; 16]).then_some(id)
}

/// A span id of 16 digits. `None` for the invalid id of zeros.
pub(super) fn span_id(digits: &[u8]) -> Option<[u8; 8]> {
    hex(digits).filter(|id| *id != [0; 8])
}
