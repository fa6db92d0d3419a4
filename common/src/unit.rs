//! Units of work: what executes one request's work (a thread, a goroutine, a task).
//!
//! These are the values of `unit_kind`. The two words of `unit` name the unit within its process.

/// The unit is unknown. Both words are 0.
pub const NONE: u32 = 0;
/// The thread. The first word is its thread id; the second is 0.
pub const THREAD: u32 = 1;
