//! Functions of TLS libraries in C. One program observes all of them: the cookie of the attachment says what the function does.

use aya_ebpf::helpers::bpf_get_attach_cookie;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use onlooker_common::connection::role;
use onlooker_common::tls_function::{TlsFunction, what};

use crate::arch::processor as arch;
use crate::kernel::task::current_ids;
use crate::tls::call::{self, Arguments};
use crate::tls::{objects, tags};

/// The beginning of a function of the table `agent::attach::tls`.
#[uprobe]
pub fn tls_begins(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of this program.
    let function = TlsFunction::of_cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    // SAFETY: the context of a uprobe.
    let [first, second, third, fourth, fifth] = unsafe { arch::arguments(ctx.regs) };
    match function.what() {
        what::CONNECT => objects::set_role(current_ids().0, first, role::CLIENT),
        what::ACCEPT => objects::set_role(current_ids().0, first, role::SERVER),
        // The length is an int.
        what::WRITE_RECORDS => tags::written(second, third & u64::from(u32::MAX)),
        what => {
            let result_at = match function.result_argument() {
                1 => first,
                4 => fourth,
                5 => fifth,
                _ => 0,
            };
            let by_signature = function.is_by_signature();
            let arguments = Arguments { what, object: first, buffer: second, result_at, by_signature };
            // SAFETY: the context of a uprobe at the beginning of a function.
            unsafe { call::begins(ctx.regs, arguments) };
        }
    }
    0
}

/// The return of a function whose beginning is observed.
#[uretprobe]
pub fn tls_returned(ctx: RetProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the return of a function.
    unsafe { call::returns(ctx.regs, ctx.ret::<u64>()) };
    0
}

/// The same at a return instruction, where a return cannot be observed.
#[uprobe]
pub fn tls_returning(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at a return instruction. The result is in its register then.
    unsafe { call::returns(ctx.regs, arch::result(ctx.regs)) };
    0
}
