//! Checks where threads have the id of their task.
//!
//! The thread pointer of a thread points to itself, at the end of the mapping that is the thread's stack. The main thread has it in a
//! mapping of the dynamic linker, or in the heap.

use crate::attach::{Mapping, Memory, Unread};

/// How much of the end of each mapping is searched. The C library's own struct is there, of 2.5 KiB.
const END_BYTES: u64 = 16 << 10;
/// A process with more mappings and threads is checked by the first of them.
const MAPPINGS_READ: usize = 8192;

/// Fails unless each thread has no id, or one that was given to a task and that no other thread has. `at` is relative to the thread
/// pointer.
pub(super) fn check(memory: &Memory, mappings: &[Mapping], at: u64, next_id: u64) -> Result<(), Unread> {
    let threads = thread_pointers(memory, mappings);
    if threads.is_empty() {
        return Err(Unread::Unknown("its threads were not found".to_owned()));
    }
    if next_id <= 1 {
        return Err(Unread::NotYet("it has started no task".to_owned()));
    }
    let ids = threads.iter().filter_map(|thread| memory.read::<u64>(thread.wrapping_add(at)).ok());
    let mut ids: Vec<u64> = ids.filter(|&id| id != 0).collect();
    ids.sort_unstable();
    let is_plausible = ids.iter().all(|&id| id < next_id) && ids.windows(2).all(|pair| pair[0] != pair[1]);
    // A task may have moved to another thread meanwhile, or have been started.
    if is_plausible {
        Ok(())
    } else {
        Err(Unread::NotYet("the ids of its tasks are not where they should be".to_owned()))
    }
}

fn thread_pointers(memory: &Memory, mappings: &[Mapping]) -> Vec<u64> {
    let mut found = Vec::new();
    let anonymous = mappings.iter().filter(|mapping| mapping.writable && mapping.inode == 0);
    for mapping in anonymous.take(MAPPINGS_READ) {
        let is_heap = mapping.name == "[heap]";
        let start = if is_heap { mapping.start } else { mapping.start.max(mapping.end.saturating_sub(END_BYTES)) };
        let length = mapping.end.saturating_sub(start).min(END_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if memory.read_into(start, &mut bytes).is_err() {
            continue;
        }
        let (words, _) = bytes.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let address = start + 8 * index as u64;
            if u64::from_ne_bytes(*word) == address && is_thread(memory, address) {
                found.push(address);
            }
        }
    }
    found
}

/// glibc's `tcbhead_t` points to itself a second time. musl's `struct pthread` is in a list.
fn is_thread(memory: &Memory, address: u64) -> bool {
    let word = |at: u64| memory.read::<u64>(at).ok();
    let Some(third) = word(address.wrapping_add(16)) else { return false };
    third == address || word(third.wrapping_add(24)) == Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::mappings;
    use crate::discover::process::Process;

    thread_local! {
        static OWN: u64 = const { 7 };
    }

    #[test]
    fn the_threads_of_this_process_are_found() {
        let process = Process::myself().unwrap();
        let memory = Memory::open(&process).unwrap();
        let (own, before) = std::thread::spawn(|| {
            let process = Process::myself().unwrap();
            let memory = Memory::open(&process).unwrap();
            let variable = OWN.with(|own| std::ptr::from_ref(own).addr() as u64);
            let threads = thread_pointers(&memory, &mappings(&process).unwrap());
            (threads.iter().copied().find(|thread| (variable..variable + 0x10000).contains(thread)), threads.len())
        })
        .join()
        .unwrap();
        assert!(own.is_some_and(|own| own % 16 == 0), "{own:?}");
        assert!(before >= 2);
        assert!(!thread_pointers(&memory, &mappings(&process).unwrap()).is_empty());
    }
}
