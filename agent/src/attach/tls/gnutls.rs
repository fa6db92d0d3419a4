//! GnuTLS. `gnutls_session_t` is the object.

use onlooker_common::tls_function::TlsFunction;

use super::{Finder, Hook, Library};

pub(super) static LIBRARY: Library = Library {
    name: "GnuTLS",
    finder: Finder::Symbols { marker: "gnutls_record_recv" },
    hooks: &[
        // int gnutls_init(gnutls_session_t *, unsigned int)
        Hook::call("gnutls_init", TlsFunction::CREATE.with_result_at(0)),
        Hook::call("gnutls_handshake", TlsFunction::HANDSHAKE),
        Hook::call("gnutls_record_send", TlsFunction::WRITE),
        Hook::call("gnutls_record_recv", TlsFunction::READ),
    ],
};
