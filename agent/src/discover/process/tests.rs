use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use onlooker_tests::wait::{until, within};

use super::*;

/// A `cat` that ends with the test.
struct Started(Child);

impl Started {
    /// Returns when it runs: `spawn` returns before the program is completely started.
    fn new(command: &mut Command) -> Self {
        let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cat.stdin.as_mut().unwrap().write_all(b"ready").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        Self(cat)
    }

    fn process(&self) -> Process {
        Process::open(self.0.id()).unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_is_read_as_it_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("listener");
    symlink("/bin/cat", &link).unwrap();
    let started = Started::new(Command::new(&link).arg("-").current_dir(folder.path()));
    let process = started.process();
    assert_eq!(process.parent(), std::process::id());
    assert_eq!(process.started_by().as_deref(), Some(link.as_path()));
    assert_eq!(process.executable().unwrap(), Some(std::fs::canonicalize("/bin/cat").unwrap()));
    assert_eq!(process.arguments(), [link.to_str().unwrap(), "-"]);
    assert_eq!(process.working_directory(), Some(std::fs::canonicalize(folder.path()).unwrap()));
    assert!(!process.is_kernel_thread());
    assert!(!process.has_event_poll());
}

#[test]
fn an_ended_process_and_a_zombie_have_ended() {
    let (started, mut zombie) =
        (Started::new(&mut Command::new("/bin/cat")), Started::new(&mut Command::new("/bin/cat")));
    let mut gone = Command::new("/bin/true").spawn().unwrap();
    gone.wait().unwrap();
    zombie.0.kill().unwrap();
    until(within(Duration::from_secs(10)), "the end of cat", || Ok((!zombie.process().is_alive()).then_some(())))
        .unwrap();
    assert_eq!(ended([started.0.id(), zombie.0.id(), gone.id()]), [zombie.0.id(), gone.id()]);
}

#[test]
fn a_handle_does_not_follow_its_pid_to_another_process() {
    let started = Started::new(&mut Command::new("/bin/cat"));
    let process = started.process();
    drop(started);
    assert!(matches!(process.executable(), Err(Unreadable::Gone { .. })));
    assert!(process.arguments().is_empty());
    assert!(process.started_by().is_none());
}

#[test]
fn a_thread_is_found_by_its_name() {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("VirtualThread-unparker".to_owned()).spawn(move || {
        ready.send(()).unwrap();
        ended.recv().unwrap_err();
    });
    is_ready.recv().unwrap();
    let myself = Process::myself().unwrap();
    assert!(myself.has_thread(|name| name == b"VirtualThread-u"));
    assert!(!myself.has_thread(|name| name == b"VirtualThread"));
    drop(end);
    thread.unwrap().join().unwrap();
}

#[test]
fn an_ended_process_is_not_alive() {
    let mut started = Started::new(&mut Command::new("/bin/cat"));
    let process = started.process();
    assert!(process.is_alive() && !process.is_my_fork());
    drop(started.0.stdin.take());
    // It stays a zombie until it is waited for.
    while process.is_alive() {
        std::thread::yield_now();
    }
    started.0.wait().unwrap();
    assert!(!process.is_alive());
}

#[test]
fn an_unused_pid_is_gone() {
    assert!(matches!(Process::open(u32::MAX), Err(Unreadable::Gone { .. })));
    assert!(matches!(Process::open(0x7fff_ffff), Err(Unreadable::Gone { .. })));
}

#[test]
fn only_regular_files_of_bounded_length_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("package.json");
    std::fs::write(&file, "{}").unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let myself = Process::myself().unwrap();
    assert_eq!(myself.read_inside(&file, 2).as_deref(), Some(b"{}".as_slice()));
    assert_eq!(myself.read_inside(&file, 1), None);
    assert_eq!(myself.read_inside(&pipe, 1 << 20), None);
    assert_eq!(myself.read_inside(folder.path(), 1 << 20), None);
}

#[test]
fn a_deleted_executable_keeps_its_path() {
    assert_eq!(without_deleted("/srv/shop (deleted)".into()), Path::new("/srv/shop"));
    assert_eq!(without_deleted("/srv/shop".into()), Path::new("/srv/shop"));
}
