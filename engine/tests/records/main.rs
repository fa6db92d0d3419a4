//! Records in, spans out: what the model allows beyond one request at a time on a TCP connection.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics fails")]

mod concurrent;
mod datagrams;
mod kit;
mod plaintext;
