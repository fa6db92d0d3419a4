//! Programs, maps and links in the kernel: those that a process holds, and all that there are.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use anyhow::{Context as _, Result};

/// One of them, by its kind and the kernel's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BpfObject {
    /// What it is.
    pub kind: Kind,
    id: u32,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A link: what attaches a program.
    Link,
}

/// With their field in /proc/PID/fdinfo and the command that goes through them (include/uapi/linux/bpf.h, `enum bpf_cmd`).
const KINDS: [(Kind, &str, libc::c_int); 3] =
    [(Kind::Program, "prog_id:", 11), (Kind::Map, "map_id:", 12), (Kind::Link, "link_id:", 31)];

/// Those that the process holds a descriptor of.
pub fn held_by(pid: u32) -> Result<BTreeSet<BpfObject>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir}"))? {
        // Some descriptors are closed while we look.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        for (kind, field, _) in KINDS {
            let ids = text.lines().filter_map(|line| line.strip_prefix(field)?.trim().parse().ok());
            held.extend(ids.map(|id| BpfObject { kind, id }));
        }
    }
    Ok(held)
}

/// All of this machine. Needs CAP_SYS_ADMIN.
pub fn all() -> Result<BTreeSet<BpfObject>> {
    let mut all = BTreeSet::new();
    for (kind, _, command) in KINDS {
        let mut last = 0;
        while let Some(id) = next(command, last).with_context(|| format!("cannot go through every {kind:?}"))? {
            all.insert(BpfObject { kind, id });
            last = id;
        }
    }
    Ok(all)
}

/// `BPF_*_GET_NEXT_ID`: the smallest number above `last` that there is.
fn next(command: libc::c_int, last: u32) -> io::Result<Option<u32>> {
    // start_id, next_id, open_flags.
    let mut attributes = [last, 0, 0];
    // SAFETY: these commands read and write their part of `union bpf_attr`, which is as large as told.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(&attributes)) };
    match done {
        0 => Ok(Some(attributes[1])),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            error => Err(error),
        },
    }
}
