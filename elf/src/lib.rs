//! Reads ELF files: headers, symbols, and functions, also of files without symbols.
//!
//! | file | what it does |
//! |---|---|
//! | `content` | reads bytes of a file or of memory |
//! | `file` | headers, sections, segments, notes |
//! | `symbols` | finds a symbol in the tables of a file |
//! | `pclntab` | finds a function in the table of Go's runtime |
//! | `functions` | where functions begin and end, by the table for unwinding |
//! | `code` | decodes a function's instructions |
//! | `constants` | finds text in the parts of a file that are loaded |
//! | `references` | finds the code that refers to an address |
//! | `linker_cache` | finds libraries in the cache of the dynamic linker |
//! | `rustls` | finds the functions of rustls, by symbols |
//! | `signature` | finds functions of TLS libraries in files without symbols |
//!
//! Anybody may have crafted the file. Every read and every loop has a limit, and what does not parse counts as absent. The
//! fuzz target `elf` checks that.

pub mod code;
mod constants;
mod content;
mod file;
pub mod functions;
pub mod linker_cache;
pub mod pclntab;
mod references;
pub mod rustls;
pub mod signature;
pub mod symbols;

pub use content::Content;
pub use file::{Elf, Place, Segment};
