//! The servers, one file each. They are had as their users have them: packages, with a configuration file and nothing more.
//!
//! A server is ready when its own log says so. Nothing is sent to it to find out, so that whoever watches from the beginning
//! sees the test's requests and no others.

mod app;
mod collector;
mod gunicorn;
mod nginx;
mod postgres;
mod redis;

use std::time::Duration;

pub use self::app::{App, AppOptions};
pub use self::collector::Collector;
pub use self::gunicorn::{Gunicorn, GunicornOptions, Workers};
pub use self::nginx::{Nginx, Site};
pub use self::postgres::Postgres;
pub use self::redis::Redis;

/// The slowest of them takes a second alone; the machine may be busy with compiling.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
