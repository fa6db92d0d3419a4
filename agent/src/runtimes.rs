//! The table of runtimes: what executes a program, how it is recognised, and what follows from that.
//!
//! A runtime is one row of [`RUNTIMES`]. The row says by which names, libraries and marks a process is recognised, what
//! its threads prove about the requests it serves, and how its service is named. A runtime with code of its own has a
//! file with its row in it; rows without code stand in `table`. To add a runtime, add a row.
//!
//! | file | what it holds |
//! |---|---|
//! | `row` | the columns of the table |
//! | `table` | the rows, and the look-ups by name and by library |
//! | `recognise` | judges a process by the table |
//! | `executable` | reads the marks of an executable |
//! | `launch`, `arguments`, `paths` | what service names are read from |
//!
//! The table of TLS libraries belongs beside this folder, as `tls_libraries`: its rows have names and marks too, and
//! `crate::elf` reads those of a library like those of an executable.

mod arguments;
mod beam;
mod compiled;
mod dotnet;
mod executable;
mod go;
mod javascript;
mod jvm;
mod launch;
mod paths;
mod perl;
mod php;
mod python;
mod recognise;
mod row;
mod ruby;
#[cfg(test)]
mod sample;
mod script;
mod shell;
mod table;

pub use launch::{Launch, ServiceName, Variables};
pub use recognise::{Program, Recogniser};
pub use row::{Runtime, Work};
pub use table::{RUNTIMES, by_executable};
