//! Reads the loss counters of the kernel programs.

use onlooker_common::losses::Loss;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues};

/// The map of counters.
const NAME: &str = "LOSSES";

/// The kernel counts this per program, in `/proc/self/fdinfo`, since 5.12.
const SKIPPED: (&str, &str) = (
    "kernel_programs_skipped",
    "Runs of a program that the kernel skipped because they would have interrupted the same program.",
);

/// The counters. They stay readable after the programs are detached.
pub struct Losses {
    counts: PerCpuArray<MapData, u64>,
    /// The loaded programs.
    programs: Vec<OwnedFd>,
}

impl Losses {
    /// Opens its own descriptor of the map, so several views may exist.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, MapError> {
        let Some(Map::PerCpuArray(map)) = ebpf.map(NAME) else {
            return Err(MapError::InvalidName { name: NAME.to_owned() });
        };
        let own = map.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError)?;
        let loaded = ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        let programs = loaded.filter_map(|program| program.as_fd().try_clone_to_owned().ok()).collect();
        Ok(Self { counts: PerCpuArray::try_from(Map::PerCpuArray(MapData::from_fd(own)?))?, programs })
    }

    /// Sets all counters to 0, before anything is selected.
    pub(super) fn reset(ebpf: &mut Ebpf) -> Result<(), MapError> {
        let Some(map) = ebpf.map_mut(NAME) else { return Err(MapError::InvalidName { name: NAME.to_owned() }) };
        let mut counts = PerCpuArray::<_, u64>::try_from(map)?;
        let processors = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
        for index in (0..).take(Loss::ALL.len()) {
            counts.set(index, PerCpuValues::try_from(vec![0; processors]).map_err(MapError::IoError)?, 0)?;
        }
        Ok(())
    }

    #[must_use]
    pub fn count(&self, loss: Loss) -> u64 {
        self.counts.get(&(loss as u32), 0).map_or(0, |values| values.iter().sum())
    }

    /// Name, help text and value of each counter.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = (0..).map(|index| self.counts.get(&index, 0).map_or(0, |values| values.iter().sum()));
        let counted = Loss::ALL.iter().zip(counts).map(|(&(name, help), count)| (name, help.trim_ascii(), count));
        let (name, help) = SKIPPED;
        counted.chain([(name, help, self.programs.iter().map(skipped).sum())]).collect()
    }
}

/// How many runs of a program were skipped; 0 if the kernel does not count them.
fn skipped(program: &OwnedFd) -> u64 {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).map_or(0, |text| skipped_in(&text))
}

fn skipped_in(fdinfo: &str) -> u64 {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok()).unwrap_or(0)
}

impl std::fmt::Debug for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Losses").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::skipped_in;

    #[test]
    fn skipped_runs_are_read_from_fdinfo() {
        assert_eq!(skipped_in("prog_id:\t7\nrun_cnt:\t0\nrecursion_misses:\t12\nverified_insns:\t5\n"), 12);
        assert_eq!(skipped_in("prog_id:\t7\n"), 0);
    }
}
