//! Finds the encrypter of a connection of rustls by its decrypter.
//!
//! A connection has both as boxes of trait objects, one after the other (`RecordLayer`). A box is the address of the value and that of its table
//! of functions. A table begins with the function that drops the value, its size and its alignment.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;

use crate::arch::processor as arch;
use crate::user;

const WORD: u64 = 8;
/// Words that are read at a time.
const BLOCK: usize = 16;
const BLOCK_BYTES: u64 = BLOCK as u64 * WORD;
/// Blocks that are searched behind each address that a register or the stack has.
const BLOCKS: u64 = 12;
const REGISTERS: u64 = 6;
/// Words of the caller's stack that may be the connection's address.
const STACK_WORDS: u64 = 32;
/// No user memory is below and above.
const LOWEST_ADDRESS: u64 = 1 << 16;
const HIGHEST_ADDRESS: u64 = 1 << 47;
/// An encrypter has its key: a few hundred bytes.
const LARGEST: u64 = 4096;
const MOST_ALIGNED: u64 = 64;

/// A search in the memory of the running thread.
#[repr(C)]
pub struct Search {
    registers: [u64; REGISTERS as usize],
    stack_pointer: u64,
    decrypter: u64,
    /// 0 while it is not found.
    encrypter: u64,
}

impl Search {
    /// # Safety
    /// `registers` must be the context of a uprobe at the return of a function that the connection called.
    #[inline(always)]
    pub unsafe fn begin(registers: *const pt_regs, decrypter: u64) -> Self {
        // SAFETY: the caller's promise.
        let (stack_pointer, registers) = unsafe { (arch::stack_pointer(registers), arch::preserved(registers)) };
        Self { registers, stack_pointer, decrypter, encrypter: 0 }
    }

    /// Searches. Returns the address of the encrypter.
    #[inline(always)]
    pub fn encrypter(mut self) -> Option<u64> {
        let blocks = (REGISTERS + STACK_WORDS) * BLOCKS;
        // SAFETY: the callback takes the index and a Search.
        unsafe { bpf_loop(blocks as u32, search_block as *mut c_void, (&raw mut self).cast(), 0) };
        // SAFETY: a read of a local, which the callback wrote.
        let encrypter = unsafe { (&raw const self.encrypter).read_volatile() };
        (encrypter != 0).then_some(encrypter)
    }
}

/// Searches the `index`th block.
extern "C" fn search_block(index: u32, search: *mut Search) -> i64 {
    // SAFETY: called by `Search::encrypter` with itself.
    let search = unsafe { &mut *search };
    let (source, block) = (u64::from(index) / BLOCKS, u64::from(index) % BLOCKS);
    let address = if source < REGISTERS {
        // Without an index that is not constant, which the verifier would not allow.
        let [rbx, rbp, r12, r13, r14, r15] = search.registers;
        match source {
            0 => rbx,
            1 => rbp,
            2 => r12,
            3 => r13,
            4 => r14,
            _ => r15,
        }
    } else {
        user::peek::<u64>(search.stack_pointer.wrapping_add((source - REGISTERS) * WORD)).unwrap_or(0)
    };
    if !is_address(address) || !address.is_multiple_of(WORD) {
        return user::CONTINUE;
    }
    let at = address + block * BLOCK_BYTES;
    let Some(words) = user::peek::<[u64; BLOCK]>(at) else { return user::CONTINUE };
    let mut found = 0;
    for (index, word) in words.iter().enumerate() {
        if *word == search.decrypter {
            found = at + index as u64 * WORD;
        }
    }
    if found != 0
        && let Some(encrypter) = before(found)
    {
        search.encrypter = encrypter;
        return user::LEAVE;
    }
    user::CONTINUE
}

/// The encrypter whose box is before that of the decrypter at this address.
#[inline(always)]
fn before(address: u64) -> Option<u64> {
    let [encrypter, its_table, _, table] = user::peek::<[u64; 4]>(address - 2 * WORD)?;
    (is_address(encrypter) && is_table(its_table) && is_table(table)).then_some(encrypter)
}

#[inline(always)]
fn is_table(address: u64) -> bool {
    let Some([_, size, alignment]) = (if is_address(address) { user::peek::<[u64; 3]>(address) } else { None }) else {
        return false;
    };
    (WORD..=LARGEST).contains(&size) && (1..=MOST_ALIGNED).contains(&alignment)
}

#[inline(always)]
fn is_address(address: u64) -> bool {
    (LOWEST_ADDRESS..HIGHEST_ADDRESS).contains(&address)
}
