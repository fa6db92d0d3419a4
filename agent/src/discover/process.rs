//! Reads one process from /proc, through a handle that stays with the process when its pid is reused.
//!
//! The process controls everything that is read: its arguments, title, environment and files may contain anything and
//! have any size. So reads are bounded, and a file is opened within the process's root and only if it is regular.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use procfs::ProcError;
use procfs::process::{StatFlags, Status};
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Programs that hold listening sockets for services that they start later, and start services that have nothing to do with
/// each other.
const SERVICE_MANAGERS: [&str; 1] = ["systemd"];

/// A command line may have 6 MiB. A Java class path of hundreds of KiB stands before the name of the main class.
const ARGUMENTS_READ_BYTES: u64 = 1 << 20;
const ENVIRONMENT_READ_BYTES: u64 = 1 << 20;
/// The longest path that a program can be started by: PATH_MAX.
const STARTED_BY_READ_BYTES: usize = 4096;
/// A process with more mappings is recognised by the first ones. Libraries are mapped early.
const MAPS_READ_BYTES: u64 = 8 << 20;
/// The auxiliary vector has about 20 entries of 16 bytes.
const AUXV_READ_BYTES: u64 = 4096;
/// A line has 150 bytes.
const CONNECTIONS_READ_BYTES: u64 = 16 << 20;
const CGROUP_READ_BYTES: u64 = 64 << 10;
/// In servers with more threads, those that matter were started first.
const THREADS_READ: usize = 4096;
/// A host with many containers has thousands of mounts.
const MOUNTINFO_READ_BYTES: u64 = 2 << 20;

/// How a folder is opened, to find files in it.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Identifies a process permanently: pids are reused, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pub pid: u32,
    /// Clock ticks after boot, from /proc/PID/stat.
    pub started: u64,
}

/// Identifies one execution of a program. A forked process has its parent's, until it executes a program itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecImage {
    /// Contains addresses that the kernel randomises at each exec.
    auxv: Vec<u8>,
    /// 16 random bytes that the kernel gives to the program at its exec.
    random: [u8; 16],
}

impl fmt::Debug for ExecImage {
    /// Without the random bytes, which the program may use as a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecImage").finish_non_exhaustive()
    }
}

/// Why a process cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("process {pid} does not exist")]
    Gone { pid: u32 },
    #[error("cannot read /proc/{pid}: {why}; run as root or grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")]
    Refused { pid: u32, why: String },
}

/// A process of this host.
#[derive(Debug)]
pub struct Process {
    proc: procfs::process::Process,
    identity: Identity,
    parent: u32,
    comm: String,
    kernel_thread: bool,
    zombie: bool,
}

impl Process {
    /// Opens the process with this pid, in the pid namespace of the agent's /proc.
    pub fn open(pid: u32) -> Result<Self, Unreadable> {
        let proc = i32::try_from(pid).map_err(|_| Unreadable::Gone { pid })?;
        Self::from_proc(procfs::process::Process::new(proc).map_err(|error| unreadable(pid, error))?)
    }

    /// The agent itself.
    pub fn myself() -> Result<Self, Unreadable> {
        let proc = procfs::process::Process::myself().map_err(|error| unreadable(0, error))?;
        Self::from_proc(proc)
    }

    pub(crate) fn from_proc(proc: procfs::process::Process) -> Result<Self, Unreadable> {
        let pid = proc.pid.unsigned_abs();
        let stat = proc.stat().map_err(|error| unreadable(pid, error))?;
        Ok(Self {
            identity: Identity { pid, started: stat.starttime },
            parent: stat.ppid.unsigned_abs(),
            kernel_thread: stat.flags & StatFlags::PF_KTHREAD.bits() != 0,
            zombie: stat.state == 'Z',
            comm: stat.comm,
            proc,
        })
    }

    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent
    }

    /// The kernel's name of it. It has at most 15 bytes, and the process may have changed it.
    #[must_use]
    pub fn comm(&self) -> &str {
        &self.comm
    }

    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.kernel_thread
    }

    /// Whether its first thread has ended. Its parent has not waited for it yet, or other threads still run.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.zombie
    }

    /// Whether at least one thread neither has ended nor is ending. It may have executed another program.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.proc.stat().is_ok_and(|stat| {
            let first_ends = matches!(stat.state, 'Z' | 'X') || stat.flags & StatFlags::PF_EXITING.bits() != 0;
            !first_ends || stat.num_threads > 1
        })
    }

    /// Whether it is a service manager: it listens for services that it starts, and does not accept.
    #[must_use]
    pub fn is_service_manager(&self) -> bool {
        SERVICE_MANAGERS.contains(&self.comm())
            && self.executable().is_ok_and(|path| {
                let name = path.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
                name.is_some_and(|name| SERVICE_MANAGERS.contains(&name))
            })
    }

    /// Whether it is a child of the agent that has not yet executed the program it was started for.
    #[must_use]
    pub fn is_my_fork(&self) -> bool {
        let program = |process: &Self| {
            let metadata = process.open_executable().ok()?.metadata().ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        self.parent == std::process::id()
            && Self::myself().is_ok_and(|myself| program(self).is_some() && program(self) == program(&myself))
    }

    /// The processes that any of its threads forked. Empty on kernels without `CONFIG_PROC_CHILDREN`.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let Ok(threads) = self.proc.tasks() else { return Vec::new() };
        threads.flatten().filter_map(|thread| thread.children().ok()).flatten().collect()
    }

    /// The effective user id.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.proc.uid().ok()
    }

    /// Path of the executable in the process's mount namespace. For a deleted file, the path it had.
    /// None for a kernel thread and a zombie.
    pub fn executable(&self) -> Result<Option<PathBuf>, Unreadable> {
        match self.proc.exe() {
            Ok(path) => Ok(Some(without_deleted(path))),
            // ENOENT while the process exists: it has no executable.
            Err(ProcError::NotFound(_)) if self.exists() => Ok(None),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// The executable itself, even if another file is at its path now.
    pub fn open_executable(&self) -> Result<File, Unreadable> {
        self.proc.open_relative("exe").map_err(|error| self.unreadable(error))
    }

    /// The path that execve(2) was given: a link to the executable, or a script that starts with `#!`. None if it is no
    /// longer in the process's memory.
    #[must_use]
    pub fn started_by(&self) -> Option<PathBuf> {
        let address = auxiliary(&self.auxv()?, libc::AT_EXECFN)?;
        let mut path = vec![0; STARTED_BY_READ_BYTES];
        let read = self.proc.open_relative("mem").ok()?.read_at(&mut path, address).ok()?;
        path.truncate(read);
        path.truncate(CStr::from_bytes_until_nul(&path).ok()?.count_bytes());
        let path = PathBuf::from(OsString::from_vec(path));
        // A program that executes itself again, or from a descriptor, was not called by this path.
        (path.file_name().is_some() && !path.starts_with("/proc") && !path.starts_with("/dev")).then_some(path)
    }

    /// Which execution of a program it runs. None if its memory cannot be read.
    #[must_use]
    pub fn exec_image(&self) -> Option<ExecImage> {
        let auxv = self.auxv()?;
        let mut random = [0; 16];
        let memory = self.proc.open_relative("mem").ok()?;
        memory.read_exact_at(&mut random, auxiliary(&auxv, libc::AT_RANDOM)?).ok()?;
        Some(ExecImage { auxv, random })
    }

    fn auxv(&self) -> Option<Vec<u8>> {
        read_at_most(self.proc.open_relative("auxv").ok()?, AUXV_READ_BYTES).ok()
    }

    /// The root directory in its mount namespace. It is `/` unless the process called chroot(2).
    pub fn root(&self) -> Result<PathBuf, Unreadable> {
        self.proc.root().map_err(|error| self.unreadable(error))
    }

    /// The working directory, as seen by the process.
    #[must_use]
    pub fn working_directory(&self) -> Option<PathBuf> {
        let path = without_deleted(self.proc.cwd().ok()?);
        Some(inside(&path, &self.proc.root().ok()?).unwrap_or(path))
    }

    /// What /proc/PID/cmdline contains: the arguments, or a title that the process has written over them.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let bytes = self.read("cmdline", ARGUMENTS_READ_BYTES).unwrap_or_default();
        let mut arguments: Vec<String> =
            bytes.split(|&byte| byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect();
        // Empty ones at the end come from the last NUL, and from a title that is shorter than the arguments were.
        while arguments.last().is_some_and(String::is_empty) {
            arguments.pop();
        }
        arguments
    }

    /// The environment it was started with: `NAME=value`, a NUL after each. It contains secrets and must not be kept.
    #[must_use]
    pub fn environment(&self) -> Vec<u8> {
        self.read("environ", ENVIRONMENT_READ_BYTES).unwrap_or_default()
    }

    /// /proc/PID/cgroup: lines of `hierarchy:controllers:path`.
    pub fn cgroups(&self) -> Result<String, Unreadable> {
        self.read("cgroup", CGROUP_READ_BYTES).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn mountinfo(&self) -> Result<String, Unreadable> {
        self.read("mountinfo", MOUNTINFO_READ_BYTES).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Inode number of its network namespace.
    pub fn network_namespace(&self) -> Result<u64, Unreadable> {
        let namespace = self
            .proc
            .open_relative_flags("ns/net", OFlags::PATH | OFlags::CLOEXEC)
            .map_err(|error| self.unreadable(error))?;
        let stat = rustix::fs::fstat(&namespace).map_err(|error| self.refused(error))?;
        Ok(stat.st_ino)
    }

    /// A file of /proc/PID.
    pub fn open_relative(&self, path: &str) -> Result<File, Unreadable> {
        self.proc.open_relative(path).map_err(|error| self.unreadable(error))
    }

    /// Paths of the mapped files, by address. Adjacent mappings of one file count once.
    #[must_use]
    pub fn mapped_files(&self) -> Vec<PathBuf> {
        let Ok(maps) = self.proc.open_relative("maps") else { return Vec::new() };
        let mut files: Vec<PathBuf> = Vec::new();
        let mut line = Vec::new();
        let mut maps = BufReader::new(maps.take(MAPS_READ_BYTES));
        loop {
            line.clear();
            match maps.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return files,
                Ok(_) => {
                    let Some(start) = line.iter().position(|&byte| byte == b'/') else { continue };
                    let path = PathBuf::from(OsString::from_vec(line[start..].trim_ascii_end().to_vec()));
                    if files.last() != Some(&path) {
                        files.push(path);
                    }
                }
            }
        }
    }

    /// Calls `visit` with the target of each file descriptor (`socket:[4711]`, `/var/log/shop.log`), until it breaks.
    pub fn descriptors(&self, mut visit: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), Unreadable> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.proc.open_relative_flags("fd", flags).map_err(|error| self.unreadable(error))?;
        let entries = rustix::fs::Dir::read_from(&folder).map_err(|error| self.refused(error))?;
        let mut target = Vec::with_capacity(256);
        for entry in entries {
            let entry = entry.map_err(|error| self.refused(error))?;
            target.clear();
            // It was closed in the meantime, or is `.` or `..`.
            let Ok(link) = rustix::fs::readlinkat(&folder, entry.file_name(), target) else {
                target = Vec::new();
                continue;
            };
            if visit(link.to_bytes()).is_break() {
                break;
            }
            target = link.into_bytes();
        }
        Ok(())
    }

    /// How many established TCP connections it has.
    #[must_use]
    pub fn connections(&self) -> usize {
        let mut established = HashSet::new();
        for file in ["net/tcp", "net/tcp6"] {
            let Ok(text) = self.read(file, CONNECTIONS_READ_BYTES) else { continue };
            let text = String::from_utf8_lossy(&text);
            // proc_net_tcp(5): the fourth column is the state, and the tenth the inode.
            let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let lines = text.lines().map(columns).filter(|line| line.get(3).is_some_and(|state| state == "01"));
            established.extend(lines.filter_map(|line| Some(format!("socket:[{}]", line.get(9)?))));
        }
        let mut count = 0;
        let visited = self.descriptors(|target| {
            count += usize::from(str::from_utf8(target).is_ok_and(|target| established.contains(target)));
            ControlFlow::Continue(())
        });
        if visited.is_ok() { count } else { 0 }
    }

    /// Whether `is` holds for the name of a thread. The kernel keeps 15 bytes of a name.
    #[must_use]
    pub fn has_thread(&self, is: impl Fn(&[u8]) -> bool) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = self.proc.open_relative_flags("task", flags) else { return false };
        let Ok(threads) = rustix::fs::Dir::read_from(&folder) else { return false };
        threads.flatten().take(THREADS_READ).any(|thread| {
            let path = Path::new(OsStr::from_bytes(thread.file_name().to_bytes())).join("comm");
            // It ended in the meantime, or is `.` or `..`.
            let comm = rustix::fs::openat(&folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            comm.is_ok_and(|comm| read_at_most(File::from(comm), 64).is_ok_and(|comm| is(comm.trim_ascii_end())))
        })
    }

    /// Whether it has an epoll instance, which is a sign of an event loop.
    #[must_use]
    pub fn has_event_poll(&self) -> bool {
        let mut found = false;
        let visited = self.descriptors(|target| {
            found = target == b"anon_inode:[eventpoll]";
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        visited.is_ok() && found
    }

    /// The content of a regular file at `path`, which is resolved within the process's root, including links.
    /// None if there is no such file, or it is longer than `limit`.
    #[must_use]
    pub fn read_inside(&self, path: &Path, limit: u64) -> Option<Vec<u8>> {
        let file = self.open_inside(path)?;
        (file.metadata().ok()?.len() <= limit).then(|| read_at_most(file, limit).ok())?
    }

    /// Opens a folder at `path`, which is resolved within the process's root, including links. Files can be made in it.
    ///
    /// # Errors
    /// If there is no such folder, or the process cannot be read.
    pub fn open_folder_inside(&self, path: &Path) -> io::Result<OwnedFd> {
        let root = self.open_root()?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&root, path, FOLDER, Mode::empty(), resolve)?)
    }

    fn open_root(&self) -> io::Result<OwnedFd> {
        self.proc.open_relative_flags("root", FOLDER).map(OwnedFd::from).map_err(io::Error::other)
    }

    /// Who it is and what it does with signals: /proc/PID/status.
    pub fn status(&self) -> Result<Status, Unreadable> {
        self.proc.status().map_err(|error| self.unreadable(error))
    }

    /// Opens a regular file at `path`, which is resolved within the process's root, including links.
    #[must_use]
    pub fn open_inside(&self, path: &Path) -> Option<File> {
        let root = self.open_root().ok()?;
        // NONBLOCK: opening a pipe or a device must not wait.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).ok()?);
        file.metadata().ok()?.is_file().then_some(file)
    }

    /// Whether there is a file or folder at `path`, which is resolved within the process's root.
    #[must_use]
    pub fn exists_inside(&self, path: &Path) -> bool {
        let Ok(root) = self.open_root() else { return false };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).is_ok()
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Unreadable> {
        let file = self.open_relative(path)?;
        read_at_most(file, limit).map_err(|error| self.unreadable(ProcError::Io(error, None)))
    }

    fn exists(&self) -> bool {
        self.proc.stat().is_ok()
    }

    fn unreadable(&self, error: ProcError) -> Unreadable {
        unreadable(self.identity.pid, error)
    }

    fn refused(&self, error: rustix::io::Errno) -> Unreadable {
        self.unreadable(ProcError::Io(error.into(), None))
    }
}

/// The value of `key` in an auxiliary vector (getauxval(3)) of a 64-bit process.
fn auxiliary(auxv: &[u8], key: u64) -> Option<u64> {
    auxv.chunks_exact(16).find_map(|pair| {
        let (found, value) = pair.split_at(8);
        (u64::from_ne_bytes(found.try_into().ok()?) == key).then(|| value.try_into().map(u64::from_ne_bytes).ok())?
    })
}

/// All processes. One that ends while they are read is left out.
pub fn all() -> Result<impl Iterator<Item = Result<Process, Unreadable>>, Unreadable> {
    let processes = procfs::process::all_processes().map_err(|error| unreadable(0, error))?;
    Ok(processes.filter_map(|found| match found.map_err(|error| unreadable(0, error)).and_then(Process::from_proc) {
        Err(Unreadable::Gone { .. }) => None,
        read => Some(read),
    }))
}

/// Those of the processes that have ended. Their pids may be repeated.
pub(crate) fn ended(pids: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let is_alive = |pid: &u32| Process::open(*pid).is_ok_and(|process| process.is_alive());
    pids.into_iter().filter(|pid| !is_alive(pid)).collect()
}

/// The path within `root` of a `path` in the mount namespace. None if it is outside of `root`.
pub(crate) fn inside(path: &Path, root: &Path) -> Option<PathBuf> {
    path.strip_prefix(root).ok().map(|relative| Path::new("/").join(relative))
}

fn unreadable(pid: u32, error: ProcError) -> Unreadable {
    match error {
        ProcError::NotFound(_) => Unreadable::Gone { pid },
        ProcError::Io(error, _) if error.raw_os_error() == Some(libc::ESRCH) => Unreadable::Gone { pid },
        ProcError::PermissionDenied(_) => Unreadable::Refused { pid, why: "permission denied".to_owned() },
        ProcError::Io(error, _) => Unreadable::Refused { pid, why: error.to_string() },
        other => Unreadable::Refused { pid, why: other.to_string() },
    }
}

/// Removes the ` (deleted)` that the kernel appends to the path of an unlinked file.
fn without_deleted(path: PathBuf) -> PathBuf {
    let bytes = path.into_os_string().into_vec();
    let kept = bytes.strip_suffix(b" (deleted)").map_or(bytes.len(), <[u8]>::len);
    let mut bytes = bytes;
    bytes.truncate(kept);
    PathBuf::from(OsString::from_vec(bytes))
}

fn read_at_most(file: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
