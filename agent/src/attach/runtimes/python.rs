//! Contexts of CPython (PEP 567), from 3.8 on.
//!
//! A thread's `PyThreadState` is the value of a key of `pthread_getspecific`, and one of its members is the current context.
//! Few offsets are taken for granted, because builds of one version differ:
//!
//! - The list of all `PyThreadState`s begins where [`LISTS`] says, or from 3.13 on where the runtime itself says. Every state
//!   in the list points back to the interpreter.
//! - A thread's pointer, which the state contains as the thread's id, is an address that contains itself.
//! - The key's value is where each thread's memory has its state, at one distance from the thread's pointer.
//! - The current context is the member that is null, or an object whose type is `PyContext_Type`, in every state.

use std::io;

use onlooker_common::unit::{self, UnitSource, python};

use crate::attach::{Memory, Unread, executables};
use crate::discover::process::Process;

/// Where lists of threads are in versions that do not say it themselves: the offset of the main interpreter in `_PyRuntime`
/// (`interpreters.main`), and of the first state in the interpreter (`tstate_head`, `threads.head`).
const LISTS: &[List] = &[
    // 3.8 to 3.10
    List { interpreter: 40, state: 8 },
    // 3.11
    List { interpreter: 48, state: 16 },
    // 3.12
    List { interpreter: 48, state: 72 },
];

/// The beginning of `_PyRuntime` from 3.13 on (`_Py_DebugOffsets`), in words: a mark, the version, whether it is the build
/// without a global lock, two words about the runtime, `interpreters_head`, three words, `threads_head`.
const DEBUG_OFFSETS: usize = 10;
const MARK: u64 = u64::from_le_bytes(*b"xdebugpy");

/// Members at the beginning of `PyThreadState`, in all versions.
const NEXT: u64 = 8;
const INTERPRETER: u64 = 16;

/// `ob_type` of `PyObject`.
const TYPE: u64 = 8;

/// Words of `PyThreadState` that are looked at. The current context is among the first 32 in all versions so far.
const STATE_WORDS: usize = 64;
/// Threads that are looked at.
const THREADS: usize = 64;
/// Words behind a thread's pointer that may have the key's value. glibc has the values of the first 32 keys in `struct
/// pthread`, from 0x310 on.
const THREAD_WORDS: usize = 512;
/// Words behind a thread's pointer that may point to the values (musl), and keys.
const POINTERS: usize = 32;
const KEYS: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct List {
    interpreter: u64,
    state: u64,
}

/// A thread that runs Python.
#[derive(Debug, Clone, Copy)]
struct Thread {
    /// Address of its `PyThreadState`.
    state: u64,
    words: [u64; STATE_WORDS],
}

/// Finds how the kernel programs read the current context.
pub(crate) fn find(process: &Process) -> Result<UnitSource, Unread> {
    let unreadable = |error: io::Error| Unread::Unknown(format!("the process cannot be read: {error}"));
    let binaries = executables(process).map_err(unreadable)?;
    let symbol = |name: &str| binaries.iter().find_map(|binary| binary.symbol(name)).map(|symbol| symbol.address);
    let (Some(runtime), Some(context_type)) = (symbol("_PyRuntime"), symbol("PyContext_Type")) else {
        return Err(Unread::NotYet("no mapped file defines _PyRuntime and PyContext_Type".to_owned()));
    };
    let memory = Memory::open(process).map_err(unreadable)?;
    source(&memory, runtime, context_type)
}

/// Finds it in `memory`, where `_PyRuntime` and `PyContext_Type` are at these addresses.
fn source(memory: &Memory, runtime: u64, context_type: u64) -> Result<UnitSource, Unread> {
    let threads = threads(memory, runtime)?;
    let pointer = (0..STATE_WORDS)
        .find(|&word| threads.iter().all(|thread| is_thread_pointer(memory, thread.words[word])))
        .ok_or_else(|| Unread::Unknown("no member of PyThreadState is the thread's pointer".to_owned()))?;
    let (block, slot) = value_of_key(memory, &threads, pointer)
        .ok_or_else(|| Unread::Unknown("the key of PyThreadState was not found in the threads' memory".to_owned()))?;
    let is_context = |at: u64| memory.read::<u64>(at.wrapping_add(TYPE)).is_ok_and(|found| found == context_type);
    let in_all = |&word: &usize| {
        let values = || threads.iter().map(|thread| thread.words[word]);
        values().any(|at| at != 0) && values().all(|at| at == 0 || is_context(at))
    };
    let context = (0..STATE_WORDS).find(in_all).ok_or_else(|| Unread::NotYet("no thread has a context".to_owned()))?;
    let mut words = [0; unit::SOURCE_WORDS];
    words[python::BLOCK] = block;
    words[python::SLOT] = slot;
    words[python::CONTEXT] = 8 * context as u64;
    Ok(UnitSource { kind: unit::PYTHON_CONTEXT, words, ..UnitSource::default() })
}

/// The threads that run Python.
fn threads(memory: &Memory, runtime: u64) -> Result<Vec<Thread>, Unread> {
    let start: [u64; DEBUG_OFFSETS] =
        memory.read(runtime).map_err(|error| Unread::Unknown(format!("_PyRuntime cannot be read: {error}")))?;
    let own;
    let lists = match start {
        [MARK, _, 0, _, _, interpreter, _, _, _, state] => {
            own = [List { interpreter, state }];
            &own[..]
        }
        [MARK, ..] => {
            return Err(Unread::Unknown(
                "contexts of Python without a global interpreter lock are not read".to_owned(),
            ));
        }
        _ => LISTS,
    };
    let mut is_empty = true;
    for list in lists {
        let interpreter: u64 = memory.read(runtime.wrapping_add(list.interpreter)).unwrap_or(0);
        if interpreter == 0 {
            continue;
        }
        is_empty = false;
        let first = memory.read(interpreter.wrapping_add(list.state)).unwrap_or(0);
        if let Some(threads) = follow(memory, first, interpreter) {
            return Ok(threads);
        }
    }
    Err(match is_empty {
        true => Unread::NotYet("the interpreter has not started".to_owned()),
        false => Unread::NotYet("the list of threads is not where it is in Python 3.8 to 3.14".to_owned()),
    })
}

/// The states from `first` on. `None` if one of them is not the interpreter's.
fn follow(memory: &Memory, first: u64, interpreter: u64) -> Option<Vec<Thread>> {
    let mut threads = Vec::new();
    let mut state = first;
    while state != 0 && threads.len() < THREADS {
        let words: [u64; STATE_WORDS] = memory.read(state).ok()?;
        if words[(INTERPRETER / 8) as usize] != interpreter {
            return None;
        }
        threads.push(Thread { state, words });
        state = words[(NEXT / 8) as usize];
    }
    (!threads.is_empty()).then_some(threads)
}

/// Whether a thread's memory begins at `at`: with its own address, in glibc and in musl.
fn is_thread_pointer(memory: &Memory, at: u64) -> bool {
    at != 0 && at.is_multiple_of(8) && memory.read::<u64>(at).is_ok_and(|own| own == at)
}

/// Where each thread has its state: behind its pointer (the first result is 0), or in a block that a word behind its pointer
/// points to.
fn value_of_key(memory: &Memory, threads: &[Thread], pointer: usize) -> Option<(u64, u64)> {
    let is_in_all = |block: u64, slot: u64| {
        threads.iter().all(|thread| {
            let own = thread.words[pointer];
            let values = if block == 0 { Ok(own) } else { memory.read(own.wrapping_add(block)) };
            values.is_ok_and(|values| memory.read(values.wrapping_add(slot)).is_ok_and(|at: u64| at == thread.state))
        })
    };
    let offsets = |words: usize| (1..words as u64).map(|word| 8 * word);
    let direct = offsets(THREAD_WORDS).map(|slot| (0, slot));
    let indirect = offsets(POINTERS).flat_map(|block| (0..KEYS as u64).map(move |key| (block, 8 * key)));
    direct.chain(indirect).find(|&(block, slot)| is_in_all(block, slot))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// What a process would have in its memory, in that of this process.
    struct Fake {
        runtime: Vec<u64>,
        interpreter: Vec<u64>,
        /// Per thread: its memory, and its state.
        threads: Vec<[Vec<u64>; 2]>,
        contexts: Vec<[u64; 2]>,
    }

    const CONTEXT: usize = 28;
    const ID: usize = 19;
    const SLOT: usize = 0x330 / 8;
    const BLOCK: usize = 16;
    const KEY: usize = 3;

    fn address(words: &[u64]) -> u64 {
        words.as_ptr().addr() as u64
    }

    impl Fake {
        /// Two threads, of which the second has a context.
        fn new(list: List, is_musl: bool) -> Self {
            let contexts = vec![[1, 0]];
            let mut fake = Self {
                runtime: vec![0; 128],
                interpreter: vec![0; 1024],
                threads: (0..2).map(|_| [vec![0; 1024], vec![0; 128]]).collect(),
                contexts,
            };
            fake.contexts[0][1] = fake.context_type();
            let interpreter = address(&fake.interpreter);
            fake.runtime[list.interpreter as usize / 8] = interpreter;
            fake.interpreter[list.state as usize / 8] = address(&fake.threads[0][1]);
            let second = address(&fake.threads[1][1]);
            for [memory, state] in &mut fake.threads {
                let (own, at) = (address(memory), address(state));
                memory[0] = own;
                if is_musl {
                    memory[BLOCK] = own + 4096;
                    memory[512 + KEY] = at;
                } else {
                    memory[SLOT] = at;
                }
                state[NEXT as usize / 8] = if at == second { 0 } else { second };
                state[INTERPRETER as usize / 8] = interpreter;
                state[ID] = own;
            }
            fake.threads[1][1][CONTEXT] = address(&fake.contexts[0]);
            fake
        }

        fn context_type(&self) -> u64 {
            address(&self.runtime) + 1000
        }

        fn source(&self) -> Result<UnitSource, Unread> {
            let memory = Memory::open(&Process::myself().unwrap()).unwrap();
            source(&memory, address(&self.runtime), self.context_type())
        }
    }

    /// With offsets in the runtime itself.
    fn described(is_free_threaded: u64) -> Fake {
        let list = List { interpreter: 640, state: 7344 };
        let mut fake = Fake::new(list, false);
        fake.runtime[..DEBUG_OFFSETS].copy_from_slice(&[
            MARK,
            0x030d_00f0,
            is_free_threaded,
            1,
            1,
            list.interpreter,
            1,
            1,
            1,
            list.state,
        ]);
        fake
    }

    #[rstest]
    #[case::from_3_8(Fake::new(LISTS[0], false), 0, SLOT)]
    #[case::from_3_11(Fake::new(LISTS[1], false), 0, SLOT)]
    #[case::from_3_12(Fake::new(LISTS[2], false), 0, SLOT)]
    #[case::from_3_13(described(0), 0, SLOT)]
    #[case::musl(Fake::new(LISTS[1], true), BLOCK, KEY)]
    fn the_context_is_found_in_every_layout(#[case] fake: Fake, #[case] block: usize, #[case] slot: usize) {
        let source = fake.source().unwrap();
        assert_eq!(source.kind, unit::PYTHON_CONTEXT);
        assert_eq!(source.words[..3], [block, slot, CONTEXT].map(|words| 8 * words as u64));
    }

    #[test]
    fn a_build_without_a_global_lock_is_not_read() {
        assert!(matches!(described(1).source(), Err(Unread::Unknown(_))));
    }

    #[test]
    fn before_a_thread_has_a_context_it_is_not_found_yet() {
        let mut fake = Fake::new(LISTS[1], false);
        fake.threads[1][1][CONTEXT] = 0;
        assert!(matches!(fake.source(), Err(Unread::NotYet(_))));
        fake.interpreter[LISTS[1].state as usize / 8] = 0;
        assert!(matches!(fake.source(), Err(Unread::NotYet(_))));
        fake.runtime.fill(0);
        assert!(matches!(fake.source(), Err(Unread::NotYet(_))));
    }

    #[rstest]
    #[case::the_interpreter(|fake: &mut Fake| fake.threads[1][1][INTERPRETER as usize / 8] += 8)]
    #[case::the_thread(|fake: &mut Fake| fake.threads[1][1][ID] += 8)]
    #[case::the_key(|fake: &mut Fake| fake.threads[1][0][SLOT] += 8)]
    #[case::the_type(|fake: &mut Fake| fake.contexts[0][1] += 8)]
    #[case::the_next_state(|fake: &mut Fake| fake.threads[1][1][NEXT as usize / 8] = 8)]
    fn what_one_thread_contradicts_is_not_believed(#[case] change: fn(&mut Fake)) {
        let mut fake = Fake::new(LISTS[1], false);
        change(&mut fake);
        fake.source().unwrap_err();
    }

    #[test]
    fn a_list_of_threads_without_an_end_is_followed_only_so_far() {
        let mut fake = Fake::new(LISTS[1], false);
        fake.threads[1][1][NEXT as usize / 8] = address(&fake.threads[0][1]);
        fake.source().unwrap();
    }
}
