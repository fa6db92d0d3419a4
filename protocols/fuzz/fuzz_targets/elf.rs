//! Any bytes as an ELF file: every look-up ends, and finds only what lies within the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_elf::functions::Functions;
use onlooker_elf::pclntab::Table;
use onlooker_elf::signature::SIGNATURES;
use onlooker_elf::symbols::Tables;
use onlooker_elf::{Elf, code, rustls};

fuzz_target!(|input: &[u8]| {
    let Some(elf) = Elf::open(&input) else { return };
    let within = |offset: u64| assert!(offset < input.len() as u64, "{offset} is beyond the file");
    let _ = (elf.build_id(), elf.libraries(), elf.has_symbol("SSL_read"), elf.has_constant("BoringSSL"));
    let tables = Tables::read(&elf);
    if let Some(symbol) = tables.find("SSL_read") {
        let end = symbol.address.saturating_add(symbol.size);
        code::returns(&elf, &(symbol.address..end)).into_iter().flatten().for_each(within);
    }
    for (_, start, end) in rustls::functions(&elf, &tables) {
        code::returns(&elf, &(start..end)).into_iter().flatten().for_each(within);
    }
    if let Some(table) = Table::read(&elf) {
        let _ = (table.names(), table.function("crypto/tls.(*Conn).Read"));
    }
    if let Some(functions) = Functions::read(&elf) {
        for segment in elf.loaded().take(16) {
            let Some(function) = functions.containing(&elf, segment.address) else { continue };
            assert!(function.contains(&segment.address));
            code::returns(&elf, &function).into_iter().flatten().for_each(within);
        }
    }
    for signature in SIGNATURES {
        for function in signature.find(&elf) {
            code::returns(&elf, &function.addresses).into_iter().flatten().for_each(within);
        }
    }
});
