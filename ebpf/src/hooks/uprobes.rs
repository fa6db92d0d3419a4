//! Functions of user programs. Each is attached to selected processes only.

mod go;
mod node;
