//! Checks that the tables of tokio's kinds of tasks are as the kernel programs expect.
//!
//! A table (`Vtable`, `tokio/src/runtime/task/raw.rs`) has seven functions, of which the first polls the task. Then come the offsets of
//! the task's trailer, its scheduler and its id.

use super::program::Program;
use crate::attach::{Memory, Unread};

const FUNCTIONS: usize = 7;
const WORDS: usize = FUNCTIONS + 3;
/// How much data is searched. Tables are constants with addresses.
const DATA_BYTES: u64 = 64 << 20;
/// A task begins with its header, the scheduler and the id.
const LARGEST_ID_OFFSET: u64 = 1024;

/// Fails unless the process has tables, and all look right. `bias` is added to addresses of the program.
pub(super) fn check(memory: &Memory, program: &Program, bias: u64) -> Result<(), Unread> {
    let mut found = 0;
    for part in &program.data {
        let length = usize::try_from((part.end - part.start).min(DATA_BYTES)).unwrap_or(0);
        let mut bytes = vec![0; length];
        if memory.read_into(part.start.wrapping_add(bias), &mut bytes).is_err() {
            continue;
        }
        let (words, _) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        for table in words.windows(WORDS).filter(|table| program.polls.contains(&table[0].wrapping_sub(bias))) {
            if !is_table(table, |address| program.code.iter().any(|part| part.contains(&address.wrapping_sub(bias)))) {
                return Err(Unread::Unknown("its tasks are not as those of the known versions of tokio".to_owned()));
            }
            found += 1;
        }
    }
    if found == 0 {
        return Err(Unread::Unknown("it has no tables of tokio's tasks".to_owned()));
    }
    Ok(())
}

fn is_table(words: &[u64], is_code: impl Fn(u64) -> bool) -> bool {
    let (functions, offsets) = words.split_at(FUNCTIONS);
    let [trailer, scheduler, id] = *offsets else { return false };
    functions.iter().all(|&function| is_code(function))
        && 0 < scheduler
        && scheduler < id
        && id < trailer
        && id <= LARGEST_ID_OFFSET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_functions_and_rising_offsets() {
        let is_code = |address| (0x1000..0x2000).contains(&address);
        let table = [0x1000, 0x1010, 0x1020, 0x1030, 0x1040, 0x1050, 0x1060, 0x180, 0x30, 0x38];
        assert!(is_table(&table, is_code));
        for (at, wrong) in [(0, 0), (6, 0x30), (7, 0x38), (8, 0), (8, 0x38), (9, 0x30), (9, 0x1068)] {
            let mut table = table;
            table[at] = wrong;
            assert!(!is_table(&table, is_code), "word {at}");
        }
    }
}
