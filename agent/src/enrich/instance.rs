//! The service instance that a process belongs to: its name, and the process that represents it.

use std::cell::OnceCell;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use compact_str::{CompactString, format_compact};

use super::environment::Environment;
use crate::discover::container::{self, Container};
use crate::discover::process::{self, ExecImage, Identity, Process};
use crate::presentable::presentable;
use crate::runtimes::{self, Launch, Program, Recogniser, ServiceName};

/// How many generations of a server are read to find its topmost process. Real servers have two or three.
const GENERATIONS_READ: usize = 16;
/// The longest manifest that is read for a name.
const MANIFEST_BYTES: u64 = 1 << 20;

/// What identifies a service instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) name: CompactString,
    /// The topmost process of the server.
    pub(super) top: Identity,
}

/// One process of a server, as it was when it was examined.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) process: Process,
    pub(super) executable: PathBuf,
    pub(super) program: Program,
    pub(super) environment: Environment,
    /// The program's name as it was called, without the arguments, which may contain secrets.
    pub(super) command: Option<String>,
    /// Read when it is asked for, which it is not for most ancestors.
    container: OnceCell<Option<Container>>,
    name: ServiceName,
    /// Device and inode number of the executable.
    file: Option<(u64, u64)>,
    image: Option<ExecImage>,
}

impl Instance {
    /// The instance of a process that only the kernel's name is known of.
    pub(super) fn by_comm(identity: Identity, comm: &str) -> Self {
        let name = match presentable(comm) {
            None => unknown("process"),
            // An interpreter's name is not the name of what it runs.
            Some(comm) if runtimes::by_executable(&comm).is_some_and(|runtime| runtime.interprets) => unknown(&comm),
            Some(comm) => comm.into(),
        };
        Self { name, top: identity }
    }
}

/// The instance that `process` belongs to, and the processes from the topmost down to it. `container` is the one that the process runs in:
/// it was read first, because an ending process has none.
pub(super) fn of(process: &Process, container: Option<&Container>, recogniser: &Recogniser) -> (Instance, Vec<Member>) {
    let mut members = Vec::new();
    let mut next = Process::open(process.pid()).ok().filter(|opened| opened.identity() == process.identity());
    while let Some(process) = next.take() {
        let parent = process.parent();
        let mut member = Member::read(process, recogniser);
        if members.is_empty() {
            member.container = OnceCell::from(container.cloned());
        }
        if members.last().is_some_and(|child: &Member| !child.belongs_to(&member)) {
            break;
        }
        members.push(member);
        // Init and kernel threads are not part of a server.
        if parent > 1 && members.len() < GENERATIONS_READ {
            next = Process::open(parent).ok();
        }
    }
    let name = members.iter().find_map(Member::name).unwrap_or_else(|| {
        let executable = members.last().and_then(|top| presentable(top.executable.file_name()?.to_str()?));
        // If the executable cannot be read, only the kernel's name is known.
        executable.map_or_else(|| Instance::by_comm(process.identity(), process.comm()).name, |name| unknown(&name))
    });
    members.reverse();
    let top = members.first().map_or(process.identity(), |top| top.process.identity());
    (Instance { name, top }, members)
}

/// The name that the OpenTelemetry specification requires for a service without one.
fn unknown(executable: &str) -> CompactString {
    format_compact!("unknown_service:{executable}")
}

impl Member {
    fn read(process: Process, recogniser: &Recogniser) -> Self {
        let path = process.executable().ok().flatten().unwrap_or_default();
        let executable = process.root().ok().and_then(|root| process::inside(&path, &root)).unwrap_or(path);
        let file = process.open_executable().ok().and_then(|file| file.metadata().ok());
        let arguments = process.arguments();
        let started_by = process.started_by();
        let working_directory = process.working_directory();
        let environment = Environment::parse(&process.environment());
        let program = recogniser.recognise(&process);
        let launch = Launch {
            interpreters: program.runtime.executables,
            executable: &executable,
            started_by: started_by.as_deref(),
            arguments: &arguments,
            working_directory: working_directory.as_deref(),
            variables: &environment.runtime,
            read: &|path| {
                let text = process.read_inside(path, MANIFEST_BYTES)?;
                Some(String::from_utf8_lossy(&text).into_owned())
            },
            open: &|path| process.open_inside(path),
            exists: &|path| process.exists_inside(path),
            contains_runtime: program.in_executable,
        };
        let given = environment.service_name.as_deref().and_then(presentable);
        let name = given.map_or_else(|| program.runtime.name_service(&launch), |name| ServiceName::Known(name.into()));
        Self {
            command: launch.called().and_then(presentable).map(Into::into),
            file: file.map(|metadata| (metadata.dev(), metadata.ino())),
            image: process.exec_image(),
            container: OnceCell::new(),
            executable,
            program,
            environment,
            name,
            process,
        }
    }

    /// Whether it is a worker of its parent, or another process of the same program under the same name.
    fn belongs_to(&self, parent: &Self) -> bool {
        self.file.is_some()
            && self.file == parent.file
            // Two containers of one image have the same executable.
            && self.container_id() == parent.container_id()
            && match (&self.name, &parent.name) {
                (ServiceName::Worker(_), _) => true,
                // A process that executed a program itself is not part of its parent's service. A supervisor in Python
                // starts services in Python.
                (ServiceName::Titled, _) | (ServiceName::Known(_), ServiceName::Titled) => {
                    self.image.is_some() && self.image == parent.image
                }
                (ServiceName::Known(name), ServiceName::Known(parent)) => name == parent,
                _ => false,
            }
    }

    /// The name that its environment states.
    pub(super) fn stated_name(&self) -> Option<CompactString> {
        Some(presentable(self.environment.service_name.as_deref()?)?.into())
    }

    /// The container that it runs in.
    pub(super) fn container(&self) -> Option<&Container> {
        self.container.get_or_init(|| container::of(&self.process)).as_ref()
    }

    fn container_id(&self) -> Option<&str> {
        self.container().map(|container| container.id.as_str())
    }

    fn name(&self) -> Option<CompactString> {
        match &self.name {
            ServiceName::Known(name) | ServiceName::Worker(Some(name)) => Some(name.clone()),
            ServiceName::Worker(None) | ServiceName::Titled | ServiceName::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_the_container_that_was_read_first() {
        // An ending process is in no cgroup any more. This one is in none of a container.
        let process = Process::myself().unwrap();
        let container = Container { id: "aa".to_owned(), is_in_pod: false, pod_uid: None, name: None };
        let (_, members) = of(&process, Some(&container), &Recogniser::default());
        assert_eq!(members.last().and_then(Member::container), Some(&container));
    }
}
