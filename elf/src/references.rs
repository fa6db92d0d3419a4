//! Finds the code that refers to an address.
//!
//! The code is not decoded for that: all of it is searched for the one instruction that compilers use. In code that may be
//! anywhere in memory, this is `lea register, [rip + distance]`. In other code it is `mov register, address`.

use memchr::memchr_iter;

use crate::file::{Elf, Place};

/// How much code is searched. Envoy has 68 MiB, Chromium 200 MiB.
const SEARCHED_BYTES: u64 = 512 << 20;
/// How much is read at a time.
const CHUNK: u64 = 1 << 20;
/// The length of `lea register, [rip + distance]`, which is longer than `mov register, address`.
const LONGEST: u64 = 7;
const PLACES: usize = 4096;

/// An instruction that refers to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Where the instruction is. It may begin one byte earlier.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The instructions that refer to one of the addresses. Of more than 4096, the first are returned.
pub(crate) fn find(elf: &Elf<'_>, addresses: &[u64]) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    let (Some(&lowest), Some(&highest)) = (sorted.first(), sorted.last()) else { return found };
    let is_wanted = |address: u64| (lowest..=highest).contains(&address) && sorted.binary_search(&address).is_ok();
    let is_fixed = elf.is_at_fixed_address();
    let mut left = SEARCHED_BYTES;
    for segment in elf.loaded().filter(|segment| segment.executable) {
        let length = segment.place.length.min(left);
        left -= length;
        let mut from = 0;
        while from < length && found.len() < PLACES {
            let offset = segment.place.offset.saturating_add(from);
            let bytes = elf.bytes(Place { offset, length: (CHUNK + LONGEST).min(length - from) }, CHUNK + LONGEST);
            let address = segment.address.wrapping_add(from);
            let mut add = |at: usize, to: u64| {
                if is_wanted(to) && at < CHUNK as usize && found.len() < PLACES {
                    found.push(Reference { from: address.wrapping_add(at as u64), to });
                }
            };
            relative(&bytes, address, &mut add);
            if is_fixed {
                absolute(&bytes, &sorted, &mut add);
            }
            from += CHUNK;
        }
    }
    found
}

/// `lea register, [rip + distance]`: 8d, a byte with mode 0 and memory operand 5, and the distance from the end.
fn relative(bytes: &[u8], address: u64, add: &mut impl FnMut(usize, u64)) {
    for at in memchr_iter(0x8d, bytes) {
        let Some([_, operands, distance @ ..]) = bytes.get(at..).and_then(|code| code.first_chunk::<6>()) else {
            return;
        };
        if operands & 0xc7 == 0x05 {
            let end = address.wrapping_add(at as u64 + 6);
            add(at, end.wrapping_add_signed(i32::from_le_bytes(*distance).into()));
        }
    }
}

/// `mov register, address` with an address of 4 bytes: b8 to bf, and the address.
fn absolute(bytes: &[u8], addresses: &[u64], add: &mut impl FnMut(usize, u64)) {
    for &address in addresses {
        let Ok(word) = u32::try_from(address) else { continue };
        for at in memchr::memmem::find_iter(bytes, &word.to_le_bytes()) {
            let Some(opcode) = at.checked_sub(1) else { continue };
            if bytes.get(opcode).is_some_and(|byte| byte & 0xf8 == 0xb8) {
                add(opcode, address);
            }
        }
    }
}
