//! What the kernel programs could not do, as they count it.

use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray};
use onlooker_common::loss::Loss;

/// The counters. They stay readable when the programs are gone.
pub struct Losses(PerCpuArray<MapData, u64>);

impl Losses {
    /// A view of its own of the map, which others may have too.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, MapError> {
        const NAME: &str = "LOSSES";
        let Some(Map::PerCpuArray(map)) = ebpf.map(NAME) else {
            return Err(MapError::InvalidName { name: NAME.to_owned() });
        };
        let own = map.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError)?;
        Ok(Self(PerCpuArray::try_from(Map::PerCpuArray(MapData::from_fd(own)?))?))
    }

    #[must_use]
    pub fn count(&self, loss: Loss) -> u64 {
        self.0.get(&(loss as u32), 0).map_or(0, |values| values.iter().sum())
    }

    /// Name, meaning and count of each.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = (0..).map(|index| self.0.get(&index, 0).map_or(0, |values| values.iter().sum()));
        Loss::ALL.iter().zip(counts).map(|(&(name, help), count)| (name, help.trim_ascii(), count)).collect()
    }
}

impl std::fmt::Debug for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Losses").finish_non_exhaustive()
    }
}
