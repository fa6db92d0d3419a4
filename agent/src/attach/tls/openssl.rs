//! OpenSSL 1.1 and 3, and libraries with its interface (LibreSSL). Node contains it.

use super::{Finder, Hook, Library};

pub(super) static LIBRARY: Library = Library {
    name: "OpenSSL",
    finder: Finder::Symbols { marker: "SSL_read" },
    hooks: &[
        Hook::call("SSL_new", "ssl_new"),
        Hook::event("SSL_set_connect_state", "ssl_set_connect_state"),
        Hook::event("SSL_set_accept_state", "ssl_set_accept_state"),
        Hook::event("BIO_write", "bio_write"),
        // Includes those that SSL_connect and SSL_accept do.
        Hook::call("SSL_do_handshake", "tls_handshake"),
        Hook::call("SSL_write", "tls_write"),
        Hook::call("SSL_write_ex", "ssl_write_ex"),
        Hook::call("SSL_write_ex2", "ssl_write_ex2"),
        Hook::call("SSL_write_early_data", "ssl_write_ex"),
        Hook::call("SSL_read", "tls_read"),
        Hook::call("SSL_read_ex", "ssl_read_ex"),
        Hook::call("SSL_read_early_data", "ssl_read_ex"),
    ],
};

/// OpenSSL 3 in an executable without symbols.
pub(super) static STRIPPED: Library = Library {
    name: "OpenSSL",
    finder: Finder::Signature { library: "OpenSSL", without: "SSL_read" },
    hooks: &[
        Hook::call("SSL_new", "ssl_new"),
        Hook::event("BIO_write", "bio_write"),
        Hook::call("SSL_write", "signed_tls_write"),
        Hook::call("SSL_write_ex", "signed_ssl_write_ex"),
        Hook::call("SSL_read", "signed_tls_read"),
        Hook::call("SSL_read_ex", "signed_ssl_read_ex"),
    ],
};
