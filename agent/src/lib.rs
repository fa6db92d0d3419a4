//! The Onlooker agent: from kernel events to exported spans, strictly forward.
//!
//! `kernel` records Events; `onlooker_engine` turns them into spans; `enrich` adds the service of each; `export` sends them.
//! `discover` and `watch` select processes. `kubernetes` follows the pods of this node. `config` reads the configuration file.
//! `attach` reads what the kernel programs must know of a process. `generate` writes completions and man pages.

pub mod agent;
pub mod attach;
pub mod cli;
pub mod clock;
pub mod config;
mod descriptors;
pub mod detach;
pub mod discover;
pub mod enrich;
pub mod exec;
pub mod export;
mod file_version;
pub mod generate;
pub mod health;
pub mod injection;
pub mod kernel;
pub mod kubernetes;
mod memory;
mod percent;
mod presentable;
pub mod propagation;
mod recent;
pub mod runtimes;
pub mod signals;
pub mod undecided;
pub mod watch;
