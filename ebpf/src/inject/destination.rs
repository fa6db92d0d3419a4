//! Which destinations get a trace context.

use aya_ebpf::programs::SockOpsContext;
use core::ptr;
use onlooker_common::injection::{DESTINATIONS as RULES, destination};

use crate::kernel::sock::AF_INET;
use crate::maps::DESTINATIONS;

/// Whether requests to the remote end of a connection get a trace context.
#[inline(always)]
pub fn is_allowed(ctx: &SockOpsContext) -> bool {
    // SAFETY: members of the context, which must be loaded one by one.
    let (family, address, port) = unsafe {
        let address = &raw const (*ctx.ops).remote_ip6;
        let word = |index: usize| u64::from(ptr::read_volatile(address.cast::<u32>().add(index)));
        let family = (*ctx.ops).family;
        let address = if family == u32::from(AF_INET) {
            // ::ffff:0:0/96
            let mapped = u64::from(u32::from_ne_bytes([0, 0, 0xff, 0xff]));
            [0, mapped | u64::from((*ctx.ops).remote_ip4) << 32]
        } else {
            [word(0) | word(1) << 32, word(2) | word(3) << 32]
        };
        (family, address, u32::from_be((*ctx.ops).remote_port))
    };
    family == 0 || verdict(address[0], address[1], port) != destination::DENIED
}

/// This is a global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn verdict(high: u64, low: u64, port: u32) -> u32 {
    for index in 0..RULES as u32 {
        let Some(rule) = DESTINATIONS.get_ptr(index) else { break };
        // SAFETY: a live value of the map, which the agent may change.
        let (network, mask, first, last, verdict) =
            unsafe { ((*rule).network, (*rule).mask, (*rule).first_port, (*rule).last_port, (*rule).verdict) };
        if verdict == destination::NO_RULE {
            break;
        }
        let is_in = high & mask[0] == network[0] && low & mask[1] == network[1];
        if is_in && port >= u32::from(first) && port <= u32::from(last) {
            return verdict;
        }
    }
    destination::ALLOWED
}
