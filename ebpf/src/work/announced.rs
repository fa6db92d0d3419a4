//! Calls whose owner is announced: one unit of work gives the request to another, which sends it.
//!
//! Go's net/http client sends a request from a goroutine that belongs to the connection. The goroutine that makes the call
//! passes the connection to a function, where the connection's descriptor is noted with the goroutine's request.

use aya_ebpf::bindings::pt_regs;
use onlooker_common::owner::Owner;
use onlooker_common::unit::{self, Descriptor, go};

use crate::arch::processor as arch;
use crate::kernel::task::{Task, current_ids};
use crate::maps::ANNOUNCED_CALLS;
use crate::selected::Selected;
use crate::state::owner::SharedOwner;
use crate::state::unit::Unit;
use crate::user;
use crate::work::units::{self, go as goroutine};
use crate::work::waiting::is_open;

/// include/linux/socket.h, include/linux/net.h
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const SOCK_STREAM: u64 = 1;
/// More descriptors than a process can have (`sysctl_nr_open_max`).
const MOST_DESCRIPTORS: u64 = 1 << 30;

/// The running goroutine gives a request to the connection of the `persistConn` that is the function's first argument.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub unsafe fn by_goroutine(registers: *const pt_regs) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let source = process.unit_source(tgid);
    // SAFETY: a live value of the map, which other CPUs may write; the context of a uprobe.
    let (kind, words, (g, _), connection) = unsafe {
        let kind = core::ptr::read_volatile(&raw const (*source).kind);
        (kind, &(*source).words, arch::goroutine(registers), arch::first_go_argument(registers))
    };
    if kind != unit::GOROUTINE || words[go::HTTP_CLIENT] == 0 {
        return;
    }
    let Some(descriptor) = descriptor(go::unpack(words[go::HTTP_CLIENT]), connection) else { return };
    let key = Descriptor { tgid, descriptor };
    let owner = goroutine::id(words, g).and_then(|words| units::open_request_of(tgid, Unit { kind, words }));
    let _ = match owner {
        // SAFETY: a live value of the map.
        Some((owner, _)) => ANNOUNCED_CALLS.insert(key, unsafe { &*owner.as_ptr() }, 0),
        // The call is for no request, even if the connection was opened for one.
        None => ANNOUNCED_CALLS.insert(key, Owner::default(), 0),
    };
}

/// The file descriptor of a `persistConn`. `None` if its `conn` is no plain connection of package net: that is recognised by
/// what must be in a `netFD`.
#[inline(always)]
fn descriptor(offsets: [u64; 4], connection: u64) -> Option<u32> {
    let [conn, descriptor, family, kind] = offsets;
    // An interface is a type and a pointer: here to a TCPConn or UnixConn, which begins with a pointer to its netFD.
    let conn = user::peek::<u64>(connection.wrapping_add(conn + 8))?;
    let net_fd = user::peek::<u64>(conn)?;
    let family = user::peek::<u64>(net_fd.wrapping_add(family))?;
    let kind = user::peek::<u64>(net_fd.wrapping_add(kind))?;
    let descriptor = user::peek::<u64>(net_fd.wrapping_add(descriptor))?;
    let is_stream = matches!(family, AF_UNIX | AF_INET | AF_INET6) && kind == SOCK_STREAM;
    (is_stream && descriptor < MOST_DESCRIPTORS).then_some(descriptor as u32)
}

/// Takes what was announced for the call that the running system call sends. `None` if nothing was. Otherwise whether the call
/// has an owner, which is copied to `into`.
#[inline(always)]
pub fn take(tgid: u32, task: Task, into: SharedOwner, evidence: u32) -> Option<bool> {
    // SAFETY: the registers are those of the current task.
    let (_, [descriptor, ..]) = unsafe { arch::system_call(task.registers()) }?;
    let key = Descriptor { tgid, descriptor: descriptor as u32 };
    // SAFETY: a live value of the map. Only one call at a time is sent on a connection.
    let announced = unsafe { SharedOwner::within(ANNOUNCED_CALLS.get_ptr_mut(key)?) };
    let open = is_open(announced);
    if open {
        into.copy_with_evidence(announced, evidence);
    }
    let _ = ANNOUNCED_CALLS.remove(key);
    Some(open)
}
