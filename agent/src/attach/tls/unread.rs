//! Libraries that are recognised and not read: their connections are counted, and `onlooker doctor` names them.

use super::{Finder, Library};

const fn library(name: &'static str, marker: &'static str) -> Library {
    Library { name, finder: Finder::Symbols { marker }, hooks: &[] }
}

/// In Firefox and Thunderbird. Its file `libssl3.so` is no version of OpenSSL.
pub(super) static NSS: Library = library("NSS", "SSL_ImportFD");
pub(super) static MBED_TLS: Library = library("Mbed TLS", "mbedtls_ssl_read");
pub(super) static WOLF_SSL: Library = library("wolfSSL", "wolfSSL_read");
/// In the AWS SDKs.
pub(super) static S2N: Library = library("s2n-tls", "s2n_recv");
