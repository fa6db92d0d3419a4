//! Recognises in machine code which word of a struct a function replaces.

/// The offsets of words that the x86-64 code of a function replaces in a struct that a register points to: it loads the old value
/// and stores another at the same place. In unoptimised code, it passes the address of the word to another function.
pub(super) fn replaced_words(code: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    for (at, _) in code.iter().enumerate() {
        let rest = &code[at..];
        if let [0x48, 0x83, 0xc7, offset, ..] = *rest {
            // add rdi, offset
            found.push(u64::from(offset));
        }
        let Some((loaded, length)) = moved(rest, LOAD) else { continue };
        if let Some((stored, _)) = moved(&rest[length..], STORE)
            && loaded == stored
        {
            found.push(u64::from(loaded.offset));
        }
    }
    found
}

const LOAD: u8 = 0x8b;
const STORE: u8 = 0x89;

/// A word in memory: at an offset from what a register points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    register: u8,
    offset: u8,
}

/// The word that the instruction `mov` at the beginning of `code` accesses, and the instruction's length. Its bytes are REX.W, the
/// operation, ModRM, and a displacement of one byte or none.
fn moved(code: &[u8], operation: u8) -> Option<(Word, usize)> {
    let [rex, found, modrm, ..] = *code else { return None };
    let (mode, register) = (modrm >> 6, modrm & 7);
    // Another byte follows for register 4. Register 5 without a displacement means something else.
    if rex & 0xf8 != 0x48 || found != operation || register == 4 {
        return None;
    }
    let register = register | (rex & 1) << 3;
    match mode {
        0 if modrm & 7 != 5 => Some((Word { register, offset: 0 }, 3)),
        1 => Some((Word { register, offset: *code.get(3)? }, 4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    // mov rcx, [rax+0x30]; mov [rax+0x30], rbx
    #[case::optimised(&[0x48, 0x8b, 0x48, 0x30, 0x48, 0x89, 0x58, 0x30], &[0x30])]
    // mov rcx, [r14+0x30]; mov [r14+0x30], rbx
    #[case::by_a_new_register(&[0x49, 0x8b, 0x4e, 0x30, 0x49, 0x89, 0x5e, 0x30], &[0x30])]
    // mov rcx, [rax]; mov [rax], rbx
    #[case::first_word(&[0x48, 0x8b, 0x08, 0x48, 0x89, 0x18], &[0])]
    // add rdi, 0x30
    #[case::unoptimised(&[0x48, 0x83, 0xc7, 0x30], &[0x30])]
    // mov rcx, [rax+0x30]; mov [rax+0x28], rbx
    #[case::another_word(&[0x48, 0x8b, 0x48, 0x30, 0x48, 0x89, 0x58, 0x28], &[])]
    // mov rcx, [rax+0x30]; mov [rdx+0x30], rbx
    #[case::another_register(&[0x48, 0x8b, 0x48, 0x30, 0x48, 0x89, 0x5a, 0x30], &[])]
    #[case::cut(&[0x48, 0x8b, 0x48, 0x30, 0x48, 0x89, 0x58], &[])]
    #[case::empty(&[], &[])]
    fn a_word_that_is_loaded_and_stored_is_replaced(#[case] code: &[u8], #[case] expected: &[u64]) {
        assert_eq!(replaced_words(code), expected);
    }
}
