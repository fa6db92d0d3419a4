//! The kernel side: the only importer of aya.
//!
//! [`Kernel::load`] fits the programs to the running kernel and loads them; [`Kernel::attach`] starts the recorder.
//! Records come out of the [`ring`]; the few things that are written back go through [`Selection`] and [`Control`].

mod batch;
pub mod capability;
mod control;
mod load;
mod losses;
pub mod offsets;
mod plain;
mod probes;
pub mod ring;
mod selection;
pub mod tracefs;

use aya::Ebpf;
use aya::maps::{Map, MapError};

pub use control::Control;
pub use load::{Kernel, LoadError, Log, Options};
pub use losses::Losses;
pub use selection::Selection;

/// Takes a map out of the object, to be written by one owner.
fn map<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?.try_into()
}
