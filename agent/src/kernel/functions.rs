//! Attaches programs to functions of processes: many with one link, or each by itself where the kernel cannot do that.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use aya::programs::uprobe::UProbeLink;

use super::SharedKernel;
use super::detacher::Detacher;
use super::error::LoadError;
use super::multi::MultiProgram;

/// A function, and the program that observes it.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// Name of the kernel program.
    pub program: &'static str,
    /// What the program gets from `bpf_get_attach_cookie` at this function.
    pub cookie: u64,
    /// Opens the file that has the function.
    pub path: &'a Path,
    /// Where the function begins in the file.
    pub offset: u64,
}

/// Keeps a program attached to functions. Dropping it detaches the program, which takes 100 to 300 ms: prefer
/// [`FunctionPrograms::detach`].
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

/// Attaches programs to functions, and detaches them.
#[derive(Debug, Clone)]
pub struct FunctionPrograms {
    kernel: SharedKernel,
    detacher: Arc<Detacher<FunctionLink>>,
}

impl FunctionPrograms {
    #[must_use]
    pub fn new(kernel: SharedKernel) -> Self {
        Self { kernel, detacher: Arc::new(Detacher::start()) }
    }

    /// Detaches in the background.
    pub fn detach(&self, links: Vec<FunctionLink>) {
        self.detacher.detach(links);
    }

    /// Whether so many links wait to be detached that nothing should be attached.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.detacher.is_behind()
    }

    /// Attaches to functions, as far as the process `pid` executes them. Keeps the order of the programs. `None` if the agent is
    /// ending.
    #[must_use]
    pub fn attach(&self, pid: u32, locations: &[Location<'_>]) -> Option<Attachment> {
        let mut attachment = Attachment::default();
        for ((program, path), indices) in links(locations) {
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

/// The links that are needed, each for a program and a file, with the indices of its locations. They are in the order of their
/// first locations.
fn links<'a>(locations: &[Location<'a>]) -> Vec<((&'static str, &'a Path), Vec<usize>)> {
    let mut links: Vec<((&'static str, &Path), Vec<usize>)> = Vec::new();
    for (index, location) in locations.iter().enumerate() {
        let key = (location.program, location.path);
        match links.iter_mut().find(|(other, _)| *other == key) {
            Some((_, indices)) => indices.push(index),
            None => links.push((key, vec![index])),
        }
    }
    links
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
    let functions: Vec<_> = indices.iter().map(|&index| (locations[index].offset, locations[index].cookie)).collect();
    match (loaded.attach(path, &functions, pid), indices) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_attached_in_the_order_of_the_locations() {
        let at = |program, path, offset| Location { program, cookie: 0, path: Path::new(path), offset };
        let locations = [
            at("tls_write", "a", 1),
            at("bio_write", "a", 2),
            at("tls_write", "b", 3),
            at("tls_write", "a", 4),
            at("tls_read", "a", 5),
        ];
        let links: Vec<_> = links(&locations).into_iter().map(|((program, _), indices)| (program, indices)).collect();
        let expected =
            [("tls_write", vec![0, 3]), ("bio_write", vec![1]), ("tls_write", vec![2]), ("tls_read", vec![4])];
        assert_eq!(links, expected);
    }
}
