//! GnuTLS.

use super::{Finder, Hook, Library};

pub(super) static LIBRARY: Library = Library {
    name: "GnuTLS",
    finder: Finder::Symbols { marker: "gnutls_record_recv" },
    hooks: &[
        Hook::call("gnutls_init", "gnutls_init"),
        Hook::call("gnutls_handshake", "tls_handshake"),
        Hook::call("gnutls_record_send", "tls_write"),
        Hook::call("gnutls_record_recv", "tls_read"),
    ],
};
