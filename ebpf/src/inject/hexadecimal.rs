//! Hexadecimal digits, eight at a time: the first is in the lowest byte of a word.

const EACH: u64 = 0x0101_0101_0101_0101;

/// Whether one of the eight bytes is `byte`.
#[inline(always)]
pub fn has_byte(word: u64, byte: u8) -> bool {
    let zeroed = word ^ (EACH * byte as u64);
    zeroed.wrapping_sub(EACH) & !zeroed & (EACH << 7) != 0
}

/// The digits of a number, in lower case.
#[inline(always)]
pub fn digits(number: u32) -> u64 {
    let mut digits = u64::from(number.swap_bytes());
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits >> 4 | digits << 8) & (EACH * 0x0f);
    let letters = (digits + EACH * 6) >> 4 & EACH;
    digits + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)
}

/// The number of sixteen digits. `None` if they are not all digits in lower case.
#[inline(always)]
pub fn number_of_digits(text: [u64; 2]) -> Option<u64> {
    let (high, low) = (half(text[0]), half(text[1]));
    let is_number = digits(high) == text[0] && digits(low) == text[1];
    is_number.then_some(u64::from(high) << 32 | u64::from(low))
}

/// The number of eight digits, or any number if there are other characters.
#[inline(always)]
fn half(text: u64) -> u32 {
    let letters = text >> 6 & EACH;
    let nibbles = (text & (EACH * 0x0f)).wrapping_add(letters * 9);
    let bytes = nibbles << 4 & 0x00f0_00f0_00f0_00f0 | nibbles >> 8 & 0x000f_000f_000f_000f;
    let bytes = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    ((bytes | bytes >> 16) as u32).swap_bytes()
}
