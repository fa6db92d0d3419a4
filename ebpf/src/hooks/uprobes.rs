//! Functions of user programs. Each is attached to selected processes only.

mod gnutls;
mod go;
mod node;
mod openssl;
mod tls;
mod tokio;
