//! Finds functions of a binary, and where they return.

use std::ops::Range;

use onlooker_elf::functions::Functions;
use onlooker_elf::signature::Function;
use onlooker_elf::{Elf, code};

use super::binary::{Mapped, Symbol};

/// How a function was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// By a symbol.
    Symbol,
    /// By the table of Go's runtime.
    Pclntab,
    /// By its code. It may be another function. Believe it only after proof: a TLS record inside a call of it, or a tag that it
    /// wrote and a socket sent.
    Signature,
}

/// A function in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: &'static str,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its RET instructions in the file. None if its code could not be decoded.
    pub returns: Option<Vec<u64>>,
    pub lookup: Lookup,
}

impl Found {
    /// The function at these addresses, before the load bias is added. None if the file does not have its code.
    pub(super) fn at(elf: &Elf<'_>, name: &'static str, addresses: &Range<u64>, lookup: Lookup) -> Option<Self> {
        let returns = elf.is_x86_64().then(|| code::returns(elf, addresses)).flatten();
        Some(Self { name, offset: elf.offset_of(addresses.start)?, returns, lookup })
    }
}

impl Mapped {
    /// Finds functions by their symbols: those of `names` that have one.
    #[must_use]
    pub fn functions(&self, names: &[&'static str]) -> Vec<Found> {
        let symbols: Vec<_> = names.iter().filter_map(|name| Some((*name, self.symbol(name)?))).collect();
        if symbols.is_empty() {
            return Vec::new();
        }
        let Some(file) = self.open() else { return Vec::new() };
        let Some(elf) = Elf::open(&file) else { return Vec::new() };
        let found = |(name, symbol): &(&'static str, Symbol)| {
            let start = symbol.address.wrapping_sub(self.bias);
            let addresses = match symbol.size {
                0 => Functions::read(&elf)?.containing(&elf, start)?,
                size => start..start.checked_add(size)?,
            };
            Found::at(&elf, name, &addresses, Lookup::Symbol)
        };
        symbols.iter().filter_map(found).collect()
    }

    /// Finds the functions of rustls that encrypt and decrypt, by parts of their symbols.
    pub(super) fn functions_of_rustls(&self) -> Vec<Found> {
        self.at(self.rustls(), Lookup::Symbol)
    }

    /// Finds the functions of a TLS library that the file contains without symbols. They have the names of the library's
    /// documentation. Two functions may have one name. `library`: its name in [`onlooker_elf::signature::SIGNATURES`].
    ///
    /// What is found is remembered by file version. The first call for a file of 100 MB takes 0.2 s.
    #[must_use]
    pub fn functions_by_signature(&self, library: &str) -> Vec<Found> {
        self.at(self.signed(library), Lookup::Signature)
    }

    fn at(&self, functions: &[Function], lookup: Lookup) -> Vec<Found> {
        if functions.is_empty() {
            return Vec::new();
        }
        let Some(file) = self.open() else { return Vec::new() };
        let Some(elf) = Elf::open(&file) else { return Vec::new() };
        let found = functions.iter().map(|function| Found::at(&elf, function.name, &function.addresses, lookup));
        found.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::executables;
    use super::*;
    use crate::discover::process::Process;

    #[test]
    fn a_function_with_a_symbol_has_its_place_and_its_returns() {
        let found = executables(&Process::myself().unwrap()).unwrap();
        let libc = found.iter().find(|mapped| mapped.name.contains("libc.so")).unwrap();
        let functions = libc.functions(&["getaddrinfo", "no_such_function"]);
        let [function] = functions.as_slice() else { panic!("{functions:?}") };
        assert_eq!(function.lookup, Lookup::Symbol);
        assert_eq!(Some(function.offset), libc.symbol("getaddrinfo").unwrap().offset_in_file);
        assert!(function.returns.as_ref().is_some_and(|returns| returns.iter().all(|at| *at > function.offset)));
        assert!(libc.functions_by_signature("OpenSSL").is_empty());
    }
}
