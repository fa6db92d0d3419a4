//! Functions of GnuTLS. `gnutls_session_t` is the object.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use super::tls::begins;
use crate::state::tls::call as what;

/// `int gnutls_init(gnutls_session_t *, unsigned int)`
#[uprobe]
pub fn gnutls_init(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::CREATE, Some(0));
    0
}
