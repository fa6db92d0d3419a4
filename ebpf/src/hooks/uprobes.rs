//! Functions of user programs. Each is attached to selected processes only.

mod gnutls;
mod go;
pub mod jsse;
mod node;
mod openssl;
mod tls;
mod tokio;
