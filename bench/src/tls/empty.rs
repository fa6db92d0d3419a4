//! The minimum cost of observing a function: an empty program at its beginning and one at its end.
//!
//! The programs have two instructions, which are passed to the kernel directly. All functions of a file share a link, as the agent's do.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// At these places of the file.
    Instructions,
    /// At the return of the functions that begin at these places.
    Returns,
}

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The same for BPF_LINK_CREATE with BPF_TRACE_UPROBE_MULTI.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    multi_flags: u32,
    pid: u32,
    padding: u32,
}

/// Attaches an empty program to places of a file, as far as the process executes them. Dropping the result detaches it.
pub(super) fn attach(file: &Path, offsets: &[u64], at: At, pid: u32) -> Result<OwnedFd> {
    let program = load().context("cannot load an empty program: run as root")?;
    let path = CString::new(file.as_os_str().as_bytes())?;
    let attribute = LinkCreate {
        prog_fd: program.as_raw_fd().unsigned_abs(),
        attach_type: BPF_TRACE_UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        cnt: u32::try_from(offsets.len())?,
        multi_flags: if at == At::Returns { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        pid,
        ..LinkCreate::default()
    };
    // SAFETY: the kernel reads the attribute, the path, which ends with a zero byte, and `cnt` offsets. All outlive the call.
    let link = unsafe { bpf(BPF_LINK_CREATE, &attribute) };
    link.with_context(|| format!("cannot attach to {}; uprobe_multi needs Linux 6.6", file.display()))
}

fn load() -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_KPROBE: u32 = 2;
    /// `r0 = 0; exit`.
    const PROGRAM: [u64; 2] = [0xb7, 0x95];
    const LICENSE: &std::ffi::CStr = c"GPL";
    let attribute = ProgLoad {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: PROGRAM.len() as u32,
        insns: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..ProgLoad::default()
    };
    // SAFETY: the kernel reads the attribute and the two constants it points to. All outlive the call.
    unsafe { bpf(BPF_PROG_LOAD, &attribute) }
}

/// Runs a command that returns a descriptor.
///
/// # Safety
/// `T` must be the part of `union bpf_attr` that the command reads, with valid pointers.
unsafe fn bpf<T>(command: libc::c_int, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attribute has the given size. The caller guarantees the rest.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attribute, size_of::<T>()) };
    match RawFd::try_from(returned) {
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
