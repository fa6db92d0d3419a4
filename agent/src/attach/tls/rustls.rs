//! rustls 0.21 to 0.23. The encrypter of a connection is the object.

use onlooker_common::tls_function::TlsFunction;
use onlooker_elf::rustls::{DECRYPT_1_2, DECRYPT_1_3, ENCRYPT_1_2, ENCRYPT_1_3};

use super::{Finder, Hook, Library, Returns};

const fn call(function: &'static str, what: TlsFunction) -> Hook {
    let returns = Returns::Function("rustls_returned");
    Hook { cookie: what.cookie(), returns, ..Hook::by(function, "rustls_begins") }
}

pub(super) static LIBRARY: Library = Library {
    name: "rustls",
    finder: Finder::Rust,
    hooks: &[
        call(ENCRYPT_1_3, TlsFunction::ENCRYPT.of_tls_1_3()),
        call(ENCRYPT_1_2, TlsFunction::ENCRYPT),
        call(DECRYPT_1_3, TlsFunction::DECRYPT.of_tls_1_3()),
        call(DECRYPT_1_2, TlsFunction::DECRYPT),
    ],
};
