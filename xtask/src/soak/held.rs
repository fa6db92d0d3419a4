//! What a process holds: memory, descriptors, and objects in the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::shell;

/// What a process held at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Since the load began.
    pub(super) at: Duration,
    pub(super) held: Held,
}

/// Everything that must not grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) resident_kib: u64,
    pub(super) threads: u64,
    /// Lines of /proc/PID/maps.
    pub(super) mappings: u64,
    pub(super) descriptors: u64,
    /// BPF links and perf events, which attach programs.
    pub(super) links: u64,
    pub(super) maps: u64,
    /// Memory of the maps in the kernel. Of maps that are not preallocated it grows with their entries.
    pub(super) maps_kib: u64,
}

impl Held {
    /// What this process holds now.
    pub(super) fn by(pid: u32) -> Result<Self> {
        let proc = |name: &str| shell::file(format!("/proc/{pid}/{name}").as_ref());
        let status = proc("status")?;
        let number = |field: &str| {
            let value =
                status.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok());
            value.with_context(|| format!("/proc/{pid}/status has no {field}"))
        };
        let mut held = Self {
            resident_kib: number("VmRSS:")?,
            threads: number("Threads:")?,
            mappings: proc("maps")?.lines().count() as u64,
            ..Self::default()
        };
        let mut maps = BTreeMap::new();
        let dir = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir}"))? {
            // Descriptors may be closed while this iterates.
            let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
            held.add_descriptor(&info, &mut maps);
        }
        held.maps = maps.len() as u64;
        held.maps_kib = maps.values().sum::<u64>() / 1024;
        Ok(held)
    }

    /// `info` is the text in fdinfo. `maps` are the bytes of each map, by its id: several descriptors may refer to one.
    fn add_descriptor(&mut self, info: &str, maps: &mut BTreeMap<u32, u64>) {
        self.descriptors += 1;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("link_id:").is_some() {
            self.links += 1;
        }
        if let Some(id) = field("map_id:").and_then(|id| id.parse().ok()) {
            maps.insert(id, field("memlock:").and_then(|bytes| bytes.parse().ok()).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_one_map_count_it_once() {
        let (mut held, mut maps) = (Held::default(), BTreeMap::new());
        for info in [
            "pos:\t0\nmap_type:\t1\nmemlock:\t4096\nmap_id:\t7\n",
            "pos:\t0\nmap_type:\t1\nmemlock:\t8192\nmap_id:\t7\n",
            "pos:\t0\nlink_type:\ttracing\nlink_id:\t3\n",
            "pos:\t0\nflags:\t02\n",
        ] {
            held.add_descriptor(info, &mut maps);
        }
        assert_eq!((held.descriptors, held.links), (4, 1));
        assert_eq!(maps, BTreeMap::from([(7, 8192)]));
    }
}
