//! Finds where members of structs are, in the debug information of a Go executable.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use gimli::{DwTag, EndianSlice, LittleEndian, SectionId};
use onlooker_elf::{Elf, Place};

use super::members::{MEMBERS, Members};

/// The largest section that is read, before and after decompression. A program with more has its offsets from the table.
const SECTION_BYTES: u64 = 64 << 20;
/// The head of a compressed section: type, padding, size, alignment (elf(5), `Elf64_Chdr`).
const COMPRESSION_HEADER_BYTES: usize = 24;

type Slice<'data> = EndianSlice<'data, LittleEndian>;

/// The offsets of [`MEMBERS`]. None if the executable has no debug information, or it is too large.
pub(super) fn members(elf: &Elf<'_>) -> Option<Members> {
    let sections = gimli::DwarfSections::load(|id| read(elf, id).ok_or(())).ok()?;
    find(&sections.borrow(|section| EndianSlice::new(section, LittleEndian))).ok()
}

fn find(dwarf: &gimli::Dwarf<Slice<'_>>) -> gimli::Result<Members> {
    let mut found = Members::NONE;
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let mut entries = unit.entries();
        // The struct whose members follow.
        let mut structure: Option<(&str, isize)> = None;
        let mut depth = 0;
        while let Some((change, entry)) = entries.next_dfs()? {
            depth += change;
            if structure.is_some_and(|(_, at)| depth <= at) {
                structure = None;
            }
            let is_wanted = match (entry.tag(), structure) {
                (gimli::DW_TAG_structure_type, _) => true,
                (gimli::DW_TAG_member, Some((_, at))) => depth == at + 1,
                _ => false,
            };
            if !is_wanted {
                continue;
            }
            let Some(name) = entry.attr_value(gimli::DW_AT_name)? else { continue };
            let name = dwarf.attr_string(&unit, name)?;
            if is_struct(entry.tag()) {
                structure = MEMBERS.iter().find(|(of, _)| of.as_bytes() == name.slice()).map(|(of, _)| (*of, depth));
            } else if let Some((of, _)) = structure
                && let Some(column) =
                    MEMBERS.iter().position(|(other, member)| *other == of && member.as_bytes() == name.slice())
                && let Some(offset) = entry.attr(gimli::DW_AT_data_member_location)?.and_then(|at| at.udata_value())
            {
                found.0[column] = u16::try_from(offset).ok();
            }
        }
        if found.0.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(found)
}

fn is_struct(tag: DwTag) -> bool {
    tag == gimli::DW_TAG_structure_type
}

/// The content of a section, decompressed. Empty if the executable does not have it, None if it is too large.
fn read(elf: &Elf<'_>, id: SectionId) -> Option<Vec<u8>> {
    if let Some(place) = elf.section_place(id.name()) {
        let bytes = whole(elf, place)?;
        if !elf.is_compressed(id.name()) {
            return Some(bytes);
        }
        return inflate(bytes.get(COMPRESSION_HEADER_BYTES..)?);
    }
    // Go before 1.19: the old form, whose head is `ZLIB` and the size.
    let old = id.name().replacen(".debug", ".zdebug", 1);
    match elf.section_place(&old) {
        Some(place) => inflate(whole(elf, place)?.strip_prefix(b"ZLIB")?.get(8..)?),
        None => Some(Vec::new()),
    }
}

fn whole(elf: &Elf<'_>, place: Place) -> Option<Vec<u8>> {
    let bytes = elf.bytes(place, SECTION_BYTES);
    (bytes.len() as u64 == place.length).then_some(bytes)
}

fn inflate(compressed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(compressed).take(SECTION_BYTES + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= SECTION_BYTES).then_some(bytes)
}
