//! The minimum cost of tracing a system call: an empty program at its entry and at its exit.
//!
//! The program has two instructions, which are passed to the kernel directly, without compiler and loader.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use onlooker::kernel::tracefs;

use crate::cpu::MEASURED;

/// The entries and exits of read(2) and write(2), the system calls of the load.
const TRACEPOINTS: [&str; 4] = ["sys_enter_read", "sys_exit_read", "sys_enter_write", "sys_exit_write"];

/// The attached pairs. Dropping this detaches them.
#[derive(Debug)]
pub(super) struct EmptyPair {
    _events: Vec<OwnedFd>,
    _program: OwnedFd,
}

impl EmptyPair {
    pub(super) fn attach() -> Result<Self> {
        let program = load().context("cannot load an empty program: run as root")?;
        let ids = tracefs::with(|| TRACEPOINTS.map(id)).context("cannot mount tracefs")?;
        let events: Result<Vec<OwnedFd>> = ids
            .into_iter()
            .zip(TRACEPOINTS)
            .map(|(id, name)| attach(id?, &program).with_context(|| format!("cannot attach to {name}")))
            .collect();
        Ok(Self { _events: events?, _program: program })
    }
}

/// The id of a system call's tracepoint.
fn id(name: &str) -> Result<u64> {
    let file = format!("/sys/kernel/tracing/events/syscalls/{name}/id");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    text.trim().parse().with_context(|| format!("{file} does not contain a number"))
}

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD (include/uapi/linux/bpf.h).
#[repr(C)]
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
}

fn load() -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_TRACEPOINT: u32 = 5;
    /// `r0 = 0; exit`. The result 0 discards the perf event.
    const PROGRAM: [u64; 2] = [0xb7, 0x95];
    const LICENSE: &std::ffi::CStr = c"GPL";
    let attribute = ProgLoad {
        prog_type: BPF_PROG_TYPE_TRACEPOINT,
        insn_cnt: PROGRAM.len() as u32,
        insns: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the kernel reads the attribute and the two constants it points to. All outlive the call.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attribute, size_of::<ProgLoad>()) })
}

/// The first version of `struct perf_event_attr` (include/uapi/linux/perf_event.h). Every kernel accepts it.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

fn attach(id: u64, program: &OwnedFd) -> io::Result<OwnedFd> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
    const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
    const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
    const ALL_PROCESSES: libc::pid_t = -1;
    const NO_GROUP: RawFd = -1;
    let attribute = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        sample_period: 1,
        ..PerfEventAttr::default()
    };
    // SAFETY: the kernel reads as many bytes of the attribute as its field `size` says.
    let event = descriptor(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attribute,
            ALL_PROCESSES,
            MEASURED as libc::c_int,
            NO_GROUP,
            PERF_FLAG_FD_CLOEXEC,
        )
    })?;
    for (request, argument) in [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)] {
        // SAFETY: the argument of these requests is an integer.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}

fn descriptor(returned: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(returned) {
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
