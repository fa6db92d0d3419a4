//! Functions of user programs. Each is attached to selected processes only.

mod go;
pub mod jsse;
mod node;
mod rustls;
mod tls;
mod tokio;
