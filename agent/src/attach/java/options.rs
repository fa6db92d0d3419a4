//! The options of a HotSpot JVM, as they are in its memory: by command line, file, environment or whatever starts it.

use crate::attach::runtimes::jvm::structs::Structs;
use crate::attach::{Memory, Unread};

/// JDK 21 has 1400 options.
const OPTIONS_READ: u64 = 4096;
/// An entry of the table has 24 to 48 bytes.
const STRIDES: std::ops::RangeInclusive<u64> = 16..=64;
/// So many entries must look like options.
const PROBED: u64 = 8;
/// Names are shorter. What is looked for is shorter than half of it.
const NAME_BYTES: usize = 64;

/// Options with which the library cannot be loaded: their names, the value that forbids it, and how users write it.
const FORBIDDING: [(&str, bool, &str); 2] = [
    ("DisableAttachMechanism", true, "-XX:+DisableAttachMechanism"),
    ("EnableDynamicAgentLoading", false, "-XX:-EnableDynamicAgentLoading"),
];

/// The values of the options in [`FORBIDDING`]. None for one that this version does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options([Option<bool>; FORBIDDING.len()]);

impl Options {
    pub(super) fn read(memory: &Memory, structs: &Structs) -> Result<Self, Unread> {
        let unknown = || Unread::Unknown("libjvm.so does not say where its options are".to_owned());
        let of =
            ["JVMFlag", "Flag"].into_iter().find(|of| structs.address(of, "flags").is_some()).ok_or_else(unknown)?;
        let table = Table {
            memory,
            at: structs.address(of, "flags").and_then(|at| memory.read(at).ok()).ok_or_else(unknown)?,
            name: structs.offset(of, "_name").ok_or_else(unknown)?,
            value: structs.offset(of, "_addr").ok_or_else(unknown)?,
        };
        let stride = STRIDES
            .step_by(8)
            .find(|stride| (0..PROBED).all(|entry| table.name(entry * stride).is_some()))
            .ok_or_else(unknown)?;
        let count = structs.address(of, "numFlags").and_then(|at| memory.read::<u64>(at).ok());
        let mut values = [None; FORBIDDING.len()];
        for entry in 0..count.unwrap_or(OPTIONS_READ).min(OPTIONS_READ) {
            let Some(name) = table.name(entry * stride) else { continue };
            if let Some(at) = FORBIDDING.iter().position(|&(forbidding, _, _)| forbidding.as_bytes() == name) {
                values[at] = table.value(entry * stride);
            }
        }
        // Every version has the first. Without it, what was read is something else.
        if values[0].is_none() { Err(unknown()) } else { Ok(Self(values)) }
    }

    /// The option with which the library cannot be loaded.
    pub(super) fn forbids(self) -> Option<&'static str> {
        let forbidding = FORBIDDING.iter().zip(self.0).find(|((_, forbids, _), value)| *value == Some(*forbids));
        forbidding.map(|(&(_, _, written), _)| written)
    }
}

struct Table<'memory> {
    memory: &'memory Memory,
    at: u64,
    name: u64,
    value: u64,
}

impl Table<'_> {
    /// The name of the option at this offset of the table.
    fn name(&self, entry: u64) -> Option<Vec<u8>> {
        let at = self.pointer(entry, self.name)?;
        let mut bytes = [0; NAME_BYTES];
        // The last name may end where memory ends.
        let read = [NAME_BYTES, NAME_BYTES / 2].into_iter().find(|&length| {
            let (into, _) = bytes.split_at_mut(length);
            self.memory.read_into(at, into).is_ok()
        });
        let name = bytes[..read?].split(|&byte| byte == 0).next()?;
        (!name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'))
            .then(|| name.to_vec())
    }

    fn value(&self, entry: u64) -> Option<bool> {
        match self.memory.read::<u8>(self.pointer(entry, self.value)?).ok()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn pointer(&self, entry: u64, offset: u64) -> Option<u64> {
        let at = self.at.checked_add(entry)?.checked_add(offset)?;
        self.memory.read::<u64>(at).ok().filter(|&at| at != 0)
    }
}
