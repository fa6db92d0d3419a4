//! Looks into selected processes from outside: which binaries they have mapped, where a symbol is in their memory, what
//! their memory holds, and how their unit of work is read.
//!
//! | file | what it does |
//! |---|---|
//! | `mappings` | lists the memory mappings of a process, and opens the mapped files |
//! | `binary` | lists the binaries whose code a process has mapped, and remembers what was found in them |
//! | `linked` | finds the libraries that a program is going to map |
//! | `functions` | finds functions of a binary, and where they return |
//! | `memory` | reads the memory of a process |
//! | `probes` | attaches kernel programs to functions of processes |
//! | `unit_of_work` | the column of the table of runtimes that says how a unit is found |
//! | `runtimes` | finds where each runtime has its unit of work |
//! | `description` | describes a process for users |
//! | `java` | loads a library into JVMs that hands over the plaintext of their TLS |
//! | `units` | makes the kernel programs read the units of work of processes |
//! | `tls` | the table of TLS libraries; one file each |
//! | `search` | searches all files of a process for TLS libraries |
//! | `libraries` | attaches kernel programs to the TLS libraries of processes |
//!
//! A process controls its mappings, its files and its memory. So every read has a limit, an unexpected file has no symbols,
//! and whoever uses a value checks it.

mod binary;
mod description;
mod functions;
pub mod java;
mod libraries;
mod linked;
mod looks;
mod mappings;
mod memory;
mod probes;
pub(crate) mod runtimes;
mod search;
pub(crate) mod tls;
mod unit_of_work;
pub mod units;

pub use binary::{Mapped, Symbol, executables};
pub use description::Description;
pub use functions::{Found, Lookup};
pub use libraries::Libraries;
pub use mappings::{Mapping, mappings};
pub use memory::Memory;
pub use probes::Function;
pub use unit_of_work::{UnitOfWork, Unread};
pub use units::Units;
