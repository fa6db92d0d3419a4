//! Finds functions of TLS libraries in files without symbols, by the constants that their code uses.
//!
//! A signature may be wrong: another version of a library may use its constants differently, and a file may be crafted. Believe
//! what it finds only after proof: a TLS record inside a call of the function, or a tag that it wrote and a socket sent.

mod boringssl;
mod openssl;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::code;
use crate::constants;
use crate::file::Elf;
use crate::functions::Functions;
use crate::references;

/// A TLS library whose functions have signatures.
#[derive(Debug)]
pub struct Signature {
    pub library: &'static str,
    find: fn(&Code<'_>) -> Vec<Function>,
}

/// All libraries whose functions have signatures.
pub const SIGNATURES: &[Signature] =
    &[Signature { library: "BoringSSL", find: boringssl::find }, Signature { library: "OpenSSL", find: openssl::find }];

/// A function that was found by its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    /// Where it begins and ends, before the load bias is added.
    pub addresses: Range<u64>,
}

impl Signature {
    /// The functions of the library in a file for x86-64. Empty if it does not contain the library, or in an unknown version.
    ///
    /// Reads the file once. Takes 0.15 s for 100 MB.
    #[must_use]
    pub fn find(&self, elf: &Elf<'_>) -> Vec<Function> {
        let functions = elf.is_x86_64().then(|| Functions::read(elf)).flatten();
        functions.map(|functions| (self.find)(&Code { elf, functions })).unwrap_or_default()
    }
}

/// More than the code of all functions that refer to one source file's name.
const CODE_BYTES: usize = 4 << 20;

/// The functions of a file, and what they refer to.
struct Code<'file> {
    elf: &'file Elf<'file>,
    functions: Functions,
}

/// A function that refers to constants that were searched.
struct User {
    addresses: Range<u64>,
    code: Vec<u8>,
}

impl Code<'_> {
    /// The addresses of the strings that end with `text`.
    fn strings(&self, text: &str) -> Vec<u64> {
        constants::find(self.elf, format!("{text}\0").as_bytes()).iter().map(|text| text.string).collect()
    }

    /// The addresses of the strings that are `text`. Empty for an empty text.
    fn whole_strings(&self, text: &str) -> Vec<u64> {
        if text.is_empty() {
            return Vec::new();
        }
        let found = constants::find(self.elf, format!("{text}\0").as_bytes());
        let length = text.len() as u64 + 1;
        found.iter().filter(|text| text.end - text.string == length).map(|text| text.string).collect()
    }

    /// The functions that refer to one of the addresses, by address.
    fn users(&self, addresses: &[u64]) -> Vec<User> {
        let references = references::find(self.elf, addresses);
        let mut found: Vec<_> =
            references.iter().filter_map(|reference| self.functions.containing(self.elf, reference.from)).collect();
        found.sort_unstable_by_key(|function| function.start);
        found.dedup();
        let user = |addresses| Some(User { code: code::read(self.elf, &addresses)?, addresses });
        let mut left = CODE_BYTES;
        let fits = |user: &User| left.checked_sub(user.code.len()).map(|rest| left = rest).is_some();
        found.into_iter().filter_map(user).take_while(fits).collect()
    }
}

impl User {
    fn calls(&self) -> Vec<code::Arguments> {
        code::calls(&self.code, self.addresses.start)
    }

    fn named(&self, name: &'static str) -> Function {
        Function { name, addresses: self.addresses.clone() }
    }
}
