//! The Onlooker agent: from kernel events to exported spans, strictly forward.
//!
//! `kernel` records Events; `stream` puts them in order and has `onlooker_protocols` cut them into Exchanges; `parent`
//! settles whose child each is; `describe` makes a Span of it (`span` is what that is); `enrich` adds who it was; `export`
//! sends it.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod describe;
pub mod discover;
pub mod enrich;
pub mod exec;
pub mod export;
pub mod kernel;
mod memory;
pub mod metrics;
pub mod parent;
mod percent;
pub mod pipeline;
mod protobuf;
pub mod route;
pub mod signals;
pub mod span;
pub mod stream;
pub mod watch;
