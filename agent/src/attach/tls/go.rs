//! crypto/tls of Go 1.18 and later.

use super::{Finder, Hook, Library, Returns};

const fn call(function: &'static str, program: &'static str, at_return: &'static str) -> Hook {
    Hook { returns: Returns::Instructions(at_return), ..Hook::by(function, program) }
}

pub(super) static LIBRARY: Library = Library {
    name: "crypto/tls",
    finder: Finder::Go,
    hooks: &[
        // First, so that no plaintext belongs to a connection that had the address before.
        Hook::by("crypto/tls.(*Conn).clientHandshake", "go_tls_client_handshake"),
        Hook::by("crypto/tls.(*Conn).serverHandshake", "go_tls_server_handshake"),
        call("crypto/tls.(*Conn).Write", "go_tls_write", "go_tls_write_returns"),
        call("crypto/tls.(*Conn).Read", "go_tls_read", "go_tls_read_returns"),
    ],
};
