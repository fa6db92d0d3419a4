//! What is found inside of selected processes, and attached to them.

pub mod units;

pub use units::{UnitOfWork, Units, Unread};
