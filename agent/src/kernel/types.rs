//! The types of the running kernel, as far as programs need them: offsets of struct members, and ids to attach to.
//!
//! The kernel has 150,000 types in BTF (Documentation/bpf/btf.rst). Crates that parse them keep all in memory, which takes
//! longer than everything else at the agent's start. Here one pass finds where each type is, and only what is asked for is
//! read further.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};
use rustc_hash::FxHashMap;

/// Where the kernel has its type information.
pub(super) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Marks the beginning, in the byte order of the kernel.
const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
/// Name, kind with the number of parts, and size or another type. Parts follow.
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
/// How many typedefs and qualifiers a member's type may have, and how deep anonymous structs may be nested.
const DEPTH: usize = 32;

/// Kinds of types (include/uapi/linux/btf.h).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FORWARD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
    pub(super) const LAST: u32 = ENUM64;
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Struct,
    Typedef,
    Function,
}

impl Named {
    fn from_kind(kind: u32) -> Option<Self> {
        match kind {
            kind::STRUCT => Some(Self::Struct),
            kind::TYPEDEF => Some(Self::Typedef),
            kind::FUNC => Some(Self::Function),
            _ => None,
        }
    }
}

/// The names that are going to be asked for.
pub(super) type Names = FxHashMap<String, Named>;

/// The types of a BTF file.
#[derive(Debug)]
pub(super) struct KernelTypes {
    bytes: Contents,
    /// Where the names begin in `bytes`.
    names: usize,
    /// Where each type begins in `bytes`, by id less 1.
    types: Vec<u32>,
    /// Ids of what was asked for.
    named: FxHashMap<String, u32>,
}

/// What is in the file.
#[derive(Debug)]
enum Contents {
    /// The kernel's own memory. Clearing pages for a copy of 5 MB can take longer than all the rest.
    Mapped(Mmap),
    Copied(Vec<u8>),
}

impl Contents {
    fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        // SAFETY: the kernel never changes this file of sysfs, and lets no process write to it. It can only be mapped privately.
        if let Ok(mapped) = unsafe { MmapOptions::new().map_copy_read_only(&file) } {
            return Ok(Self::Mapped(mapped));
        }
        // Before Linux 6.16 it cannot be mapped.
        let mut copied = Vec::new();
        file.read_to_end(&mut copied)?;
        Ok(Self::Copied(copied))
    }
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Copied(copied) => copied,
        }
    }
}

/// A type: one record of the file.
#[derive(Debug, Clone, Copy)]
struct Record<'file> {
    /// Everything from its beginning on.
    bytes: &'file [u8],
    kind: u32,
    parts: usize,
    /// The type that it refers to, for kinds that refer to one.
    target: u32,
    /// The offsets of its members include sizes of bit fields.
    has_bit_fields: bool,
}

impl KernelTypes {
    /// Reads a file of sysfs. Fails with `InvalidData` if it is not BTF of this machine's byte order.
    pub(super) fn read(path: &Path, names: &Names) -> io::Result<Self> {
        let not_types = || io::Error::new(io::ErrorKind::InvalidData, "this is not BTF");
        Self::parse(Contents::of(path)?, names).ok_or_else(not_types)
    }

    fn parse(bytes: Contents, wanted: &Names) -> Option<Self> {
        let magic = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let field = |at| Some(word(&bytes, at)? as usize);
        let header = field(4)?;
        if magic != MAGIC || header < HEADER_BYTES {
            return None;
        }
        let (first, types_length) = (header.checked_add(field(8)?)?, field(12)?);
        let (names, names_length) = (header.checked_add(field(16)?)?, field(20)?);
        bytes.get(names..names.checked_add(names_length)?)?;
        let end = first.checked_add(types_length)?;
        bytes.get(first..end)?;
        let (types, named) = (Vec::with_capacity(types_length / 20), FxHashMap::default());
        let mut found = Self { bytes, names, types, named };
        let mut at = first;
        while at < end {
            let record = Record::read(&found.bytes[at..end])?;
            found.types.push(u32::try_from(at).ok()?);
            if let Some(named) = record.named()
                && let Ok(name) = str::from_utf8(found.name(word(record.bytes, 0)?)?)
                && wanted.get(name) == Some(&named)
                && !found.named.contains_key(name)
            {
                let (name, id) = (name.to_owned(), u32::try_from(found.types.len()).ok()?);
                found.named.insert(name, id);
            }
            at += record.length();
        }
        Some(found)
    }

    /// A file with the same ids that has only typedefs and functions that were asked for. All other types are declared
    /// without a name. Parsing it takes a tenth of the time.
    pub(super) fn reduced(&self) -> Vec<u8> {
        let kinds = |(name, &id): (_, &u32)| Some((id, (name, self.record(id)?.kind)));
        let kept: BTreeMap<u32, (&String, u32)> = self.named.iter().filter_map(kinds).collect();
        let last = kept.last_key_value().map_or(0, |(&id, _)| id);
        let mut names = vec![0];
        let mut words = Vec::with_capacity(3 * last as usize);
        for id in 1..=last {
            match kept.get(&id) {
                Some((name, kind)) if *kind != kind::STRUCT => {
                    words.extend([names.len() as u32, kind << 24, 0]);
                    names.extend(name.bytes().chain([0]));
                }
                _ => words.extend([0, kind::FORWARD << 24, 0]),
            }
        }
        file(&words, &names)
    }

    /// Byte offset of `path` (`a` or `a.b`) in `structure`, also inside of anonymous structs and unions. None if there is no
    /// such member, or if it is a bit field.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut inside = self.record(*self.named.get(structure)?)?;
        let mut offset = 0;
        for part in path.split('.') {
            let (further, member) = self.member(inside, part.as_bytes(), DEPTH)?;
            offset += further;
            inside = self.record(member)?;
        }
        Some(offset)
    }

    /// Offset and type of a member.
    fn member(&self, structure: Record<'_>, name: &[u8], depth: usize) -> Option<(u32, u32)> {
        if !matches!(structure.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        for index in 0..structure.parts {
            let at = TYPE_BYTES + index * MEMBER_BYTES;
            let (own_name, id) = (self.name(word(structure.bytes, at)?)?, word(structure.bytes, at + 4)?);
            let place = word(structure.bytes, at + 8)?;
            let (bits, size) = if structure.has_bit_fields { (place & 0x00ff_ffff, place >> 24) } else { (place, 0) };
            if own_name == name {
                return (bits.is_multiple_of(8) && size == 0).then_some((bits / 8, self.unqualified(id)?));
            }
            if own_name.is_empty()
                && depth > 0
                && let Some(inner) = self.unqualified(id).and_then(|id| self.record(id))
                && let Some((offset, found)) = self.member(inner, name, depth - 1)
            {
                return Some((bits / 8 + offset, found));
            }
        }
        None
    }

    /// A type without typedefs and qualifiers.
    fn unqualified(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            match self.record(id) {
                Some(Record {
                    kind: kind::TYPEDEF | kind::CONST | kind::VOLATILE | kind::TYPE_TAG, target, ..
                }) => id = target,
                _ => return Some(id),
            }
        }
        None
    }

    fn record(&self, id: u32) -> Option<Record<'_>> {
        let at = *self.types.get(id.checked_sub(1)? as usize)?;
        Record::read(&self.bytes[at as usize..])
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.names.checked_add(offset as usize)?..)?;
        Some(&bytes[..memchr::memchr(0, bytes)?])
    }
}

impl<'file> Record<'file> {
    /// The record at the beginning of `bytes`. None if it is longer than they are.
    fn read(bytes: &'file [u8]) -> Option<Self> {
        let info = word(bytes, 4)?;
        let kind = info >> 24 & 0x1f;
        let record = Self {
            bytes,
            kind,
            parts: (info & 0xffff) as usize,
            target: word(bytes, 8)?,
            has_bit_fields: info >> 31 != 0,
        };
        (kind != 0 && kind <= kind::LAST && record.length() <= bytes.len()).then_some(record)
    }

    /// What its name stands for. A struct without members is declared elsewhere.
    fn named(&self) -> Option<Named> {
        Named::from_kind(self.kind).filter(|named| *named != Named::Struct || self.parts > 0)
    }

    fn length(&self) -> usize {
        let parts = match self.kind {
            kind::STRUCT | kind::UNION => MEMBER_BYTES * self.parts,
            kind::DATASEC | kind::ENUM64 => 12 * self.parts,
            kind::ENUM | kind::FUNC_PROTO => 8 * self.parts,
            kind::ARRAY => 12,
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            _ => 0,
        };
        TYPE_BYTES + parts
    }
}

/// A BTF file with these types and names.
fn file(types: &[u32], names: &[u8]) -> Vec<u8> {
    let length = size_of_val(types) as u32;
    let header = [HEADER_BYTES as u32, 0, length, length, names.len() as u32];
    let mut file = Vec::with_capacity(HEADER_BYTES + length as usize + names.len());
    file.extend(MAGIC.to_ne_bytes().into_iter().chain([1, 0]));
    file.extend(header.iter().chain(types).flat_map(|word| word.to_ne_bytes()));
    file.extend(names);
    file
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NAMES: &[u8] = b"\0outer\0first\0flag\0inner\0deep\0alias\0call\0";

    fn name(wanted: &str) -> u32 {
        let wanted = [b"\0", wanted.as_bytes(), b"\0"].concat();
        NAMES.windows(wanted.len()).position(|window| *window == wanted).unwrap() as u32 + 1
    }

    /// `struct outer { int first; int flag:1; union { const alias inner; }; }`, where `alias` is `struct { int deep; }` with
    /// four bytes before `deep`; and a function `call`.
    fn example() -> Vec<u8> {
        let types = [
            // 1: a struct with the same name and without members.
            vec![name("outer"), kind::STRUCT << 24, 0],
            // 2: int
            vec![0, kind::INT << 24, 4, 32],
            // 3: outer
            vec![name("outer"), 1 << 31 | kind::STRUCT << 24 | 3, 16],
            vec![name("first"), 2, 0],
            vec![name("flag"), 2, 1 << 24 | 32],
            vec![0, 4, 64],
            // 4: the union
            vec![0, kind::UNION << 24 | 1, 8],
            vec![name("inner"), 5, 0],
            // 5 and 6: const alias
            vec![0, kind::CONST << 24, 6],
            vec![name("alias"), kind::TYPEDEF << 24, 7],
            // 7: the struct behind the alias
            vec![0, kind::STRUCT << 24 | 1, 8],
            vec![name("deep"), 2, 32],
            // 8: the function
            vec![name("call"), kind::FUNC << 24, 2],
        ];
        file(&types.concat(), NAMES)
    }

    fn wanted() -> Names {
        let names = [("outer", Named::Struct), ("alias", Named::Typedef), ("call", Named::Function)];
        names.into_iter().map(|(name, named)| (name.to_owned(), named)).collect()
    }

    #[rstest]
    #[case::plain("first", Some(0))]
    #[case::in_an_anonymous_union("inner", Some(8))]
    #[case::behind_a_typedef("inner.deep", Some(12))]
    #[case::bit_field("flag", None)]
    #[case::absent("deep", None)]
    #[case::in_a_number("first.deep", None)]
    fn a_member_is_found_by_its_path(#[case] path: &str, #[case] offset: Option<u32>) {
        let types = KernelTypes::parse(Contents::Copied(example()), &wanted()).unwrap();
        assert_eq!(types.offset("outer", path), offset);
        assert_eq!(types.offset("inner", path), None);
    }

    #[test]
    fn the_reduced_file_keeps_ids_of_typedefs_and_functions() {
        let types = KernelTypes::parse(Contents::Copied(example()), &wanted()).unwrap();
        let reduced = KernelTypes::parse(Contents::Copied(types.reduced()), &wanted()).unwrap();
        assert_eq!((reduced.types.len(), types.types.len()), (8, 8));
        assert_eq!((types.named["alias"], types.named["call"]), (6, 8));
        assert_eq!((reduced.named["alias"], reduced.named["call"]), (6, 8));
        assert_eq!(reduced.named.get("outer"), None);
        assert!(aya::Btf::parse(&types.reduced(), aya::Endianness::default()).is_ok());
    }

    #[test]
    fn a_damaged_file_is_refused_or_incomplete() {
        let whole = example();
        for length in 0..whole.len() {
            assert!(
                KernelTypes::parse(Contents::Copied(whole[..length].to_vec()), &wanted()).is_none(),
                "{length} bytes"
            );
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                if let Some(types) = KernelTypes::parse(Contents::Copied(damaged), &wanted()) {
                    // It must end.
                    let _ = (types.offset("outer", "inner.deep"), types.reduced());
                }
            }
        }
    }
}
