//! The kernel side: the only importer of aya.
//!
//! [`Kernel::load`] fits the programs to the running kernel and loads them; [`Kernel::attach`] starts the recorder.
//! Records come out of the [`ring`]; the few things that are written back go through [`control`].

pub mod capability;
pub mod control;
mod load;
pub mod offsets;
pub mod ring;
pub mod tracefs;

pub use control::Control;
pub use load::{Kernel, LoadError, Log, Options};
