//! Makes the kernel programs read units of work.

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use onlooker_common::unit::UnitSource;

use super::map;
use super::plain::UnitSourceValue;

/// How the unit of work of each process is read.
pub struct UnitSources {
    sources: HashMap<MapData, u32, UnitSourceValue>,
    generation: Array<MapData, u32>,
    /// What `generation` has.
    current: u32,
}

impl UnitSources {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self { sources: map(ebpf, "UNIT_SOURCES")?, generation: map(ebpf, "UNIT_GENERATION")?, current: 0 })
    }

    /// Makes the kernel programs read the unit of a process, from its next socket operation on. They stop when the process
    /// ends or executes another program.
    pub fn set(&mut self, tgid: u32, source: UnitSource) -> Result<(), MapError> {
        self.sources.insert(tgid, UnitSourceValue(source), 0)?;
        self.tell()
    }

    /// Removes what was set for a process.
    pub fn remove(&mut self, tgid: u32) {
        // A kernel program may have removed it.
        let _ = self.sources.remove(&tgid);
    }

    /// Makes the kernel programs look at the sources again.
    fn tell(&mut self) -> Result<(), MapError> {
        self.current = self.current.wrapping_add(1);
        self.generation.set(0, self.current, 0)
    }
}

impl std::fmt::Debug for UnitSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnitSources").finish_non_exhaustive()
    }
}
