//! TLS libraries whose plaintext is recorded: one row each, and one file.
//!
//! A library is recognised by its functions, not by the name of its file: it may be part of an executable, or bundled under
//! another name.

mod gnutls;
mod openssl;

use std::path::PathBuf;

use super::{Mapped, executables};
use crate::discover::process::Process;

/// A function of a library, and the kernel programs that observe it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) function: &'static str,
    /// Observes its beginning.
    pub(crate) program: &'static str,
    /// Its return is observed too.
    pub(crate) returns: bool,
}

impl Hook {
    const fn call(function: &'static str, program: &'static str) -> Self {
        Self { function, program, returns: true }
    }

    const fn event(function: &'static str, program: &'static str) -> Self {
        Self { function, program, returns: false }
    }
}

/// A row of [`LIBRARIES`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    /// A file that has this function contains the library.
    pub(crate) marker: &'static str,
    /// Not every version has every function.
    pub(crate) hooks: &'static [Hook],
}

/// Every library whose plaintext can be recorded.
pub(crate) static LIBRARIES: &[&Library] = &[&openssl::LIBRARY, &gnutls::LIBRARY];

/// The kernel program for returns.
pub(crate) const RETURNED: &str = "tls_returned";

/// A library in a process, and the place of each of its functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InProcess {
    pub(crate) library: &'static Library,
    /// The file that contains it, in the process's mount namespace.
    pub(crate) file: String,
    pub(crate) functions: Vec<Place>,
}

/// Where a kernel program is to be attached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) function: &'static str,
    pub(crate) program: &'static str,
    /// Opens the file.
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
}

/// The TLS libraries that a process has loaded.
pub(crate) fn find(process: &Process) -> Vec<InProcess> {
    let Ok(mapped) = executables(process) else { return Vec::new() };
    let mut found = Vec::new();
    for &library in LIBRARIES {
        for file in mapped.iter().filter(|file| file.symbol(library.marker).is_some()) {
            let functions = library.hooks.iter().flat_map(|hook| places(hook, file, &mapped)).collect();
            found.push(InProcess { library, file: file.name.clone(), functions });
        }
    }
    found
}

/// The places of a function: in the library's file, or in the files that it is linked with.
fn places(hook: &Hook, own: &Mapped, all: &[Mapped]) -> Vec<Place> {
    let in_file = |file: &Mapped| Some((file.path.clone(), file.symbol(hook.function)?.offset_in_file?));
    let found = match in_file(own) {
        Some(found) => vec![found],
        None => all.iter().filter_map(in_file).collect(),
    };
    let programs = [Some(hook.program), hook.returns.then_some(RETURNED)];
    let place = |(path, offset): (PathBuf, u64)| {
        programs.into_iter().flatten().map(move |program| Place {
            function: hook.function,
            program,
            path: path.clone(),
            offset,
        })
    };
    found.into_iter().flat_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probes::{Kind, PROBES};

    #[test]
    fn every_hook_has_its_programs() {
        let has = |name, kind| PROBES.iter().any(|probe| probe.name == name && probe.kind == kind);
        for library in LIBRARIES {
            assert!(library.hooks.iter().any(|hook| hook.function == library.marker), "{}", library.name);
            for hook in library.hooks {
                assert!(has(hook.program, Kind::Function), "{}", hook.program);
            }
        }
        assert!(has(RETURNED, Kind::Return));
    }
}
