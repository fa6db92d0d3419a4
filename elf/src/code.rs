//! Decodes the instructions of a function.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::file::{Elf, Place};

/// A longer function is not decoded.
const FUNCTION_BYTES: u64 = 1 << 20;
/// More places than a function returns from.
const RETURNS: usize = 512;

/// Where a function returns: the offsets of its RET instructions in the file.
///
/// `function` is where it begins and ends, before the load bias is added. None if its code cannot be read or decoded, or if it
/// has no or too many RET instructions: then it cannot be observed in this way.
#[must_use]
pub fn returns(elf: &Elf<'_>, function: &Range<u64>) -> Option<Vec<u64>> {
    let place = place(elf, function)?;
    let code = elf.bytes(place, place.length);
    let mut returns = Vec::new();
    for instruction in instructions(&code, function.start) {
        if instruction.is_invalid() || returns.len() == RETURNS {
            return None;
        }
        if instruction.flow_control() == FlowControl::Return {
            // In a damaged file, another segment may claim the same address.
            returns.push(place.offset + (instruction.ip() - function.start));
        }
    }
    (!returns.is_empty()).then_some(returns)
}

/// The code of a function. None if it is too long, or not in the file.
pub(crate) fn read(elf: &Elf<'_>, function: &Range<u64>) -> Option<Vec<u8>> {
    place(elf, function).map(|place| elf.bytes(place, place.length))
}

/// Where the code of a function is. Its end may be beyond the end of a damaged file.
fn place(elf: &Elf<'_>, function: &Range<u64>) -> Option<Place> {
    let length = function.end.checked_sub(function.start).filter(|length| *length <= FUNCTION_BYTES)?;
    let place = elf.place_from(function.start)?;
    (place.length >= length).then_some(Place { length, ..place })
}

/// The instructions of code that begins at `address`.
pub(crate) fn instructions(code: &[u8], address: u64) -> impl Iterator<Item = Instruction> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter()
}

/// The arguments of a call, as far as they are constants: numbers, and addresses.
pub(crate) type Arguments = [Option<u64>; 6];

/// The registers of a function's arguments (System V ABI for x86-64, 3.2.3).
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// The arguments of the calls of a function, in order. An argument is known if a constant was the last that was moved to its
/// register.
///
/// A branch is not followed. An unconditional branch counts as a call, because several calls with the same target may share
/// their last instructions.
pub(crate) fn calls(code: &[u8], address: u64) -> Vec<Arguments> {
    let mut calls = Vec::new();
    let mut arguments = Arguments::default();
    for instruction in instructions(code, address) {
        if let Some(register) = written(&instruction)
            && let Some(argument) = ARGUMENTS.iter().position(|other| *other == register)
            && let Some(argument) = arguments.get_mut(argument)
        {
            *argument = constant(&instruction);
        }
        if leaves(&instruction) {
            calls.push(std::mem::take(&mut arguments));
        }
    }
    calls
}

/// Whether a function writes to memory other than its own part of the stack.
pub(crate) fn writes_memory(code: &[u8], address: u64) -> bool {
    instructions(code, address).any(|instruction| {
        let writes = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Add | Mnemonic::Sub | Mnemonic::Movups);
        let stack = matches!(instruction.memory_base(), Register::RSP | Register::RBP);
        writes && instruction.op0_kind() == OpKind::Memory && !stack
    })
}

fn leaves(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall | FlowControl::UnconditionalBranch
    )
}

/// The register that an instruction writes first, in its full width.
fn written(instruction: &Instruction) -> Option<Register> {
    let only_reads = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push);
    (!only_reads && instruction.op0_kind() == OpKind::Register).then(|| instruction.op0_register().full_register())
}

/// The constant that an instruction moves to a register.
fn constant(instruction: &Instruction) -> Option<u64> {
    match instruction.mnemonic() {
        Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => Some(instruction.memory_displacement64()),
        Mnemonic::Mov if (OpKind::Immediate8..=OpKind::Immediate32to64).contains(&instruction.op1_kind()) => {
            Some(instruction.immediate(1))
        }
        Mnemonic::Xor if instruction.op0_register() == instruction.op1_register() => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::Tables;

    #[test]
    fn a_function_returns_at_its_ret_instructions() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = std::fs::read(maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap()).unwrap();
        let content = libc.as_slice();
        let elf = Elf::open(&content).unwrap();
        let symbol = Tables::read(&elf).find("getaddrinfo").unwrap();
        let returns = returns(&elf, &(symbol.address..symbol.address + symbol.size)).unwrap();
        assert!(!returns.is_empty());
        // 0xc3: ret
        assert!(returns.iter().all(|&offset| libc[offset as usize] == 0xc3), "{returns:x?}");
        assert_eq!(super::returns(&elf, &(symbol.address..symbol.address)), None);
        assert_eq!(super::returns(&elf, &(symbol.address..u64::MAX)), None);
    }

    #[test]
    fn calls_that_share_their_last_instruction_keep_their_own_arguments() {
        // mov edx, 226; jmp +5; mov edx, 66; call 0; mov [rdi + 8], rax; ret
        let code = b"\xba\xe2\0\0\0\xeb\x05\xba\x42\0\0\0\xe8\xef\xff\xff\xff\x48\x89\x47\x08\xc3";
        let reasons: Vec<_> = calls(code, 0x1000).iter().map(|arguments| arguments[2]).collect();
        assert_eq!(reasons, [Some(226), Some(66)]);
        assert!(writes_memory(code, 0));
        assert!(!writes_memory(&code[..17], 0));
    }

    #[test]
    fn an_address_relative_to_the_instruction_is_a_constant() {
        // lea rcx, [rip + 0x10]; xor esi, esi; mov edi, eax; call 0x1000
        let code = b"\x48\x8d\x0d\x10\0\0\0\x31\xf6\x89\xc7\xe8\xf0\xff\xff\xff";
        assert_eq!(calls(code, 0x1000), [[None, Some(0), None, Some(0x1017), None, None]]);
    }
}
