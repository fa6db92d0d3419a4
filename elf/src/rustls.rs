//! Finds the functions of rustls that encrypt and decrypt records, by symbols.
//!
//! They implement the traits `MessageEncrypter` and `MessageDecrypter`, for each cipher and version of TLS. They are called
//! through tables of functions, so the compiler does not inline them.

use std::collections::BTreeSet;
use std::ops::Range;

use memchr::memmem;
use object::elf;

use crate::file::Elf;
use crate::symbols::{Definition, Tables};

/// Names of what is found: the trait's function, and the version of TLS.
pub const ENCRYPT_1_2: &str = "encrypt (TLS 1.2)";
pub const ENCRYPT_1_3: &str = "encrypt (TLS 1.3)";
pub const DECRYPT_1_2: &str = "decrypt (TLS 1.2)";
pub const DECRYPT_1_3: &str = "decrypt (TLS 1.3)";

/// A trait's function as symbols have it: in the old form a hash follows, and in the new form nothing.
struct Row {
    old: &'static str,
    new: &'static str,
    in_1_2: &'static str,
    in_1_3: &'static str,
}

const ROWS: [Row; 2] = [
    Row {
        old: "MessageEncrypter$GT$7encrypt17h",
        new: "16MessageEncrypter7encrypt",
        in_1_2: ENCRYPT_1_2,
        in_1_3: ENCRYPT_1_3,
    },
    Row {
        old: "MessageDecrypter$GT$7decrypt17h",
        new: "16MessageDecrypter7decrypt",
        in_1_2: DECRYPT_1_2,
        in_1_3: DECRYPT_1_3,
    },
];

/// What symbols contain of the module that implements a version.
const TLS_1_3: &str = "tls13";
/// What rustls has for connections without keys.
const WITHOUT_KEYS: &[&str] = &["Invalid", "PassThrough"];
/// rustls has 6 functions for each library that it encrypts with. A program may have several versions of it.
const FUNCTIONS: usize = 64;

/// The functions in a file, each with its addresses before the load bias is added, by name. Several have one name.
#[must_use]
pub fn functions(elf: &Elf<'_>, tables: &Tables) -> BTreeSet<(&'static str, u64, u64)> {
    let mut found = BTreeSet::new();
    if !tables.have_names_with("MessageDecrypter") {
        return found;
    }
    tables.each(|name, kind, definition| {
        if kind == elf::STT_FUNC
            && found.len() < FUNCTIONS
            && let Some(function) = function(name)
        {
            let Range { start, end } = addresses(definition);
            found.insert((function, start, end));
        }
    });
    found.retain(|(_, start, _)| elf.offset_of(*start).is_some());
    found
}

fn addresses(Definition { address, size }: Definition) -> Range<u64> {
    address..address.saturating_add(size)
}

fn function(symbol: &[u8]) -> Option<&'static str> {
    let has = |part: &str| memmem::find(symbol, part.as_bytes()).is_some();
    // LLVM appends a suffix to some names.
    let ends_with = |part: &str| {
        memmem::rfind(symbol, part.as_bytes())
            .is_some_and(|at| symbol.get(at + part.len()).is_none_or(|next| *next == b'.'))
    };
    let row = ROWS.iter().find(|row| has(row.old) || ends_with(row.new))?;
    if WITHOUT_KEYS.iter().any(|part| has(part)) {
        return None;
    }
    Some(if has(TLS_1_3) { row.in_1_3 } else { row.in_1_2 })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::old_form(
        "_ZN111_$LT$rustls..crypto..ring..tls13..Tls13MessageEncrypter$u20$as$u20$rustls..crypto..cipher..MessageEncrypter$GT$7encrypt17h61e80eb99b303e19E",
        Some(ENCRYPT_1_3)
    )]
    #[case::tls_1_2(
        "_ZN109_$LT$rustls..crypto..ring..tls12..GcmMessageDecrypter$u20$as$u20$rustls..crypto..cipher..MessageDecrypter$GT$7decrypt17h3c395a6a69671e3fE",
        Some(DECRYPT_1_2)
    )]
    #[case::rustls_0_21(
        "_ZN87_$LT$rustls..tls13..Tls13MessageDecrypter$u20$as$u20$rustls..cipher..MessageDecrypter$GT$7decrypt17h0123456789abcdefE",
        Some(DECRYPT_1_3)
    )]
    #[case::new_form(
        "_RNvXs3_NtNtNtCs8k_6rustls6crypto4ring5tls13NtB5_21Tls13MessageEncrypterNtNtB9_6cipher16MessageEncrypter7encrypt",
        Some(ENCRYPT_1_3)
    )]
    #[case::new_form_with_a_suffix(
        "_RNvXs3_NtNtNtCs8k_6rustls6crypto4ring5tls12NtB5_19GcmMessageEncrypterNtNtB9_6cipher16MessageEncrypter7encrypt.llvm.123",
        Some(ENCRYPT_1_2)
    )]
    #[case::a_closure_in_it(
        "_ZN111_$LT$rustls..crypto..ring..tls13..Tls13MessageEncrypter$u20$as$u20$rustls..crypto..cipher..MessageEncrypter$GT$7encrypt28_$u7b$$u7b$closure$u7d$$u7d$17h22e75e467dfee2b9E",
        None
    )]
    #[case::another_function_of_the_trait(
        "_ZN109_$LT$rustls..crypto..ring..tls12..GcmMessageEncrypter$u20$as$u20$rustls..crypto..cipher..MessageEncrypter$GT$21encrypted_payload_len17hd710bff39ed3d1c8E",
        None
    )]
    #[case::without_keys(
        "_ZN108_$LT$rustls..crypto..cipher..InvalidMessageDecrypter$u20$as$u20$rustls..crypto..cipher..MessageDecrypter$GT$7decrypt17hac3159392993ce42E",
        None
    )]
    fn a_symbol_names_a_function_of_rustls(#[case] symbol: &str, #[case] expected: Option<&str>) {
        assert_eq!(function(symbol.as_bytes()), expected);
    }
}
