//! The library of the end-to-end tests: it starts real, unmodified servers and the agent that traces them.
//!
//! A [`World`] is a cgroup and a temporary folder. Each program in it writes its log into the folder and listens on a
//! loopback port that no other world uses. It is stopped when its handle or the world is dropped:
//!
//! ```no_run
//! use onlooker_tests::World;
//! use onlooker_tests::servers::{Gunicorn, Nginx, Redis};
//!
//! World::story("cached", |world| {
//!     let redis = Redis::start(world)?;
//!     let app = Gunicorn::app("inventory").env("REDIS_URL", redis.url()).start(world)?;
//!     let nginx = Nginx::proxy_to(&app.address()).start(world)?;
//!     world.curl(&[&nginx.url("/stock/7")])?;
//!     Ok(())
//! })
//! # .unwrap();
//! ```
//!
//! The programs don't know that they are traced. Their environment is built here and holds no variable of Onlooker's.

mod accounts;
mod agent;
mod cgroup;
mod child_process;
mod counting_collector;
mod curl;
mod network;
pub mod ports;
mod receiver;
mod recording;
mod secure_client;
mod shop;
mod skip;
mod socket;
mod world;

pub mod bpf_objects;
pub mod client;
pub mod http2_client;
pub mod http2_matrix;
pub mod kubernetes;
pub mod load;
pub mod machine;
pub mod parents;
pub mod same_bytes;
pub mod scheduling;
pub mod servers;
pub mod spans;
pub mod times;
pub mod tls;
pub mod tls_matrix;
pub mod tls_requests;
pub mod tls_servers;
pub mod wait;

pub use crate::accounts::as_nobody;
pub use crate::agent::{Agent, agent_binary};
pub use crate::cgroup::Cgroup;
pub use crate::child_process::ChildProcess;
pub use crate::counting_collector::CountingCollector;
pub use crate::curl::Curl;
pub use crate::network::{Network, Networks};
pub use crate::ports::Port;
pub use crate::receiver::{Receiver, Request};
pub use crate::recording::{Outcome, Recording, RequestEnds, Summary};
pub use crate::secure_client::SecureClient;
pub use crate::shop::Shop;
pub use crate::skip::{SKIPPED_FILE, record_skip};
pub use crate::world::World;

/// The variable with which `cargo xtask test --soak` says how many seconds a worker works that serves nothing.
pub const SOAK: &str = "ONLOOKER_SOAK_SECONDS";
