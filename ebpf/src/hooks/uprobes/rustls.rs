//! The functions by which rustls encrypts and decrypts records. The cookie of the attachment says which one it is.

use aya_ebpf::helpers::bpf_get_attach_cookie;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use onlooker_common::tls_function::{TlsFunction, what};

use crate::tls::rustls;

/// `MessageEncrypter::encrypt` or `MessageDecrypter::decrypt`.
#[uprobe]
pub fn rustls_begins(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of this program.
    let function = TlsFunction::of_cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    // SAFETY: the context of a uprobe at the beginning of such a function.
    unsafe {
        if function.what() == what::ENCRYPT {
            rustls::encrypts(ctx.regs, function);
        } else {
            rustls::decrypts(ctx.regs, function);
        }
    }
    0
}

/// Such a function that returns.
#[uretprobe]
pub fn rustls_returned(ctx: RetProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the return of such a function.
    unsafe { rustls::returns(ctx.regs) };
    0
}
