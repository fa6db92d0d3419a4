//! Finds the processors (`p`) of Go's runtime, and checks the offset of their ids.

use onlooker_common::limits::GO_PROCESSORS;
use onlooker_elf::Elf;

use super::goroutines::candidates;
use crate::attach::{Mapped, Memory};

/// The runtime's slice of pointers to all processors. As many of them as its length are in use.
const ALL: &str = "runtime.allp";
/// How many ids a processor takes at a time.
const BATCH: u64 = 16;
/// The states of a processor are smaller (`_Pidle` to `_Pdead`).
const STATES: u32 = 5;
/// Ids that are given to threads of C code, and to goroutines that start while this looks.
const OTHER_IDS: u64 = 64;

/// The address of the slice, if its processors have their next ids at `offset`. `largest`: an id that a goroutine has. None if
/// there are more processors than the kernel programs read.
pub(super) fn slice(elf: &Elf<'_>, mapped: &Mapped, memory: &Memory, offset: u16, largest: u64) -> Option<u64> {
    let slices = match mapped.symbol(ALL) {
        Some(symbol) => vec![symbol.address],
        None => candidates(elf, mapped, memory, 1..u64::from(GO_PROCESSORS) + 1),
    };
    let end = |slice: u64| end_of_ids(&|at| memory.read(at).ok(), slice, offset);
    // The newest goroutine has an id of the newest batch.
    slices.into_iter().find(|&slice| {
        slice >> 48 == 0 && end(slice).is_some_and(|end| end.saturating_add(OTHER_IDS) > largest && end > BATCH)
    })
}

/// The end of the newest batch of ids, if the slice at this address has the processors.
fn end_of_ids(word: &dyn Fn(u64) -> Option<u64>, slice: u64, offset: u16) -> Option<u64> {
    let [data, length, capacity] = [word(slice)?, word(slice.checked_add(8)?)?, word(slice.checked_add(16)?)?];
    if !(1..=capacity).contains(&length) || capacity > u64::from(GO_PROCESSORS) {
        return None;
    }
    let end_of = |index: u64| {
        let processor = word(data.checked_add(8 * index)?)?;
        // Its number, and its state.
        let head = word(processor)?;
        let ids = processor.checked_add(u64::from(offset))?;
        let (next, end) = (word(ids)?, word(ids.checked_add(8)?)?);
        let is_one = head & 0xffff_ffff == index && head >> 32 < u64::from(STATES) && end.checked_sub(next)? <= BATCH;
        is_one.then_some(end)
    };
    let ends = (0..capacity).map(end_of).collect::<Option<Vec<u64>>>()?;
    ends.into_iter().max()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const OFFSET: u16 = 0x40;

    /// Memory with a slice of processors at 0x100: number, state, next id, end of its ids.
    fn memory(processors: &[[u64; 4]]) -> HashMap<u64, u64> {
        let count = processors.len() as u64;
        let mut memory = HashMap::from([(0x100, 0x200), (0x108, count), (0x110, count)]);
        for (index, [number, state, next, end]) in (0_u64..).zip(processors) {
            let at = 0x1000 * (index + 1);
            memory.extend([(0x200 + 8 * index, at), (at, number | state << 32), (at + 0x40, *next), (at + 0x48, *end)]);
        }
        memory
    }

    fn end(processors: &[[u64; 4]]) -> Option<u64> {
        let memory = memory(processors);
        end_of_ids(&|at| memory.get(&at).copied(), 0x100, OFFSET)
    }

    #[test]
    fn the_newest_batch_is_any_processors() {
        assert_eq!(end(&[[0, 1, 7, 17], [1, 0, 33, 33], [2, 4, 0, 0]]), Some(33));
    }

    #[test]
    fn what_is_no_processor_is_recognised() {
        assert_eq!(end(&[[0, 1, 7, 17], [0, 0, 33, 33]]), None, "its number is another one");
        assert_eq!(end(&[[0, 5, 7, 17]]), None, "there is no such state");
        assert_eq!(end(&[[0, 1, 18, 17]]), None, "its ids are used up and more");
        assert_eq!(end(&[[0, 1, 7, 24]]), None, "it has more ids than a batch");
        assert_eq!(end(&[]), None, "there is none");
        assert_eq!(end(&vec![[0, 1, 7, 17]; 65]), None, "there are too many");
    }
}
