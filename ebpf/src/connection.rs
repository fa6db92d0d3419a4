//! Connections: their storage, their roles and positions, and the records of their changes.
//!
//! A connection's state is in its socket's local storage. The kernel makes it with the first operation and frees it with
//! the socket.

pub mod changes;
pub mod identify;
pub mod mptcp;
pub mod positions;
pub mod report;
pub mod selected_port;
pub mod storage;
