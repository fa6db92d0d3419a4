//! Which service instance a process is: what it is called, and which process stands for all of it.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use compact_str::{CompactString, format_compact};

use super::environment::{Environment, presentable};
use super::service_name::{self, Judgement, Launch};
use crate::discover::process::{self, Identity, Process};
use crate::discover::runtime::{Program, Runtime, Runtimes};

/// Generations of a server that are looked through for its topmost process. Real ones have two or three.
const GENERATIONS_READ: usize = 16;
/// Longest manifest that is read for a name.
const MANIFEST_BYTES: u64 = 1 << 20;

/// What tells service instances apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) name: CompactString,
    /// The topmost process of the server.
    pub(super) top: Identity,
}

/// One process of a server, as it was when it was looked at.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) process: Process,
    pub(super) executable: PathBuf,
    pub(super) runtime: Runtime,
    pub(super) environment: Environment,
    /// What the program was called by. Its arguments may hold secrets.
    pub(super) command: Option<String>,
    name: Judgement,
    /// Device and inode number of the executable.
    program: Option<(u64, u64)>,
}

impl Instance {
    /// The instance of a process of which only the kernel's name is known.
    pub(super) fn by_comm(identity: Identity, comm: &str) -> Self {
        let name = match presentable(comm) {
            None => unknown("process"),
            // What is interpreted has a name of its own, which is not this one.
            Some(comm) if Program::by_name(&comm).is_some_and(Program::interprets) => unknown(&comm),
            Some(comm) => comm.into(),
        };
        Self { name, top: identity }
    }
}

/// The instance that `process` belongs to, and the processes from the topmost down to it.
pub(super) fn of(process: &Process, runtimes: &Runtimes) -> (Instance, Vec<Member>) {
    let mut members = Vec::new();
    let mut next = Process::open(process.pid()).ok().filter(|opened| opened.identity() == process.identity());
    while let Some(process) = next.take() {
        let parent = process.parent();
        let member = Member::read(process, runtimes);
        if members.last().is_some_and(|child: &Member| !child.belongs_to(&member)) {
            break;
        }
        members.push(member);
        // Init and the kernel's own begin no server.
        if parent > 1 && members.len() < GENERATIONS_READ {
            next = Process::open(parent).ok();
        }
    }
    let name = members.iter().find_map(Member::name).unwrap_or_else(|| {
        let executable = members.last().and_then(|top| presentable(top.executable.file_name()?.to_str()?));
        // Where /proc does not tell the executable, the kernel's name is all there is.
        executable.map_or_else(|| Instance::by_comm(process.identity(), process.comm()).name, |name| unknown(&name))
    });
    members.reverse();
    let top = members.first().map_or(process.identity(), |top| top.process.identity());
    (Instance { name, top }, members)
}

/// What the OpenTelemetry specification calls a service that nobody named.
fn unknown(executable: &str) -> CompactString {
    format_compact!("unknown_service:{executable}")
}

impl Member {
    fn read(process: Process, runtimes: &Runtimes) -> Self {
        let path = process.executable().ok().flatten().unwrap_or_default();
        let executable = process.root().ok().and_then(|root| process::inside(&path, &root)).unwrap_or(path);
        let program = process.open_executable().ok().and_then(|file| file.metadata().ok());
        let arguments = process.arguments();
        let started_by = process.started_by();
        let working_directory = process.working_directory();
        let environment = Environment::parse(&process.environment());
        let runtime = runtimes.of(&process);
        let launch = Launch {
            program: runtime.program,
            executable: &executable,
            started_by: started_by.as_deref(),
            arguments: &arguments,
            working_directory: working_directory.as_deref(),
            environment: &environment,
            read: &|path| {
                let text = process.read_inside(path, MANIFEST_BYTES)?;
                Some(String::from_utf8_lossy(&text).into_owned())
            },
        };
        let given = environment.service_name.as_deref().and_then(presentable);
        let name = given.map_or_else(|| service_name::judge(&launch), |name| Judgement::Named(name.into()));
        Self {
            command: launch.called().and_then(presentable).map(Into::into),
            program: program.map(|metadata| (metadata.dev(), metadata.ino())),
            executable,
            runtime,
            environment,
            name,
            process,
        }
    }

    /// Whether it is a worker of its parent, or another process of the same program under the same name.
    fn belongs_to(&self, parent: &Self) -> bool {
        self.program.is_some()
            && self.program == parent.program
            && match (&self.name, &parent.name) {
                (Judgement::Worker(_), _) => true,
                (Judgement::Named(name), Judgement::Named(parent)) => name == parent,
                // A master whose title says nothing of what its workers' do.
                (Judgement::Named(_), Judgement::Worker(None)) => true,
                _ => false,
            }
    }

    fn name(&self) -> Option<CompactString> {
        match &self.name {
            Judgement::Named(name) | Judgement::Worker(Some(name)) => Some(name.clone()),
            Judgement::Worker(None) | Judgement::Unknown => None,
        }
    }
}
