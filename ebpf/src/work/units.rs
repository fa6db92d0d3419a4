//! Units of work: what executes one request's work. Each kind of unit has a file.

pub mod thread;

/// A unit of work, as records name it.
#[derive(Clone, Copy)]
pub struct Unit {
    /// One of `common::unit`.
    pub kind: u32,
    pub words: [u64; 2],
}
