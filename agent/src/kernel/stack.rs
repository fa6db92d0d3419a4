//! How much stack the kernel programs use, read from the object.
//!
//! A program and the functions that it calls share 512 bytes before Linux 6.13, and the kernel refuses a program that may
//! use more. Kernels from 6.13 on do not, so loading the programs there would not show it.

use std::collections::{BTreeMap, BTreeSet};

use object::read::elf::ElfFile64;
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
};

use super::object::OBJECT;

/// MAX_BPF_STACK (512 bytes), less an eighth for what comes.
const LIMIT: u32 = 512 - 64;

/// kernel/bpf/verifier.c rounds each function's stack up to this (to 16 from Linux 6.8 on).
const ROUNDED_TO: u32 = 32;

/// Fields of an instruction: include/uapi/linux/bpf.h and bpf_common.h.
mod bpf {
    pub(super) const SIZE: usize = 8;
    pub(super) const CLASS: u8 = 0x07;
    pub(super) const LDX: u8 = 0x01;
    pub(super) const ST: u8 = 0x02;
    pub(super) const STX: u8 = 0x03;
    pub(super) const MOVE: u8 = 0xbf;
    pub(super) const ADD_CONSTANT: u8 = 0x07;
    pub(super) const CALL: u8 = 0x85;
    /// In the source register of a call: a function of the object, not a helper.
    pub(super) const PSEUDO_CALL: u8 = 1;
    pub(super) const LOAD_ADDRESS: u8 = 0x18;
    pub(super) const FRAME: u8 = 10;
}

/// A place in the object's code: section and byte.
type Place = (usize, u64);

#[derive(Debug)]
struct Function {
    name: String,
    /// The lowest byte of its frame that it uses.
    stack: u32,
    calls: BTreeSet<Place>,
}

fn functions() -> BTreeMap<Place, Function> {
    let object = ElfFile64::<Endianness>::parse(OBJECT).expect("the object is ELF");
    let mut functions = BTreeMap::new();
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = symbol.section_index().expect("a function is in a section");
        let code = object.section_by_index(section).and_then(|section| section.data()).expect("a section has data");
        let (from, to) = (symbol.address() as usize, (symbol.address() + symbol.size()) as usize);
        let name = symbol.name().expect("a function has a name").to_owned();
        let calls = calls(&object, section, &code[..to], from);
        functions.insert((section.0, symbol.address()), Function { name, stack: stack(&code[from..to]), calls });
    }
    functions
}

/// How far below the frame pointer the code reads, writes or points.
fn stack(code: &[u8]) -> u32 {
    // Registers that hold the frame pointer.
    let mut frames = [false; 16];
    frames[usize::from(bpf::FRAME)] = true;
    let mut lowest = 0;
    for instruction in code.chunks_exact(bpf::SIZE) {
        let (operation, registers) = (instruction[0], instruction[1]);
        let (to, from) = (usize::from(registers & 15), usize::from(registers >> 4));
        let offset = i32::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let constant = i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]);
        let class = operation & bpf::CLASS;
        match class {
            bpf::LDX if frames[from] => lowest = lowest.min(offset),
            bpf::ST | bpf::STX if frames[to] => lowest = lowest.min(offset),
            _ => {}
        }
        match operation {
            bpf::MOVE => frames[to] = frames[from],
            bpf::ADD_CONSTANT if frames[to] => {
                lowest = lowest.min(constant);
                frames[to] = false;
            }
            // A helper or function overwrites the registers of its arguments and of its result.
            bpf::CALL => frames[..6].fill(false),
            _ if class != bpf::ST && class != bpf::STX && to != usize::from(bpf::FRAME) => frames[to] = false,
            _ => {}
        }
    }
    lowest.unsigned_abs()
}

/// The functions that the code from byte `from` on calls, or gives to helpers as callbacks.
fn calls(object: &ElfFile64<'_>, section: SectionIndex, code: &[u8], from: usize) -> BTreeSet<Place> {
    let section_of = object.section_by_index(section).expect("the section is there");
    let targets: BTreeMap<u64, Place> = section_of
        .relocations()
        .filter_map(|(at, relocation)| {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { return None };
            let symbol = object.symbol_by_index(symbol).ok()?;
            Some((at, (symbol.section_index()?.0, symbol.address())))
        })
        .collect();
    let mut calls = BTreeSet::new();
    for (index, instruction) in code.chunks_exact(bpf::SIZE).enumerate().skip(from / bpf::SIZE) {
        let at = (index * bpf::SIZE) as u64;
        let constant = i64::from(i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]));
        match (instruction[0], targets.get(&at)) {
            // The addend of a call counts instructions from the next one; that of an address counts bytes.
            (bpf::CALL, Some(&(into, address))) => {
                calls.insert((into, address.wrapping_add_signed((constant + 1) * 8)));
            }
            (bpf::CALL, None) if instruction[1] >> 4 == bpf::PSEUDO_CALL => {
                calls.insert((section.0, at.wrapping_add_signed((constant + 1) * 8)));
            }
            (bpf::LOAD_ADDRESS, Some(&(into, address))) => {
                calls.insert((into, address.wrapping_add_signed(constant)));
            }
            _ => {}
        }
    }
    calls
}

/// The deepest chain of calls that begins at `place`: its functions, and their stack together.
fn deepest(functions: &BTreeMap<Place, Function>, place: Place) -> (u32, Vec<&str>) {
    // An address may be a map's.
    let Some(function) = functions.get(&place) else { return (0, Vec::new()) };
    // The kernel refuses recursion, so this ends.
    let (below, mut chain) = function.calls.iter().map(|&called| deepest(functions, called)).max().unwrap_or_default();
    chain.insert(0, &function.name);
    (function.stack.next_multiple_of(ROUNDED_TO) + below, chain)
}

#[test]
fn every_chain_of_calls_leaves_room_on_the_stack() {
    let functions = functions();
    for &place in functions.keys() {
        let (stack, chain) = deepest(&functions, place);
        println!("{stack:4} {}", chain.join(" > "));
        assert!(stack <= LIMIT, "{} bytes of {LIMIT}: {}", stack, chain.join(" > "));
    }
}

#[test]
fn calls_and_callbacks_are_followed() {
    let functions = functions();
    let begins = functions.iter().find(|(_, function)| function.name == "record_frames").map(|(&place, _)| place);
    let begins = begins.expect("the object has the function");
    let mut place = begins;
    // HTTP/2 frames are captured by a callback of the helper `bpf_loop`, and vectored operations by another.
    for called in ["next_segment", "capture_segment", "gather_one"] {
        let calls = &functions[&place].calls;
        let named = |place: &&Place| functions.get(place).is_some_and(|function| function.name.contains(called));
        place = *calls.iter().find(named).unwrap_or_else(|| panic!("nothing of {calls:?} is {called}"));
    }
    let (stack, chain) = deepest(&functions, begins);
    assert!(chain.len() >= 4 && stack > 4 * ROUNDED_TO, "{stack}: {chain:?}");
}

#[test]
fn a_frame_is_as_deep_as_its_lowest_access() {
    let instruction = |operation, to: u8, from: u8, offset: i16, constant: i32| {
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = constant.to_le_bytes();
        [operation, to | from << 4, low, high, a, b, c, d]
    };
    let (store, load, frame) = (0x7b, 0x79, bpf::FRAME);
    assert_eq!(stack(&instruction(store, frame, 1, -24, 0)), 24);
    assert_eq!(stack(&instruction(load, 1, frame, -8, 0)), 8);
    // Not below the frame pointer: another register.
    assert_eq!(stack(&instruction(store, 2, 1, -64, 0)), 0);
    let pointer = [instruction(bpf::MOVE, 2, frame, 0, 0), instruction(bpf::ADD_CONSTANT, 2, 0, 0, -88)].concat();
    assert_eq!(stack(&pointer), 88);
}
