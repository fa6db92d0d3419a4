//! Lists the programs, maps and links that are loaded in the kernel: those of one process, or all of them.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use anyhow::{Context as _, Result};

/// A program, map or link, identified by its kind and the kernel's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BpfObject {
    /// Program, map or link.
    pub kind: ObjectKind,
    id: u32,
}

/// A kind of BPF object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A loaded program.
    Program,
    /// A map.
    Map,
    /// A link, which attaches a program.
    Link,
}

/// Each kind with its field in /proc/PID/fdinfo and its `BPF_*_GET_NEXT_ID` command (include/uapi/linux/bpf.h).
const KINDS: [(ObjectKind, &str, libc::c_int); 3] =
    [(ObjectKind::Program, "prog_id:", 11), (ObjectKind::Map, "map_id:", 12), (ObjectKind::Link, "link_id:", 31)];

/// Returns the objects that the process holds file descriptors of.
pub fn held_by(pid: u32) -> Result<BTreeSet<BpfObject>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir}"))? {
        // Descriptors may be closed while we iterate.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        for (kind, field, _) in KINDS {
            let ids = text.lines().filter_map(|line| line.strip_prefix(field)?.trim().parse().ok());
            held.extend(ids.map(|id| BpfObject { kind, id }));
        }
    }
    Ok(held)
}

/// Returns all objects of this machine. Requires CAP_SYS_ADMIN.
pub fn all() -> Result<BTreeSet<BpfObject>> {
    let mut all = BTreeSet::new();
    for (kind, _, command) in KINDS {
        let mut last = 0;
        while let Some(id) =
            next_id(command, last).with_context(|| format!("cannot list all objects of kind {kind:?}"))?
        {
            all.insert(BpfObject { kind, id });
            last = id;
        }
    }
    Ok(all)
}

/// `BPF_*_GET_NEXT_ID`: returns the smallest existing id above `last`.
fn next_id(command: libc::c_int, last: u32) -> io::Result<Option<u32>> {
    // The kernel's struct: start_id, next_id, open_flags.
    let mut attributes = [last, 0, 0];
    // SAFETY: these commands access only the first fields of `union bpf_attr`, which `attributes` is as large as.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(&attributes)) };
    match done {
        0 => Ok(Some(attributes[1])),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            error => Err(error),
        },
    }
}
