//! Checks offsets against the goroutines of a process.

use std::ops::Range;

use onlooker_elf::Elf;

use crate::attach::{Mapped, Memory, Unread};

/// The runtime's slice of all goroutines. A goroutine stays there when it has ended, and another may take its place.
const ALL: &str = "runtime.allgs";
/// How much memory is searched for that slice where symbols are stripped.
const DATA_BYTES: u64 = 64 << 20;
/// How many places there are looked at, and how many of these that seem to begin with the first two goroutines. A program may have been
/// made so that there are very many.
const CANDIDATES: usize = 1 << 18;
const SLICES_READ: usize = 64;
/// How many goroutines are looked at. It takes a microsecond for each.
const LOOKED_AT: u64 = 1 << 17;
const PARENTS_LOOKED_AT: u64 = 64;
/// More goroutines than a process can have.
const LEAST_GOROUTINES: u64 = 3;
const MOST_GOROUTINES: u64 = 1 << 32;
/// Larger than any id: a program that starts ten million goroutines a second gets there after ten months.
const LARGEST_ID: u64 = 1 << 48;

/// Returns the largest id. Fails unless the ids at these offsets are those of the process's goroutines.
pub(super) fn largest_id(
    elf: &Elf<'_>,
    mapped: &Mapped,
    memory: &Memory,
    goid: u64,
    parent_goid: Option<u64>,
) -> Result<u64, Unread> {
    let slices = match mapped.symbol(ALL) {
        Some(symbol) => vec![symbol.address],
        None => candidates(elf, mapped, memory, LEAST_GOROUTINES..MOST_GOROUTINES),
    };
    // Before Go's runtime has started up, there are no goroutines.
    let missing = || Unread::NotYet("the ids of its goroutines are not where they should be".to_owned());
    let begins = |slice: &&u64| {
        let Ok(data) = memory.read::<u64>(**slice) else { return false };
        let id = |index| id_of(memory, data, index, goid);
        id(0) == Some(1) && id(1).is_some_and(|id| id != 1 && id < LARGEST_ID)
    };
    let slices = slices.iter().filter(begins).take(SLICES_READ);
    slices.filter_map(|slice| largest_in(memory, *slice, goid, parent_goid)).next().ok_or_else(missing)
}

/// The id at this offset of the goroutine at this index.
fn id_of(memory: &Memory, goroutines: u64, index: u64, offset: u64) -> Option<u64> {
    let g = memory.read::<u64>(goroutines.checked_add(8 * index)?).ok()?;
    memory.read::<u64>(g.checked_add(offset)?).ok()
}

/// The largest id, if the slice at this address has the process's goroutines with their ids at these offsets.
fn largest_in(memory: &Memory, slice: u64, goid: u64, parent_goid: Option<u64>) -> Option<u64> {
    let [data, length, _] = memory.read::<[u64; 3]>(slice).ok()?;
    let count = length.min(LOOKED_AT);
    // It is 0 while a new goroutine is prepared.
    let ids = (0..count).map(|index| id_of(memory, data, index, goid)).filter(|id| *id != Some(0));
    let mut ids = ids.collect::<Option<Vec<u64>>>()?;
    let is_first = ids.first() == Some(&1);
    ids.sort_unstable();
    let distinct = ids.windows(2).all(|pair| pair[0] != pair[1]);
    let largest = *ids.last()?;
    // The runtime's own goroutines are started by the first: two at least.
    let are_goroutines = is_first && distinct && ids.len() > 2 && largest < LARGEST_ID;
    if !are_goroutines {
        return None;
    }
    if let Some(offset) = parent_goid {
        let parents = (0..count.min(PARENTS_LOOKED_AT)).map(|index| id_of(memory, data, index, offset));
        let parents = parents.collect::<Option<Vec<u64>>>()?;
        if !parents.contains(&1) || parents.iter().any(|parent| *parent >= LARGEST_ID) {
            return None;
        }
    }
    // Of very many goroutines, the rest may have larger ids.
    Some(if length > LOOKED_AT { u64::MAX } else { largest })
}

/// Addresses of what may be a slice of pointers of this length, in the executable's variables.
pub(super) fn candidates(elf: &Elf<'_>, mapped: &Mapped, memory: &Memory, lengths: Range<u64>) -> Vec<u64> {
    let mut found = Vec::new();
    let mut left = DATA_BYTES;
    for segment in elf.loaded().filter(|segment| segment.writable) {
        let length = segment.memory_length.min(left) & !7;
        left -= length;
        let start = segment.address.wrapping_add(mapped.bias);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if memory.read_into(start, &mut bytes).is_err() {
            continue;
        }
        let (words, _) = bytes.as_chunks::<8>();
        for (index, slice) in words.windows(3).enumerate() {
            let [data, length, capacity] = [0, 1, 2].map(|at| u64::from_ne_bytes(slice[at]));
            let is_slice =
                data != 0 && data % 8 == 0 && (lengths.start..=capacity).contains(&length) && capacity < lengths.end;
            if is_slice && found.len() < CANDIDATES {
                found.push(start + 8 * index as u64);
            }
        }
    }
    found
}
