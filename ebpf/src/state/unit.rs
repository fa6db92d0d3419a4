//! The name of a unit of work.

/// A unit of work, as records name it.
#[derive(Clone, Copy)]
pub struct Unit {
    /// One of `common::unit`.
    pub kind: u32,
    pub words: [u64; 2],
}
