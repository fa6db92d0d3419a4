//! Plaintext of JSSE, which a library in the JVM hands over: `java/src/onlooker/Tap.java`.
//!
//! An object is a number that the library gives to an engine or a socket, and never gives again. So it is one stream. Its
//! socket is found by tags only: a virtual thread may continue on another thread between two steps of a call.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::connection::role;
use onlooker_common::selection::process_flag;

use super::{objects, tags};
use crate::kernel::task::{Task, current_ids};
use crate::record::arguments::Bytes;
use crate::record::plaintext::{self, Call};
use crate::selected::Selected;
use crate::state::stream::Direction;
use crate::work::owner::Worker;

/// Bits of `what`. The plaintext is sent. Otherwise it was received.
const SEND: u64 = 1;
/// The last bytes of the encrypted record are below the plaintext.
const TAG: u64 = 2;
/// Nothing passed on the object before, and it is a client's, or a server's.
const CLIENT_BEGINS: u64 = 4;
const SERVER_BEGINS: u64 = 8;

/// The library hands over `length` bytes of plaintext of an object. They are at `address`, or nowhere if that is 0.
#[inline(always)]
pub fn handed_over(object: u64, what: u64, address: u64, length: u64) {
    let (tgid, tid) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    process.set(process_flag::TLS | process_flag::TLS_MEMORY);
    if what & (CLIENT_BEGINS | SERVER_BEGINS) != 0 {
        return objects::set_role(tgid, object, if what & CLIENT_BEGINS != 0 { role::CLIENT } else { role::SERVER });
    }
    let Some(plaintext) = objects::of(tgid, object, false) else { return };
    if what & TAG != 0 {
        tags::below(tgid, plaintext, address);
    }
    // A longer one is handed over in pieces.
    if length == 0 || length > i32::MAX as u64 {
        return;
    }
    let direction = if what & SEND != 0 { Direction::Egress } else { Direction::Ingress };
    let worker = Worker { process, task: Task::current(), tgid, tid };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let call =
        Call { direction, length: length as u32, bytes: Bytes::buffer(address), began: now, position: None, record: 0 };
    plaintext::record(worker, plaintext, call);
}
