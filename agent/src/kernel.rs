//! The kernel side: the only importer of aya.
//!
//! [`Kernel::load`] adapts the programs to the running kernel, and [`Kernel::attach`] loads and attaches them. Records come
//! out of the [`ring`]. What is written back goes through [`Selection`] and [`Control`]. [`probes`] is the table of programs.

mod backlog;
mod batch;
pub mod capability;
mod control;
mod detacher;
mod error;
mod functions;
pub mod keeper;
mod lines;
mod load;
mod loader;
mod losses;
mod multi;
mod object;
pub mod offsets;
mod plain;
pub mod probes;
mod release;
pub mod ring;
mod selection;
#[cfg(test)]
mod stack;
pub mod tracefs;
mod types;
mod units;

use std::sync::{Arc, Mutex};

use aya::Ebpf;
use aya::maps::{Map, MapError};

pub use control::Control;
pub use error::LoadError;
pub use functions::{FunctionLink, FunctionPrograms, Location};
pub use lines::Lines;
pub use load::{CgroupLink, Kernel, Log, Options};
pub use losses::Losses;
pub use selection::{BY_PORT, Selection};
pub use units::UnitSources;

/// The kernel side, while it is loaded. It is locked only while something is attached or detached.
pub type SharedKernel = Arc<Mutex<Option<Kernel>>>;

/// Takes a map out of the object. Each map has one user.
fn map<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?.try_into()
}
