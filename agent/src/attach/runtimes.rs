//! How the units of work of each runtime are found.

pub(crate) mod python;
