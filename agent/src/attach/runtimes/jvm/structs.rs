//! HotSpot's table of its own structs (`vmStructs.hpp`), which it exports for debuggers.

use crate::attach::{Memory, Unread};

/// JDK 21 has 813 entries.
const ENTRIES_READ: u64 = 8192;
/// An entry has 56 bytes.
const ENTRY_BYTES: u64 = 256;
/// A name that is looked for is shorter.
const NAME_BYTES: usize = 64;

/// The structs that are looked for.
const STRUCTS: [&str; 9] = [
    "JavaThread",
    "Thread",
    "OSThread",
    "ThreadsSMRSupport",
    "ThreadsList",
    // The collector ZGC. In JDK 21 to 23 the second one is ZGC without generations. Before that, it was the first.
    "ZGlobalsForVMStructs",
    "XGlobalsForVMStructs",
    // Its options. Before JDK 9 the name is the second one.
    "JVMFlag",
    "Flag",
];

/// The members of the structs that are looked for.
pub(in crate::attach) struct Structs(Vec<Member>);

struct Member {
    of: String,
    name: String,
    offset: u64,
    /// Of a static member, in the process.
    address: u64,
}

/// Offsets within an entry, and its length.
struct Layout {
    of: u64,
    name: u64,
    offset: u64,
    address: u64,
    stride: u64,
}

impl Structs {
    /// `symbol` returns the address of a variable of the JVM.
    pub(in crate::attach) fn read(memory: &Memory, symbol: impl Fn(&str) -> Option<u64>) -> Result<Self, Unread> {
        let word = |name: &str| {
            let at = symbol(name).ok_or_else(|| Unread::Unknown(format!("libjvm.so has no symbol {name}")))?;
            memory.read::<u64>(at).map_err(|error| super::not_yet(&format!("cannot read {name}: {error}")))
        };
        let small = |name: &str| match word(name)? {
            value if value < ENTRY_BYTES => Ok(value),
            // The dynamic linker maps a library from its beginning first, and its variables over that.
            value => Err(super::not_yet(&format!("{name} is {value}"))),
        };
        let layout = Layout {
            of: small("gHotSpotVMStructEntryTypeNameOffset")?,
            name: small("gHotSpotVMStructEntryFieldNameOffset")?,
            offset: small("gHotSpotVMStructEntryOffsetOffset")?,
            address: small("gHotSpotVMStructEntryAddressOffset")?,
            stride: small("gHotSpotVMStructEntryArrayStride")?,
        };
        let table = word("gHotSpotVMStructs")?;
        let mut members = Vec::new();
        for entry in 0..ENTRIES_READ {
            let at = table.wrapping_add(entry * layout.stride);
            let Some(of) = Layout::text(memory, at, layout.of) else { break };
            if STRUCTS.contains(&of.as_str()) {
                members.extend(layout.member(memory, at, of));
            }
        }
        if members.is_empty() { Err(super::not_yet("its table of structs is empty")) } else { Ok(Self(members)) }
    }

    /// The offset of a member in its struct.
    pub(in crate::attach) fn offset(&self, of: &str, name: &str) -> Option<u64> {
        self.member(of, name).map(|member| member.offset).filter(|&offset| offset < 1 << 16)
    }

    /// The offset of a member that the struct must have.
    pub(super) fn need(&self, of: &str, name: &str) -> Result<u64, Unread> {
        self.offset(of, name).ok_or_else(|| Unread::Unknown(format!("libjvm.so does not say where {of}::{name} is")))
    }

    /// The address of a static member.
    pub(in crate::attach) fn address(&self, of: &str, name: &str) -> Option<u64> {
        self.member(of, name).map(|member| member.address).filter(|&address| address != 0)
    }

    fn member(&self, of: &str, name: &str) -> Option<&Member> {
        self.0.iter().find(|member| member.of == of && member.name == name)
    }
}

impl Layout {
    fn member(&self, memory: &Memory, at: u64, of: String) -> Option<Member> {
        let word = |offset| memory.read::<u64>(at.wrapping_add(offset)).ok();
        let name = Self::text(memory, at, self.name)?;
        Some(Member { of, name, offset: word(self.offset)?, address: word(self.address)? })
    }

    /// The string that an entry refers to. `None` at the end of the table.
    fn text(memory: &Memory, entry: u64, offset: u64) -> Option<String> {
        let at = memory.read::<u64>(entry.wrapping_add(offset)).ok().filter(|&at| at != 0)?;
        let mut bytes = [0; NAME_BYTES];
        memory.read_into(at, &mut bytes).ok()?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}
