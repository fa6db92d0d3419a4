//! Finds the async ids of Node: where the event loop of the main thread has its `async_id_fields`.
//!
//! The frames of the main thread point to `node::Environment`. Among its members is a `node::AsyncHooks`, with two arrays
//! one after the other (`src/env.h`, `src/aliased_buffer.h`): `fields_` with 9 numbers, and `async_id_fields_` with 4. Each
//! begins with a pointer to its functions, then come the isolate, the count, an offset of 0, and the address of the
//! numbers. No other object looks like that, so no symbol is needed. What is found must be the same wherever it is found.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use onlooker_common::async_ids::AsyncIds;
use onlooker_common::limits::EVENT_LOOPS;
use onlooker_common::unit::{self, SOURCE_WORDS, UnitSource};

use crate::attach::{Found, Function, Mapped, Memory, Unread, executables, mappings};
use crate::discover::process::{Identity, Process};

/// How much of the stack is searched, from its bottom. Node's own frames are in the first 12 KiB; the arguments and
/// variables of the process come before them.
const STACK_BYTES: u64 = 512 << 10;
/// How much of an object is searched. The arrays are 1.2 KiB into a `node::Environment`.
const OBJECT_BYTES: usize = 4 << 10;
/// Objects that are looked at. The environment is among the first thirty.
const OBJECTS: usize = 4096;
/// The length of `fields_`, of `async_id_fields_`, and of an array's description in words.
const FIELDS: u64 = 9;
const ID_FIELDS: u64 = 4;
const DESCRIPTION_WORDS: usize = 7;
/// Addresses of user space end here.
const USER_SPACE: u64 = 1 << 47;

/// The functions that mark boundaries between requests, and the programs that observe them. Without one of them, `find` fails.
const FUNCTIONS: [(&str, &str); 3] = [
    ("node_callbacks", "_ZN4node11Environment9RunTimersEP10uv_timer_s"),
    ("node_callbacks", "uv__async_io"),
    ("node_immediates", "_ZN4node11Environment18ToggleImmediateRefEb"),
];

/// The functions of HTTP/2, and the programs that observe where they begin.
const HTTP2_FUNCTIONS: [(&str, &str); 5] = [
    (
        "node_stream",
        "_ZN4node5http211Http2StreamC2EPNS0_12Http2SessionEN2v85LocalINS4_6ObjectEEEi24nghttp2_headers_categoryi",
    ),
    ("node_session", "_ZN4node5http212Http2SessionC2EPNS0_10Http2StateEN2v85LocalINS4_6ObjectEEENS0_11SessionTypeE"),
    ("node_sends", "_ZN4node5http212Http2Session15SendPendingDataEv"),
    ("node_frame", "_ZN4node5http212Http2Session14OnFrameReceiveEP15nghttp2_sessionPK13nghttp2_framePv"),
    ("node_data", "_ZN4node5http212Http2Session19OnDataChunkReceivedEP15nghttp2_sessionhiPKhmPv"),
];

/// The function that hands frames over. A program observes where it returns.
const HTTP2_READ: &str = "_ZN4node5http212Http2Session12OnStreamReadElRK8uv_buf_t";

/// Those of the functions that the process has. Those of HTTP/2 are observed together, because each alone proves less.
pub(crate) fn functions(process: &Process) -> Vec<Function> {
    let binaries = executables(process).unwrap_or_default();
    let mut found = with_symbols(&binaries, &FUNCTIONS);
    let mut of_http2 = with_symbols(&binaries, &HTTP2_FUNCTIONS);
    let returns = binaries.iter().find_map(|mapped| {
        let [read] = mapped.functions(&[HTTP2_READ]).try_into().ok()?;
        let read: Found = read;
        let function = |offset| Function { program: "node_frames_end", path: mapped.path.clone(), offset };
        Some(read.returns?.into_iter().map(function).collect::<Vec<_>>())
    });
    if let Some(returns) = returns.filter(|returns| of_http2.len() == HTTP2_FUNCTIONS.len() && !returns.is_empty()) {
        found.append(&mut of_http2);
        found.extend(returns);
    }
    found
}

fn with_symbols(binaries: &[Mapped], rows: &[(&'static str, &str)]) -> Vec<Function> {
    let find = |&(program, symbol): &(&'static str, &str)| {
        let (mapped, offset) =
            binaries.iter().find_map(|mapped| Some((mapped, mapped.symbol(symbol)?.offset_in_file?)))?;
        Some(Function { program, path: mapped.path.clone(), offset })
    };
    rows.iter().filter_map(find).collect()
}

pub(crate) fn find(process: &Process) -> Result<UnitSource, Unread> {
    let unknown = |error: std::io::Error| Unread::Unknown(format!("its memory cannot be read: {error}"));
    let memory = Memory::open(process).map_err(unknown)?;
    let mappings = mappings(process).map_err(unknown)?;
    let not_yet = || Unread::NotYet("its event loop was not found".to_owned());
    let stack = mappings.iter().find(|mapping| mapping.name == "[stack]").ok_or_else(not_yet)?;
    let from = stack.start.max(stack.end.saturating_sub(STACK_BYTES));
    let fields = fields(&memory, from, stack.end).ok_or_else(not_yet)?;
    if with_symbols(&executables(process).unwrap_or_default(), &FUNCTIONS).len() < FUNCTIONS.len() {
        return Err(Unread::Unknown("its binaries lack symbols, perhaps because they are stripped".to_owned()));
    }
    let ring = take_ring(process.identity())
        .ok_or_else(|| Unread::Unknown(format!("more than {EVENT_LOOPS} event loops of Node are traced")))?;
    let mut words = [0; SOURCE_WORDS];
    words[0] = fields;
    words[1] = u64::from(process.pid()) | u64::from(ring) << 32;
    Ok(UnitSource { kind: unit::ASYNC_ID, generation: 0, words })
}

/// The address of the only `async_id_fields` that objects have to which the stack between two addresses points.
fn fields(memory: &Memory, from: u64, to: u64) -> Option<u64> {
    let stack = words(memory, from, usize::try_from(to - from).ok()?)?;
    let mut seen = BTreeSet::new();
    let mut found = None;
    for &object in stack.iter().rev() {
        let may_be_object = object % 8 == 0 && object > 0xffff && object < USER_SPACE && !(from..to).contains(&object);
        if !may_be_object || !seen.insert(object) {
            continue;
        }
        if seen.len() > OBJECTS {
            break;
        }
        let Some(content) = words(memory, object, OBJECT_BYTES) else { continue };
        for at in content.windows(2 * DESCRIPTION_WORDS).filter_map(described) {
            let Ok(bits) = memory.read::<[u64; 4]>(at) else { continue };
            if AsyncIds::from_bits(bits).is_none() {
                continue;
            }
            if found.is_some_and(|other| other != at) {
                return None;
            }
            found = Some(at);
        }
    }
    found
}

/// The address of the numbers, if the descriptions of the two arrays are here.
fn described(words: &[u64]) -> Option<u64> {
    let [functions, isolate, FIELDS, 0, numbers, _, 0, other_functions, same_isolate, ID_FIELDS, 0, ids, ..] = *words
    else {
        return None;
    };
    let is_address = |word: u64| word != 0 && word.is_multiple_of(8) && word < USER_SPACE;
    let plausible = isolate == same_isolate && [functions, other_functions, isolate, ids].into_iter().all(is_address);
    (plausible && numbers != 0).then_some(ids)
}

fn words(memory: &Memory, at: u64, bytes: usize) -> Option<Vec<u64>> {
    let mut content = vec![0; bytes];
    memory.read_into(at, &mut content).ok()?;
    let (words, _) = content.as_chunks::<8>();
    Some(words.iter().copied().map(u64::from_ne_bytes).collect())
}

/// Which process uses each of the kernel programs' rings of intervals.
static RINGS: Mutex<[Option<Identity>; EVENT_LOOPS as usize]> = Mutex::new([None; EVENT_LOOPS as usize]);

/// Gives a process a ring that no living process uses. After it has executed another program it gets another one, because
/// the numbers begin anew.
fn take_ring(process: Identity) -> Option<u32> {
    let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_alive = |user: Identity| Process::open(user.pid).is_ok_and(|now| now.identity() == user);
    let free = rings.iter().position(|user| !user.is_some_and(is_alive))?;
    for ring in rings.iter_mut().filter(|user| **user == Some(process)) {
        *ring = None;
    }
    rings[free] = Some(process);
    u32::try_from(free).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Node 20 has them: counts, an offset of 0, and addresses.
    const HOOKS: [u64; 14] = [
        0x260_f418,
        0x42e1_bc50,
        9,
        0,
        0x42e9_4170,
        0x42ed_af70,
        0,
        0x261_a120,
        0x42e1_bc50,
        4,
        0,
        0x42e9_58b0,
        0x42ed_af90,
        0,
    ];

    #[test]
    fn both_arrays_must_look_like_those_of_one_isolate() {
        assert_eq!(described(&HOOKS), Some(0x42e9_58b0));
        for (at, wrong) in [(1, 0x42e1_bc58), (2, 8), (3, 8), (7, 0), (9, 5), (10, 1), (11, 3), (11, 0)] {
            let mut hooks = HOOKS;
            hooks[at] = wrong;
            assert_eq!(described(&hooks), None, "word {at}");
        }
    }

    #[test]
    fn a_process_without_node_has_no_fields() {
        let found = find(&Process::myself().unwrap());
        assert_eq!(found, Err(Unread::NotYet("its event loop was not found".to_owned())));
    }

    #[test]
    fn a_process_that_executes_another_program_gets_another_ring() {
        let process = Process::myself().unwrap();
        let take = || take_ring(process.identity()).unwrap();
        let (first, second, third) = (take(), take(), take());
        assert_ne!(first, second);
        assert_eq!(first, third, "it is free again");
    }
}
