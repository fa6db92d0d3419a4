//! Cuts the bytes of a connection into exchanges: a request with its response.
//!
//! Everything here is pure. A parser receives the bytes of one connection in stream order, per direction. It also
//! receives the holes between them (bytes that passed and were not captured, of exactly known length) and the moment of
//! each piece. It knows no socket, no process and no clock. It never panics, blocks or grows without bound, whatever its
//! input is.
//!
//! [`PROTOCOLS`] is the table of protocols. [`detect`](detect::detect) finds a connection's row by the first bytes, the
//! row makes the [`Parser`], and the parser reports [`Finding`]s:
//!
//! ```
//! use onlooker_protocols::detect::{Guess, Sample, detect};
//! use onlooker_protocols::{Direction, Facts, Finding, Moment, PROTOCOLS, Transport};
//!
//! let request = b"GET /cart HTTP/1.1\r\nhost: shop\r\n\r\n";
//! let response = b"HTTP/1.1 204 No Content\r\n\r\n";
//!
//! let sample = Sample { transport: Transport::Stream, direction: None, from_start: true, bytes: request };
//! let Guess::Protocol(protocol, direction) = detect(PROTOCOLS, &sample) else { panic!("a request of HTTP/1") };
//! let mut parser = protocol.parser.expect("HTTP/1 has one")(true);
//!
//! let mut found = Vec::new();
//! let asked = Moment { nanos: 1_000, position: 0, run: 0 };
//! let answered = Moment { nanos: 5_000, position: 0, run: 1 };
//! parser.bytes(direction, request, asked, &mut found)?;
//! parser.bytes(direction.opposite(), response, answered, &mut found)?;
//!
//! let [Finding::Begun(begun), Finding::Exchange(exchange)] = &found[..] else { panic!("one exchange: {found:?}") };
//! assert_eq!((begun.direction, begun.start), (Direction::ToServer, asked));
//! assert_eq!(exchange.response_end.map(|end| end.nanos), Some(5_000));
//! let Facts::Http(http) = &exchange.facts else { panic!("not HTTP: {exchange:?}") };
//! assert_eq!((http.method.as_str(), http.path.as_str(), http.status), ("GET", "/cart", Some(204)));
//! # Ok::<(), onlooker_protocols::Unparsable>(())
//! ```

pub mod detect;
pub mod exchange;
pub mod facts;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod kit;
pub mod memcached;
pub mod moment;
pub mod parser;
pub mod postgres;
pub mod propagation;
pub mod proxied;
pub mod redact;
pub mod redis;
pub mod registry;
pub mod spec;
pub mod sql;
pub mod ssh;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;

pub use exchange::{Begun, End, Exchange, Finding, LossReason, Lost, Reset};
pub use facts::Facts;
pub use moment::{Close, Direction, Moment};
pub use parser::{Parser, Unparsable};
pub use registry::{PROTOCOLS, by_name};
pub use spec::{Capture, NewParser, Spec, Transport};
