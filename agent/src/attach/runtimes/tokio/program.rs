//! What the symbols of an executable say about tokio.

use std::collections::BTreeSet;
use std::ops::Range;

use compact_str::{CompactString, format_compact};
use memchr::memmem;
use object::elf;
use onlooker_elf::symbols::{Definition, Tables};
use onlooker_elf::{Elf, Place, Segment};

use super::code;
use crate::attach::Unread;

/// What the constants of a program with tokio contain: names of threads, or paths of source files.
const MARKS: [&str; 3] = ["tokio-runtime-worker", "tokio-rt-worker", "/src/runtime/scheduler/"];
/// The first release whose tasks have their ids where they are read.
const FIRST_MINOR: u32 = 26;
/// The function that replaces the id has 100 bytes.
const FUNCTION_BYTES: u64 = 512;
/// A program has a function to poll each of its kinds of tasks.
const MOST_KINDS: usize = 1 << 16;

/// Where an executable has what is read or observed. Addresses are those before the load bias is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Such as `1.54.1`.
    pub(super) version: Option<CompactString>,
    /// The id of the running task, relative to the thread pointer (modulo 2^64).
    pub(super) task_id: u64,
    /// The number that is the id of the next task.
    pub(super) next_id: u64,
    /// Offsets in the file of the functions that wake a task.
    pub(super) wakers: BTreeSet<u64>,
    /// The functions that poll tasks.
    pub(super) polls: BTreeSet<u64>,
    pub(super) image: Range<u64>,
    pub(super) code: Vec<Range<u64>>,
    /// The parts that are written when the program starts.
    pub(super) data: Vec<Range<u64>>,
}

/// Definitions of tokio's that matter here. Rust's names contain their path in both forms: the old one ends with a hash, and the new
/// one begins with a kind.
#[derive(Debug, Default)]
struct Symbols {
    contexts: Vec<Definition>,
    replacers: Vec<Definition>,
    next_ids: BTreeSet<u64>,
    wakers: BTreeSet<u64>,
    polls: BTreeSet<u64>,
}

impl Symbols {
    fn read(elf: &Elf<'_>) -> Self {
        let mut symbols = Self::default();
        Tables::read(elf).each(|name, kind, definition| {
            let has = |part: &str| memmem::find(name, part.as_bytes()).is_some();
            match kind {
                elf::STT_TLS if has("5tokio7runtime7context7CONTEXT") && has("VAL") => {
                    symbols.contexts.push(definition);
                }
                elf::STT_OBJECT if has("5tokio7runtime4task2id") && has("7NEXT_ID") => {
                    symbols.next_ids.insert(definition.address);
                }
                elf::STT_FUNC if has("5tokio7runtime4task5waker11wake_by_val") => {
                    symbols.wakers.insert(definition.address);
                }
                elf::STT_FUNC if has("5tokio7runtime4task5waker11wake_by_ref") => {
                    symbols.wakers.insert(definition.address);
                }
                elf::STT_FUNC if has("5tokio7runtime4task3raw4poll") && symbols.polls.len() < MOST_KINDS => {
                    symbols.polls.insert(definition.address);
                }
                elf::STT_FUNC if has("7context19set_current_task_id") || has("11TaskIdGuard5enter") => {
                    symbols.replacers.push(definition);
                }
                _ => {}
            }
        });
        symbols
    }
}

impl Program {
    pub(super) fn read(elf: &Elf<'_>) -> Result<Self, Unread> {
        let version = version(elf);
        let unknown = |why: &str| Unread::Unknown(why.to_owned());
        if let Some((1, ..FIRST_MINOR)) = version.as_deref().and_then(numbers) {
            return Err(unknown("its tokio is older than 1.26"));
        }
        let symbols = Symbols::read(elf);
        let (context, next_id) = match (&symbols.contexts[..], symbols.next_ids.first()) {
            ([context], Some(&next_id)) if symbols.next_ids.len() == 1 => (*context, next_id),
            ([], _) if !MARKS.iter().any(|mark| elf.has_constant(mark)) => {
                return Err(Unread::Absent("it does not use tokio".to_owned()));
            }
            ([], _) | (_, None) => {
                return Err(unknown("it lacks the symbols of tokio, perhaps because it is stripped"));
            }
            _ => return Err(unknown("it has several versions of tokio")),
        };
        let id = id_in_context(elf, &symbols.replacers, context.size)
            .ok_or_else(|| unknown("its code does not show where tokio has the id of the running task"))?;
        let task_id = context.address.checked_add(id).and_then(|at| elf.thread_local_offset(at));
        let wakers = symbols.wakers.iter().filter_map(|&waker| elf.offset_of(waker)).collect();
        let place = |address: u64, length: u64| address..address.saturating_add(length);
        let loaded: Vec<_> = elf.loaded().map(|segment| place(segment.address, segment.memory_length)).collect();
        let parts = |is_wanted: fn(&Segment) -> bool| {
            let wanted = elf.loaded().filter(|segment| is_wanted(segment));
            wanted.map(|segment| place(segment.address, segment.memory_length)).collect::<Vec<_>>()
        };
        Ok(Self {
            version,
            task_id: task_id.ok_or_else(|| unknown("it has no thread-local variables"))?,
            next_id,
            wakers,
            polls: symbols.polls,
            image: loaded.iter().map(|part| part.start).min().unwrap_or(0)
                ..loaded.iter().map(|part| part.end).max().unwrap_or(0),
            code: parts(|segment| segment.executable),
            data: parts(|segment| segment.writable),
        })
    }
}

/// The offset of the id in the struct of `size` bytes. All functions that show it must agree.
fn id_in_context(elf: &Elf<'_>, replacers: &[Definition], size: u64) -> Option<u64> {
    let mut found = BTreeSet::new();
    for replacer in replacers {
        let Some(offset) = elf.offset_of(replacer.address) else { continue };
        let function = elf.bytes(Place { offset, length: replacer.size.min(FUNCTION_BYTES) }, FUNCTION_BYTES);
        found.extend(code::replaced_words(&function).into_iter().filter(|at| at % 8 == 0 && at + 8 <= size));
    }
    (found.len() == 1).then(|| found.first().copied())?
}

/// The version, from the paths of tokio's source files. They are among the constants, because tokio may panic. None if the program
/// was built without them, or with several versions.
fn version(elf: &Elf<'_>) -> Option<CompactString> {
    const BEFORE: &[u8] = b"/tokio-";
    let constants = elf.section_bytes(".rodata");
    let mut found = BTreeSet::new();
    for at in memmem::find_iter(&constants, BEFORE) {
        let rest = &constants[at + BEFORE.len()..];
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        if rest[length..].starts_with(b"/src/")
            && let Some((major, minor, patch)) = std::str::from_utf8(&rest[..length]).ok().and_then(three_numbers)
        {
            found.insert((major, minor, patch));
        }
    }
    let &(major, minor, patch) = found.first()?;
    (found.len() == 1).then(|| format_compact!("{major}.{minor}.{patch}"))
}

fn three_numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = version.splitn(3, '.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    three_numbers(version).map(|(major, minor, _)| (major, minor))
}
