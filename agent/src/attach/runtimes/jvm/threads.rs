//! The threads of a JVM, by which offsets are found and checked.

use super::colours::Colours;
use super::not_yet;
use super::structs::Structs;
use crate::attach::{Memory, Unread};

/// A JVM has ten threads of its own. A larger number is no better check.
const THREADS_READ: u32 = 64;
/// So many threads must agree.
const THREADS_NEEDED: usize = 4;
/// The id of a `Thread` object is looked for among so many words.
const OBJECT_WORDS: usize = 12;
/// So many words of a `JavaThread` are read.
const THREAD_WORDS: usize = 256;
/// The lowest id of a thread is not higher. The JVM starts its own threads first, and some of them never end.
const FIRST_IDS: u64 = 64;
/// No JVM has started as many threads.
const IDS: u64 = 1 << 48;

/// The threads that could be read.
pub(super) struct Threads(Vec<Thread>);

struct Thread {
    /// Address of the `JavaThread`.
    address: u64,
    words: Vec<u64>,
    /// The `Thread` object of the thread itself.
    own: [u64; OBJECT_WORDS],
    /// That of the thread that it runs: itself, or a virtual thread. `None` if it was changing.
    current: Option<[u64; OBJECT_WORDS]>,
}

impl Threads {
    /// `objects` are the offsets of `_threadObj` and `_vthread`.
    pub(super) fn read(
        memory: &Memory,
        structs: &Structs,
        colours: &Colours,
        objects: [u64; 2],
    ) -> Result<Self, Unread> {
        let list = structs.address("ThreadsSMRSupport", "_java_thread_list");
        let list = list.ok_or_else(|| Unread::Unknown("libjvm.so does not say where its threads are".to_owned()))?;
        let (length, threads) = (structs.need("ThreadsList", "_length")?, structs.need("ThreadsList", "_threads")?);
        let unreadable = |error: std::io::Error| not_yet(&format!("its threads cannot be read: {error}"));
        let list: u64 = memory.read(list).map_err(unreadable)?;
        let length: u32 = memory.read(list.wrapping_add(length)).map_err(unreadable)?;
        let threads: u64 = memory.read(list.wrapping_add(threads)).map_err(unreadable)?;
        let read = |index: u32| {
            let address = memory.read::<u64>(threads.wrapping_add(u64::from(index) * 8)).ok()?;
            Thread::read(memory, colours, address, objects)
        };
        let found: Vec<_> = (0..length.min(THREADS_READ)).filter_map(read).collect();
        if found.len() < THREADS_NEEDED { Err(not_yet("it has few threads")) } else { Ok(Self(found)) }
    }

    /// The offset of the id in a `Thread` object: the only one where all threads have different numbers, and the lowest is small. The
    /// object of each thread must also have the thread's address (`eetop`), at one offset.
    pub(super) fn find_id(&self) -> Result<u64, Unread> {
        let has_addresses = |word: usize| self.0.iter().all(|thread| thread.own[word] == thread.address);
        if !(0..OBJECT_WORDS).any(has_addresses) {
            return Err(not_yet("its Thread objects are incomplete"));
        }
        let is_id = |word: &usize| {
            let mut ids: Vec<u64> = self.0.iter().map(|thread| thread.own[*word]).collect();
            ids.sort_unstable();
            let is_first = ids.first().is_some_and(|first| (1..=FIRST_IDS).contains(first));
            is_first && ids.iter().all(|&id| id < IDS) && ids.windows(2).all(|pair| pair[0] < pair[1])
        };
        let found: Vec<usize> = (0..OBJECT_WORDS).filter(is_id).collect();
        match found[..] {
            [word] => Ok(word as u64 * 8),
            [] => Err(not_yet("its Thread objects have no ids")),
            _ => Err(Unread::Unknown("it is ambiguous where a Thread object has its id".to_owned())),
        }
    }

    /// Whether each thread has at the offset `at` the id of the thread that it runs. `id` is the offset of ids in objects.
    pub(super) fn current_id_is_at(&self, id: u64, at: u64) -> bool {
        let (id, at) = (id as usize / 8, at as usize / 8);
        self.0.iter().all(|thread| {
            let Some(&found) = thread.words.get(at) else { return false };
            found == thread.own[id] || thread.current.is_some_and(|current| found == current[id])
        })
    }
}

impl Thread {
    /// Reads the thread at `address`. `None` if it is starting or ending.
    fn read(memory: &Memory, colours: &Colours, address: u64, objects: [u64; 2]) -> Option<Self> {
        let words = memory.read::<[u64; THREAD_WORDS]>(address).ok()?.to_vec();
        let [own, current] = objects.map(|at| {
            let handle = *words.get(usize::try_from(at).ok()? / 8)?;
            let object = colours.address(memory, memory.read(handle).ok()?)?;
            memory.read(object).ok()
        });
        Some(Self { address, words, own: own?, current })
    }
}
