//! The first word of every record: which type it is.

/// A socket operation moved bytes of a stream: [`Segment`](crate::segment::Segment), then its captured bytes.
pub const SEGMENT: u32 = 1;
/// A connection changed: [`ConnectionChange`](crate::connection::ConnectionChange).
pub const CONNECTION: u32 = 2;
/// A process changed: [`ProcessChange`](crate::process::ProcessChange).
pub const PROCESS: u32 = 3;
/// A TLS library moved plaintext: [`Plaintext`](crate::plaintext::Plaintext), then its captured bytes.
pub const PLAINTEXT: u32 = 4;
/// The socket of a plaintext stream became known: [`Tie`](crate::plaintext::Tie).
pub const TIE: u32 = 5;
/// A socket operation moved one datagram: [`Datagram`](crate::datagram::Datagram), then its captured bytes.
pub const DATAGRAM: u32 = 6;
/// A process executed a program that may be selected: [`Execution`](crate::process::Execution).
pub const EXECUTION: u32 = 7;
