//! BoringSSL in files without symbols: Envoy, grpcio, netty-tcnative. With symbols, it looks like OpenSSL.

use super::{Finder, Hook, Library};

pub(super) static LIBRARY: Library = Library {
    name: "BoringSSL",
    finder: Finder::Signature { library: "BoringSSL", without: "SSL_read" },
    hooks: &[
        Hook::call("SSL_new", "ssl_new"),
        Hook::call("SSL_write", "signed_tls_write"),
        Hook::call("SSL_read", "signed_tls_read"),
    ],
};
