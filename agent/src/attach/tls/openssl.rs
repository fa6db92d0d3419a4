//! OpenSSL 1.1 and 3, and libraries with its interface (LibreSSL). `SSL *` is the object. Node contains it.

use onlooker_common::tls_function::TlsFunction;

use super::{Finder, Hook, Library};

/// `int SSL_read_ex(SSL *, void *, size_t, size_t *)`
const READ_EX: TlsFunction = TlsFunction::READ.with_result_at(3);
/// `int SSL_write_ex(SSL *, const void *, size_t, size_t *)`
const WRITE_EX: TlsFunction = TlsFunction::WRITE.with_result_at(3);

pub(super) static LIBRARY: Library = Library {
    name: "OpenSSL",
    finder: Finder::Symbols { marker: "SSL_read" },
    hooks: &[
        Hook::call("SSL_new", TlsFunction::CREATE),
        Hook::event("SSL_set_connect_state", TlsFunction::CONNECT),
        Hook::event("SSL_set_accept_state", TlsFunction::ACCEPT),
        Hook::event("BIO_write", TlsFunction::WRITE_RECORDS),
        // Includes those that SSL_connect and SSL_accept do.
        Hook::call("SSL_do_handshake", TlsFunction::HANDSHAKE),
        Hook::call("SSL_write", TlsFunction::WRITE),
        Hook::call("SSL_write_ex", WRITE_EX),
        // int SSL_write_ex2(SSL *, const void *, size_t, uint64_t, size_t *)
        Hook::call("SSL_write_ex2", TlsFunction::WRITE.with_result_at(4)),
        Hook::call("SSL_write_early_data", WRITE_EX),
        Hook::call("SSL_read", TlsFunction::READ),
        Hook::call("SSL_read_ex", READ_EX),
        Hook::call("SSL_read_early_data", READ_EX),
    ],
};

/// OpenSSL 3 in an executable without symbols.
pub(super) static STRIPPED: Library = Library {
    name: "OpenSSL",
    finder: Finder::Signature { library: "OpenSSL", without: "SSL_read" },
    hooks: &[
        Hook::call("SSL_new", TlsFunction::CREATE),
        Hook::event("BIO_write", TlsFunction::WRITE_RECORDS),
        Hook::call("SSL_write", TlsFunction::WRITE.found_by_signature()),
        Hook::call("SSL_write_ex", WRITE_EX.found_by_signature()),
        Hook::call("SSL_read", TlsFunction::READ.found_by_signature()),
        Hook::call("SSL_read_ex", READ_EX.found_by_signature()),
    ],
};
