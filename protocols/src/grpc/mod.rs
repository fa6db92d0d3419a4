//! gRPC, gRPC-Web and Connect: remote procedure calls in HTTP.
//!
//! They have no connection of their own, and so no row in the table of protocols. The parser of HTTP hands over what it
//! finds: the content type, the path, and the bodies.
//!
//! - <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
//! - <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>
//! - <https://connectrpc.com/docs/protocol>
//!
//! Metadata is never kept. Of messages only the lengths are read. Exceptions are the last message of gRPC-Web and of
//! Connect streams, and the error of a unary call of Connect: they hold the status, and nothing else of them is kept.
//!
//! Memory is bounded to 1.5 KiB per call, and to 512 bytes until its last message.

mod base64;
mod call;
mod connect;
mod ending;
mod flavor;
mod messages;
mod status;
mod timeout;

pub(crate) use call::{Call, Trailers};
pub(crate) use connect::is_get as is_connect_get;
pub(crate) use flavor::Flavor;
pub(crate) use timeout::{of_connect, of_grpc};
