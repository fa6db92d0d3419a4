//! Lists the memory mappings of a process, and opens the mapped files.
//!
//! A mapped file is opened through /proc/PID/map_files. So it is the file that the process has mapped, whether it is in
//! another mount namespace, deleted, replaced, or a memfd. Where the agent may not follow these links, the file is opened by
//! its path within the process's root, if it is the same file.

use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustc_hash::FxHasher;

use crate::discover::process::Process;

/// Of a process with more mappings, the first are read: the executable, and what was mapped first below the stack.
const MAPS_READ_BYTES: u64 = 8 << 20;

/// One memory mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub executable: bool,
    pub writable: bool,
    /// Where it begins in the file.
    pub offset: u64,
    /// Of the file. Zero for anonymous memory.
    pub inode: u64,
    /// Path in the process's mount namespace, with ` (deleted)` behind it if the file is unlinked. Empty for anonymous
    /// memory, and in brackets for special areas such as `[heap]`.
    pub name: String,
}

impl Mapping {
    /// proc_pid_maps(5): `start-end permissions offset device inode path`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.trim_end_matches('\n').splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            executable: permissions.as_bytes().get(2) == Some(&b'x'),
            writable: permissions.as_bytes().get(1) == Some(&b'w'),
            offset,
            inode,
            name: fields.next().unwrap_or_default().trim_start_matches(' ').to_owned(),
        })
    }
}

/// The memory mappings of a process, by address.
///
/// # Errors
/// If the process has ended or may not be read.
pub fn mappings(process: &Process) -> io::Result<Vec<Mapping>> {
    let maps = process.open_relative("maps").map_err(io::Error::other)?;
    let mut maps = BufReader::new(maps.take(MAPS_READ_BYTES));
    let (mut found, mut line) = (Vec::new(), Vec::new());
    while maps.read_until(b'\n', &mut line)? > 0 {
        found.extend(Mapping::parse(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(found)
}

/// A number that changes when a process maps or unmaps code.
pub(super) fn code_version(mappings: &[Mapping]) -> u64 {
    let mut hasher = FxHasher::default();
    for mapping in mappings.iter().filter(|mapping| mapping.executable && mapping.inode != 0) {
        (mapping.start, mapping.end, mapping.offset, mapping.inode).hash(&mut hasher);
    }
    hasher.finish()
}

/// Opens the file of a mapping. Returns a path that it can be opened by again.
pub(super) fn open(process: &Process, mapping: &Mapping) -> Option<(PathBuf, File)> {
    let proc = Path::new("/proc").join(process.pid().to_string());
    let link = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
    // No device is mapped as code and opened here: mapping one has a device's name.
    if !mapping.name.starts_with("/dev/")
        && let Ok(file) = process.open_relative(&link)
        && file.metadata().ok()?.is_file()
    {
        return Some((proc.join(link), file));
    }
    let name = mapping.name.strip_prefix('/').filter(|name| !name.ends_with(" (deleted)"))?;
    let file = process.open_inside(Path::new(&mapping.name))?;
    (file.metadata().ok()?.ino() == mapping.inode).then(|| (proc.join("root").join(name), file))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn mapping(start: u64, executable: bool, offset: u64, inode: u64, name: &str) -> Mapping {
        Mapping { start, end: start + 0x1000, executable, writable: false, offset, inode, name: name.to_owned() }
    }

    #[rstest]
    #[case::library(
        "7f00-8f00 r-xp 00002000 fe:00 42                         /usr/lib/libc.so.6\n",
        Some(mapping(0x7f00, true, 0x2000, 42, "/usr/lib/libc.so.6"))
    )]
    #[case::name_with_spaces(
        "1000-2000 r--p 00000000 00:01 7                          /tmp/a b (deleted)\n",
        Some(mapping(0x1000, false, 0, 7, "/tmp/a b (deleted)"))
    )]
    #[case::anonymous("1000-2000 r--p 00000000 00:00 0 \n", Some(mapping(0x1000, false, 0, 0, "")))]
    #[case::empty("\n", None)]
    #[case::nonsense("x-y r--p z 00:00 -\n", None)]
    fn a_line_of_maps_is_a_mapping(#[case] line: &str, #[case] expected: Option<Mapping>) {
        assert_eq!(Mapping::parse(line), expected);
    }

    #[test]
    fn a_library_that_is_mapped_changes_the_version_of_the_code() {
        let program = mapping(0x1000, true, 0, 7, "/bin/program");
        let heap = mapping(0x3000, false, 0, 0, "[heap]");
        let library = mapping(0x5000, true, 0x2000, 42, "/usr/lib/libssl.so.3");
        let version = code_version(std::slice::from_ref(&program));
        assert_eq!(code_version(&[program.clone(), heap]), version);
        assert_ne!(code_version(&[program.clone(), library]), version);
        assert_ne!(code_version(&[mapping(0x1000, true, 0, 8, "/bin/other")]), version);
    }
}
