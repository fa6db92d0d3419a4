//! Hexadecimal digits in lower case.

/// The bytes of twice as many digits.
pub(super) fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    let mut all = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks().0) {
        let [high, low] = pair.map(|digit| VALUES[usize::from(digit)]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all < 16).then_some(bytes)
}

/// The values of the digits, by byte. Those of other bytes are larger.
const VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < digits.len() {
        values[digits[value] as usize] = value as u8;
        value += 1;
    }
    values
};

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
