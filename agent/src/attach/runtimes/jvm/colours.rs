//! Coloured pointers: ZGC keeps in some bits of a pointer whether the object may have moved (`zAddress.hpp`).
//!
//! Other collectors use plain pointers. An object that they move can be read at its old place until all pointers to it are
//! changed.

use super::structs::Structs;
use crate::attach::{Memory, Unread};

/// Where the JVM has the meaning of its pointers' bits.
pub(super) struct Colours {
    /// Address of the mask of bits that mark a pointer to an object that may have moved. 0 for plain pointers.
    pub(super) bad: u64,
    /// Address of the number of bits below the object's address. 0 if the other bits are part of a usable address.
    pub(super) shift: u64,
}

/// The tables that may have the mask: the table, its mask, and its shift.
const TABLES: [(&str, &str, Option<&str>); 3] = [
    ("ZGlobalsForVMStructs", "_ZPointerLoadBadMask", Some("_ZPointerLoadShift")),
    // ZGC without generations maps the heap once for each colour.
    ("XGlobalsForVMStructs", "_XAddressBadMask", None),
    ("ZGlobalsForVMStructs", "_ZAddressBadMask", None),
];

impl Colours {
    pub(super) fn of(memory: &Memory, structs: &Structs) -> Result<Self, Unread> {
        let read = |at: u64| memory.read::<u64>(at).map_err(|error| super::not_yet(&format!("ZGC: {error}")));
        for (table, bad, shift) in TABLES {
            let Some(instance) = structs.address(table, "_instance_p") else { continue };
            let instance = read(instance)?;
            // The address of a variable. 0 if the JVM has none of this name.
            let variable = |name: &str| match structs.offset(table, name) {
                Some(offset) => read(instance.wrapping_add(offset)),
                None => Ok(0),
            };
            let bad = variable(bad)?;
            // The mask is 0 in a JVM that uses another collector.
            if bad != 0 && read(bad)? != 0 {
                return Ok(Self { bad, shift: shift.map_or(Ok(0), variable)? });
            }
        }
        Ok(Self { bad: 0, shift: 0 })
    }

    /// The address of the object that a pointer points to. `None` for a null pointer, and if the object may have moved.
    pub(super) fn address(&self, memory: &Memory, pointer: u64) -> Option<u64> {
        let read = |at: u64| if at == 0 { Some(0) } else { memory.read::<u64>(at).ok() };
        let (bad, shift) = (read(self.bad)?, read(self.shift)?);
        let address = pointer.checked_shr(u32::try_from(shift).ok()?)?;
        (pointer & bad == 0 && address != 0).then_some(address)
    }
}
