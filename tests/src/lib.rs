//! The harness: real servers, unmodified, started together and stopped together, and the agent that watches them.
//!
//! A [`World`] is a cgroup and a temporary folder. What is started in it writes its log there, listens on loopback ports
//! that no other world has, and is gone when its handle or the world is dropped:
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
//! The programs know nothing of being watched: their environment is made here, and nothing of Onlooker's is in it.

mod accounts;
mod agent;
mod cgroup;
mod curl;
mod ports;
mod process;
mod recording;
mod shop;
mod skip;
mod socket;
mod world;

pub mod bpf_objects;
pub mod client;
pub mod load;
pub mod machine;
pub mod parents;
pub mod scheduling;
pub mod servers;
pub mod spans;
pub mod times;
pub mod wait;

pub use crate::accounts::as_nobody;
pub use crate::agent::{Agent, agent_beside};
pub use crate::cgroup::Cgroup;
pub use crate::curl::Curl;
pub use crate::ports::Port;
pub use crate::process::Process;
pub use crate::recording::{Account, Ends, Recording, Summary};
pub use crate::shop::Shop;
pub use crate::skip::{SKIPPED_FILE, record_skip};
pub use crate::world::World;
