//! Plaintext of TLS libraries, and the sockets that carry it.
//!
//! A library works on an object per connection: `SSL *`, `gnutls_session_t`. Its plaintext is recorded where the library
//! takes or returns it. Which socket carries it follows without knowledge of the object's members, in one of two ways:
//!
//! - `call`: while a thread is in a call of the library, the sockets that it uses belong to the call's object. In Go, a
//!   goroutine takes the place of the thread (`goroutine`). `current` finds the call of either.
//! - `tags`: a library that works on memory writes records there, and something else sends them. A record is recognised by
//!   its last 16 bytes, the authentication tag of its encryption.
//!
//! `jsse` takes the plaintext that a library in a JVM hands over. `objects` keeps the plaintext stream of each object. It takes the place of the socket's stream in everything that concerns
//! requests and owners. `rustls` takes what rustls encrypts and decrypts. `ciphertext` records what passes on the socket.

pub mod call;
pub mod ciphertext;
mod connection_of_rustls;
mod current;
pub mod goroutine;
pub mod jsse;
mod message_of_rustls;
pub mod objects;
mod records;
pub mod rustls;
pub mod tags;
