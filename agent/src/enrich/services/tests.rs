//! Services of processes that really run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use opentelemetry::Key;

use super::*;

/// A program that prints a line when it is ready, and ends when its stdin is closed.
pub(super) struct Running {
    child: Child,
    /// The last line that it printed.
    line: String,
}

impl Running {
    pub(super) fn new(command: &mut Command) -> Self {
        let mut running = Self::silent(command);
        running.listen();
        running
    }

    /// A program that prints nothing before it reads a line.
    fn silent(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self { child, line: String::new() }
    }

    fn listen(&mut self) {
        self.line.clear();
        BufReader::new(self.child.stdout.as_mut().unwrap()).read_line(&mut self.line).unwrap();
        self.line.truncate(self.line.trim_end().len());
    }

    /// Lets it read a line, and waits for the next line that it prints.
    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
        self.listen();
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its children end when their stdin is closed.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn services() -> Services {
    Services::new(Arc::new(Host::read("", Vec::new())), Arc::default())
}

pub(super) fn attribute(service: &Service, key: &'static str) -> Option<String> {
    service.resource.get(&Key::from_static_str(key)).map(|value| value.to_string())
}

fn script(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

const WAIT: &str = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n";

#[test]
fn a_python_script_is_a_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "checkout.py", WAIT);
    let python =
        Running::new(Command::new("python3").arg(&path).arg("--password=hunter2").env_remove("OTEL_SERVICE_NAME").env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.version=1.2.0,service.namespace=shop,telemetry.distro.name=forged,team=a%20b",
        ));
    let service = services().of(python.pid(), "python3");
    assert_eq!(service.name, "checkout");
    assert_eq!(attribute(&service, "service.name").as_deref(), Some("checkout"));
    assert_eq!(attribute(&service, "service.version").as_deref(), Some("1.2.0"));
    assert_eq!(attribute(&service, "service.namespace").as_deref(), Some("shop"));
    assert_eq!(attribute(&service, "team").as_deref(), Some("a b"));
    assert_eq!(attribute(&service, "telemetry.distro.name").as_deref(), Some("onlooker"));
    assert_eq!(attribute(&service, "telemetry.sdk.language").as_deref(), Some("python"));
    assert_eq!(attribute(&service, "process.runtime.name").as_deref(), Some("cpython"));
    assert_eq!(attribute(&service, "process.pid"), Some(python.pid().to_string()));
    assert_eq!(attribute(&service, "os.type").as_deref(), Some("linux"));
    assert!(attribute(&service, "process.executable.name").unwrap().starts_with("python"));
    assert!(service.resource.schema_url().is_some());
    let secret = service.resource.iter().find(|(_, value)| value.to_string().contains("hunter2"));
    assert_eq!(secret, None, "arguments are not exported");
}

/// Writes its whole command line over its arguments, as `setproctitle(' '.join(sys.argv))` and Perl's `$0 = "$0 @ARGV"` do.
#[test]
fn a_command_line_written_as_a_title_is_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let cat = std::fs::canonicalize("/bin/cat").unwrap();
    let program = folder.path().join("worker");
    std::os::unix::fs::symlink(cat, &program).unwrap();
    let title = format!("{} --db-password=hunter2", program.display());
    let mut worker = Running::silent(Command::new(&program).arg0(title));
    worker.go_on();
    let service = services().of(worker.pid(), "worker");
    assert_eq!(attribute(&service, "process.command").as_deref(), program.to_str());
    let leaked = service.resource.iter().find(|(_, value)| value.to_string().contains("hunter2"));
    assert_eq!(leaked, None);
}

#[test]
fn a_service_is_named_by_its_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "checkout.py", WAIT);
    let python = Running::new(Command::new("python3").arg(path).env("OTEL_SERVICE_NAME", "shop"));
    assert_eq!(services().of(python.pid(), "python3").name, "shop");
}

/// A master that forks a worker. The worker writes a title over the arguments, as setproctitle does.
const MASTER: &str = "
import ctypes, os, sys
if os.fork() == 0:
    stat = open('/proc/self/stat').read().rpartition(') ')[2].split()
    start, end = int(stat[45]), int(stat[46])
    title = sys.argv[1].encode()
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, title, min(len(title), end - start - 1))
    print(os.getpid(), flush=True)
sys.stdin.read()
";

#[test]
fn a_master_and_its_workers_are_one_instance() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "checkout.py", MASTER);
    let master = Running::new(
        Command::new("python3")
            .arg(path)
            .arg("card 4111")
            .arg("room for a title")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap()),
    );
    let worker: u32 = master.line.parse().unwrap();
    assert_eq!(Process::open(worker).unwrap().arguments(), ["card 4111"], "the title was written");

    let mut services = services();
    let (of_worker, of_master) = (services.of(worker, "python3"), services.of(master.pid(), "python3"));
    assert!(Arc::ptr_eq(&of_worker, &of_master), "{of_worker:?} {of_master:?}");
    assert_eq!(of_worker.name, "checkout");
    assert_eq!(attribute(&of_worker, "process.pid"), Some(master.pid().to_string()));
    let leaked = of_worker.resource.iter().find(|(_, value)| value.to_string().contains("4111"));
    assert_eq!(leaked, None);
}

#[test]
fn a_supervisor_is_not_the_master_of_what_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let child =
        script(folder.path(), "checkout.py", "import os, sys\nprint(os.getpid(), flush=True)\nsys.stdin.read()");
    let parent =
        script(folder.path(), "supervisor.py", "import subprocess, sys\nsubprocess.run([sys.executable, sys.argv[1]])");
    let supervisor = Running::new(Command::new("python3").arg(parent).arg(child));
    let mut services = services();
    let child = services.of(supervisor.line.parse().unwrap(), "python3");
    let parent = services.of(supervisor.pid(), "python3");
    assert_eq!((child.name.as_str(), parent.name.as_str()), ("checkout", "supervisor"));
    assert_ne!(attribute(&child, "service.instance.id"), attribute(&parent, "service.instance.id"));
}

/// Issue 7, fault 19: supervisord is a Python program too.
#[test]
fn a_service_with_a_title_does_not_take_the_name_of_its_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let child = script(folder.path(), "checkout.py", &MASTER.replace("if os.fork() == 0:", "if True:"));
    let start = "import subprocess, sys\nsubprocess.run([sys.executable, *sys.argv[1:]])";
    let parent = script(folder.path(), "supervisor.py", start);
    let arguments = [parent.as_path(), child.as_path(), "card 4111".as_ref(), "room for a title".as_ref()];
    let supervisor = Running::new(Command::new("python3").args(arguments).env_remove("OTEL_SERVICE_NAME"));
    let child: u32 = supervisor.line.parse().unwrap();
    assert_eq!(Process::open(child).unwrap().arguments(), ["card 4111"], "the title was written");

    let mut services = services();
    let (child, parent) = (services.of(child, "python3"), services.of(supervisor.pid(), "python3"));
    assert_eq!(parent.name, "supervisor");
    assert!(child.name.starts_with("unknown_service:python"), "{child:?}");
    assert_ne!(attribute(&child, "service.instance.id"), attribute(&parent, "service.instance.id"));
}

#[test]
fn a_process_is_remembered_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "checkout.py", WAIT);
    let python = Running::new(Command::new("python3").arg(path));
    let pid = python.pid();
    let mut services = services();
    services.examine(&Process::open(pid).unwrap());
    drop(python);
    services.ended(pid, Instant::now());
    assert_eq!(services.of(pid, "python3").name, "checkout");
}

#[test]
fn a_child_that_ended_has_its_parents_service() {
    let mut services = services();
    let parent = Running::new(Command::new("sh").args(["-c", "echo ready; read line"]));
    let gone = Running::new(Command::new("sh").args(["-c", "echo ready"]));
    let child = gone.pid();
    drop(gone);
    let service = services.of(parent.pid(), "sh");
    services.forked(parent.pid(), child);
    assert!(Arc::ptr_eq(&services.of(child, ""), &service));
}

#[test]
fn a_running_child_has_a_service_of_its_own() {
    let mut services = services();
    let parent = Running::new(Command::new("sh").args(["-c", "echo ready; read line"]));
    services.of(parent.pid(), "sh");
    let child = Running::new(Command::new("sh").args(["-c", "echo ready; read line"]).env("OTEL_SERVICE_NAME", "own"));
    services.forked(parent.pid(), child.pid());
    assert_eq!(services.of(child.pid(), "").name, "own");
}

#[test]
fn an_unexamined_process_has_the_kernels_name_of_it() {
    let mut services = services();
    let gone = services.of(0x7fff_fff0, "curl");
    assert_eq!(gone.name, "curl");
    assert!(attribute(&gone, "service.instance.id").is_some());
    assert!(Arc::ptr_eq(&gone, &services.of(0x7fff_fff0, "curl")));
    assert_eq!(services.of(0x7fff_fff1, "python3").name, "unknown_service:python3");
    assert_eq!(services.of(0x7fff_fff2, "\x1b\n").name, "unknown_service:process");
}

#[test]
fn a_process_that_executes_another_program_is_another_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "checkout.py", WAIT);
    let shell = format!("echo ready; read line; exec python3 {}", path.display());
    let mut running = Running::new(Command::new("sh").args(["-c", &shell]));
    let mut services = services();
    assert_eq!(services.of(running.pid(), "sh").name, "unknown_service:dash");
    running.go_on();
    assert_eq!(running.line, "ready");
    services.executed(running.pid());
    assert_eq!(services.of(running.pid(), "python3").name, "checkout");
}

#[test]
fn a_process_is_answered_with_the_span_that_it_was_started_for() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut services = services();
    for (variable, is_started) in [("TRACEPARENT", true), ("OTHER", false)] {
        let shell = Running::new(Command::new("sh").args(["-c", "echo ready; read line"]).env(variable, parent));
        let pending = PendingService::new(shell.pid(), "sh".into(), Arc::new(Host::default()));
        assert_eq!(pending.started_by(), None);
        services.answer(&pending);
        assert_eq!(pending.started_by().is_some(), is_started);
    }
}

#[test]
fn a_process_with_a_reused_pid_is_examined() {
    let mut services = services();
    let shell = Running::new(Command::new("sh").args(["-c", "echo ready; read line"]).env("OTEL_SERVICE_NAME", "shop"));
    let other = Arc::new(Service::new("other", opentelemetry_sdk::Resource::builder_empty().build()));
    services.remember(Identity { pid: shell.pid(), started: 1 }, &other, None, None);
    assert_eq!(services.of(shell.pid(), "sh").name, "shop");
}

#[test]
fn ended_processes_are_forgotten_after_a_while() {
    let mut services = services();
    let start = Instant::now();
    // Two in a second, for four times as long.
    for number in 0..8 * u32::try_from(ENDED_KEPT_FOR.as_secs()).unwrap() {
        let (pid, now) = (0x7000_0000 + number, start + Duration::from_millis(500) * number);
        let service = Arc::new(Service::new("curl", opentelemetry_sdk::Resource::builder_empty().build()));
        services.remember(Identity { pid, started: 1 }, &service, None, None);
        services.ended(pid, now);
        assert!(services.processes.contains_key(&pid), "spans may follow");
    }
    let kept = 2 * usize::try_from(ENDED_KEPT_FOR.as_secs()).unwrap() + 1;
    assert_eq!((services.processes.len(), services.ended.len()), (kept, kept));
    assert!(services.order.len() <= 2 * kept + 64, "{}", services.order.len());
}

/// Half of the processes that end in milliseconds do. They were kept until 16,384 others were known.
#[test]
fn processes_whose_service_is_requested_only_after_their_end_are_forgotten_too() {
    let mut services = services();
    for pid in 0x7000_0000..0x7000_0064 {
        services.ended(pid, Instant::now());
        services.of(pid, "curl");
    }
    assert_eq!(services.processes.len(), 100);
    services.of(0x7000_0064, "curl");
    services.ended(0x7000_0064, Instant::now() + ENDED_KEPT_FOR + Duration::from_secs(1));
    assert!(services.processes.is_empty());
    assert!(services.instances.len() <= 2 * 100 + 64, "{}", services.instances.len());
}

#[test]
fn the_number_of_remembered_processes_is_bounded() {
    let (mut services, now) = (services(), Instant::now());
    for pid in 0..PROCESSES_KEPT + 1000 {
        let pid = 0x7000_0000 + u32::try_from(pid).unwrap();
        services.of(pid, "curl");
        services.ended(pid, now);
    }
    assert!(services.processes.len() <= ENDED_KEPT);
    assert!(services.ended.len() <= ENDED_KEPT);
    for pid in 0..PROCESSES_KEPT + 1000 {
        services.of(0x6000_0000 + u32::try_from(pid).unwrap(), "curl");
    }
    assert!(services.processes.len() <= PROCESSES_KEPT);
    assert!(services.order.len() <= PROCESSES_KEPT);
    assert!(services.instances.len() <= 2 * PROCESSES_KEPT + 64);
}
