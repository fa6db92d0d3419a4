//! Records in, spans out: what the model allows beyond one request at a time on a TCP connection.

mod concurrent;
mod datagrams;
mod kit;
mod plaintext;
mod proxied;
mod responder;
mod unseen;
