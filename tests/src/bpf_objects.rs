//! Lists the programs, maps and links that are loaded in the kernel: those of one process, or all of them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};

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

/// Returns the keys in the map of this name that the process holds. Keys that are added or removed meanwhile may be missing.
pub fn keys(pid: u32, name: &str) -> Result<Vec<Vec<u8>>> {
    for object in held_by(pid)?.iter().filter(|object| object.kind == ObjectKind::Map) {
        let map = Map::open(object.id).with_context(|| format!("cannot open map {}", object.id))?;
        if map.name == name {
            return map.keys().with_context(|| format!("cannot read the keys of {name}"));
        }
    }
    bail!("process {pid} holds no map {name}")
}

struct Map {
    fd: OwnedFd,
    key_size: usize,
    name: String,
}

impl Map {
    fn open(id: u32) -> io::Result<Self> {
        const MAP_GET_FD_BY_ID: libc::c_int = 14;
        const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
        // SAFETY: the kernel reads the id, and returns a descriptor that is ours.
        let fd = unsafe { OwnedFd::from_raw_fd(call(MAP_GET_FD_BY_ID, &mut [u64::from(id), 0])?) };
        // `struct bpf_map_info`: type, id, key_size, value_size, max_entries, map_flags, and 16 bytes of name.
        let mut info = [0_u32; 10];
        let length = size_of_val(&info) as u64;
        let mut attributes = [fd.as_raw_fd() as u64 | length << 32, info.as_mut_ptr() as u64];
        // SAFETY: the kernel writes `length` bytes at most.
        unsafe { call(OBJ_GET_INFO_BY_FD, &mut attributes)? };
        let name =
            info[6..].iter().flat_map(|word| word.to_ne_bytes()).take_while(|&byte| byte != 0).collect::<Vec<_>>();
        Ok(Self { fd, key_size: info[2] as usize, name: String::from_utf8_lossy(&name).into_owned() })
    }

    fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        const MAP_GET_NEXT_KEY: libc::c_int = 4;
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; self.key_size];
            let last = keys.last().map_or(0, |key| key.as_ptr() as u64);
            let mut attributes = [self.fd.as_raw_fd() as u64, last, next.as_mut_ptr() as u64];
            // SAFETY: the kernel reads one key, and writes one.
            match unsafe { call(MAP_GET_NEXT_KEY, &mut attributes) } {
                Ok(_) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
        }
    }
}

/// # Safety
/// `attributes` must be valid as the `union bpf_attr` of the command.
unsafe fn call(command: libc::c_int, attributes: &mut [u64]) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
