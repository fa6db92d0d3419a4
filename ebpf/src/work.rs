//! Whose work is done: finds the owner of each message that a process sends to a server.
//!
//! A request read on a server connection becomes the owner of the calls made for it. In this order:
//! 1. `thread`: the request that the thread read last, in processes whose threads answer one request at a time.
//! 2. `fork`: the request of the thread that started the process, while it waits for the process.
//! 3. `connect`: for a connection's first message, the request that the connection was opened for.
//! 4. `tick`: the owner of the event loop's current tick, if no other request of the process is runnable.
//!
//! Without proof the owner stays unknown. A process shows that it runs an event loop when one of its threads:
//! - reads another request while it owes a response,
//! - reads the response to another request's call while it owes a response,
//! - waits in epoll while the connection on which it owes a response is in an epoll set,
//! - answers what another thread read.
//!
//! From then on the threads of that process prove nothing.

pub mod announced;
pub mod fork;
pub mod go_streams;
pub mod node_streams;
pub mod owner;
pub mod started;
pub mod streams;
pub mod tick;
pub mod units;
pub mod waiting;
pub mod woken;
