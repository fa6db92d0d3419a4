//! BoringSSL in files without symbols: Envoy, grpcio, netty-tcnative. With symbols, it looks like OpenSSL.

use onlooker_common::tls_function::TlsFunction;

use super::{Finder, Hook, Library};

pub(super) static LIBRARY: Library = Library {
    name: "BoringSSL",
    finder: Finder::Signature { library: "BoringSSL", without: "SSL_read" },
    hooks: &[
        Hook::call("SSL_new", TlsFunction::CREATE),
        Hook::call("SSL_write", TlsFunction::WRITE.found_by_signature()),
        Hook::call("SSL_read", TlsFunction::READ.found_by_signature()),
    ],
};
