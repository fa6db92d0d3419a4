//! Turns operations that moved bytes into records.
//!
//! `segment` is the entry for socket operations, and `plaintext` that for plaintext of TLS libraries. `operation` does what every stream needs, whether its bytes are a socket's
//! or plaintext: the run, the owner, the capture budget. `arguments` finds the bytes of a system call, and `capture` writes
//! the record in the `form` that the stream has.

pub mod arguments;
pub mod capture;
pub mod form;
pub mod frames;
pub mod operation;
pub mod plaintext;
pub mod segment;
