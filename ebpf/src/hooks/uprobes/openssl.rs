//! Functions of OpenSSL, and of libraries with the same interface. `SSL *` is the object.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use onlooker_common::connection::role;

use super::tls::{begins, signed_begins};
use crate::kernel::task::current_ids;
use crate::state::tls::call as what;
use crate::tls::{objects, tags};

/// `int SSL_read_ex(SSL *, void *, size_t, size_t *)`, `SSL_read_early_data`
#[uprobe]
pub fn ssl_read_ex(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::READ, Some(3));
    0
}

/// `int SSL_write_ex(SSL *, const void *, size_t, size_t *)`, `SSL_write_early_data`
#[uprobe]
pub fn ssl_write_ex(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::WRITE, Some(3));
    0
}

/// `SSL_read_ex`
#[uprobe]
pub fn signed_ssl_read_ex(ctx: ProbeContext) -> u32 {
    signed_begins(&ctx, what::READ, Some(3));
    0
}

/// `SSL_write_ex`
#[uprobe]
pub fn signed_ssl_write_ex(ctx: ProbeContext) -> u32 {
    signed_begins(&ctx, what::WRITE, Some(3));
    0
}

/// `int SSL_write_ex2(SSL *, const void *, size_t, uint64_t, size_t *)`
#[uprobe]
pub fn ssl_write_ex2(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::WRITE, Some(4));
    0
}

/// `SSL *SSL_new(SSL_CTX *)`
#[uprobe]
pub fn ssl_new(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::CREATE, None);
    0
}

/// `void SSL_set_connect_state(SSL *)`
#[uprobe]
pub fn ssl_set_connect_state(ctx: ProbeContext) -> u32 {
    objects::set_role(current_ids().0, ctx.arg(0).unwrap_or(0), role::CLIENT);
    0
}

/// `void SSL_set_accept_state(SSL *)`
#[uprobe]
pub fn ssl_set_accept_state(ctx: ProbeContext) -> u32 {
    objects::set_role(current_ids().0, ctx.arg(0).unwrap_or(0), role::SERVER);
    0
}

/// `int BIO_write(BIO *, const void *, int)`
#[uprobe]
pub fn bio_write(ctx: ProbeContext) -> u32 {
    tags::written(ctx.arg(1).unwrap_or(0), u64::from(ctx.arg::<u32>(2).unwrap_or(0)));
    0
}
