//! Attaches programs to functions of processes: many with one link, or each by itself where the kernel cannot do that.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::PoisonError;

use aya::programs::uprobe::UProbeLink;

use super::SharedKernel;
use super::error::LoadError;
use super::multi::MultiProgram;

/// A function, and the program that observes it.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// Name of the kernel program.
    pub program: &'static str,
    /// Opens the file that has the function.
    pub path: &'a Path,
    /// Where the function begins in the file.
    pub offset: u64,
}

/// Keeps a program attached to functions. Dropping it detaches the program.
#[derive(Debug)]
pub struct FunctionLink(#[expect(dead_code, reason = "held to stay attached")] Link);

#[derive(Debug)]
#[expect(dead_code, reason = "held to stay attached")]
enum Link {
    Many(OwnedFd),
    One(UProbeLink),
}

impl FunctionLink {
    pub(super) fn one(link: UProbeLink) -> Self {
        Self(Link::One(link))
    }
}

/// What was attached.
#[derive(Debug, Default)]
pub struct Attachment {
    pub links: Vec<FunctionLink>,
    /// Indices of the locations that failed, with the reasons.
    pub failed: Vec<(usize, LoadError)>,
}

/// Attaches programs to functions.
#[derive(Debug, Clone)]
pub struct FunctionPrograms {
    kernel: SharedKernel,
}

impl FunctionPrograms {
    #[must_use]
    pub fn new(kernel: SharedKernel) -> Self {
        Self { kernel }
    }

    /// Attaches to functions, as far as the process `pid` executes them. `None` if the agent is ending.
    #[must_use]
    pub fn attach(&self, pid: u32, locations: &[Location<'_>]) -> Option<Attachment> {
        let mut attachment = Attachment::default();
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, location) in locations.iter().enumerate() {
            groups.entry((location.program, location.path)).or_default().push(index);
        }
        for ((program, path), indices) in groups {
            // Not locked while the kernel attaches.
            let multi = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.multi();
            match multi.program(program) {
                Ok(loaded) => attach_many(&loaded, program, path, pid, locations, &indices, &mut attachment),
                Err(_) => self.attach_each(pid, locations, &indices, &mut attachment)?,
            }
        }
        Some(attachment)
    }

    /// Attaches to each function by itself.
    fn attach_each(
        &self,
        pid: u32,
        locations: &[Location<'_>],
        indices: &[usize],
        attachment: &mut Attachment,
    ) -> Option<()> {
        for &index in indices {
            let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
            match kernel.as_mut()?.attach_function(&locations[index], pid) {
                Ok(link) => attachment.links.push(link),
                Err(error) => attachment.failed.push((index, error)),
            }
        }
        Some(())
    }
}

/// Attaches a program to functions of a file with one link.
fn attach_many(
    loaded: &MultiProgram,
    program: &'static str,
    path: &Path,
    pid: u32,
    locations: &[Location<'_>],
    indices: &[usize],
    attachment: &mut Attachment,
) {
    let offsets: Vec<_> = indices.iter().map(|&index| locations[index].offset).collect();
    match (loaded.attach(path, &offsets, pid), indices) {
        (Ok(link), _) => attachment.links.push(FunctionLink(Link::Many(link))),
        (Err(error), [index]) => {
            attachment.failed.push((*index, LoadError::Attach { program, why: error.to_string() }));
        }
        // The kernel does not say which function it refused. The others are attached nevertheless.
        (Err(_), _) => {
            for index in indices {
                attach_many(loaded, program, path, pid, locations, std::slice::from_ref(index), attachment);
            }
        }
    }
}
