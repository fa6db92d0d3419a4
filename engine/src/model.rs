//! What the engine takes in and gives out: spans, services, clocks and counters.

pub mod attributes;
pub mod clock;
pub mod counters;
pub mod errno;
pub mod reporting;
pub mod service;
pub mod sink;
pub mod span;
