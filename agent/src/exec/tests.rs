//! Commands that really run.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rstest::rstest;
use tokio::runtime::Runtime;

use super::path::find;
use super::*;
use crate::discover::cgroup;
use crate::discover::select::Decision;

/// Every test that runs a command forwards signals sent to this process. So a test that sends one must run alone.
static SIGNALS: RwLock<()> = RwLock::new(());

fn no_signals() -> RwLockReadGuard<'static, ()> {
    SIGNALS.read().unwrap_or_else(PoisonError::into_inner)
}

fn command(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn stopped(words: &[&str]) -> Stopped {
    start(&command(words), None).unwrap().stopped().unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn run(words: &[&str]) -> CommandEnd {
    let _no_signals = no_signals();
    runtime().block_on(async { stopped(words).release().unwrap().wait().await.unwrap() })
}

#[rstest]
#[case::success("exit 0", 0)]
#[case::failure("exit 7", 7)]
#[case::killed("kill -9 $$", 137)]
#[case::terminated("kill -15 $$", 143)]
fn the_exit_code_is_that_of_the_command(#[case] script: &str, #[case] code: u8) {
    let end = run(&["sh", "-c", script]);
    assert_eq!(end.exit_code(), code);
    assert!(end.left.is_none());
}

#[rstest]
#[case::nothing(&[], 125, "no command to run")]
#[case::not_in_path(&["onlooker-no-such-command"], 127, "cannot run `onlooker-no-such-command`: no such command in PATH")]
#[case::no_such_file(&["/no/such/file"], 127, "cannot run /no/such/file: No such file or directory")]
#[case::folder(&["/tmp"], 126, "cannot run /tmp: is a directory")]
#[case::not_executable(&["/etc/passwd"], 126, "cannot run /etc/passwd: Permission denied")]
fn a_command_that_cannot_run_is_one_clear_error(#[case] words: &[&str], #[case] code: u8, #[case] message: &str) {
    let _in_runtime = runtime();
    let error = start(&command(words), None).unwrap_err();
    assert_eq!(error.exit_code(), code);
    assert!(error.to_string().starts_with(message), "{error}");
}

#[test]
fn a_missing_interpreter_is_an_error_of_the_release() {
    let _no_signals = no_signals();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("server");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let error =
        runtime().block_on(async { start(&[script.into()], None).unwrap().stopped().unwrap().release().unwrap_err() });
    assert_eq!(error.exit_code(), 127);
}

#[test]
fn path_is_searched_like_execvp_does() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |folder: &tempfile::TempDir, mode| {
        let path = folder.path().join("server");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let path = env::join_paths(["/no/such/folder".as_ref(), first.path(), second.path()]).unwrap();
    let refused = file(&first, 0o644);
    let find = || find("server".as_ref(), Some(&path));
    assert!(matches!(find(), Err(ExecError::NotExecutable { path, .. }) if path == refused));
    let executable = file(&second, 0o755);
    assert_eq!(find().unwrap(), executable);
}

#[test]
fn the_command_waits_until_it_is_released() {
    let _no_signals = no_signals();
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let script = format!("echo $0 > {}", ran.display());
    runtime().block_on(async {
        let stopped = stopped(&["sh", "-c", &script, "name"]);
        let process = Process::open(stopped.pid()).unwrap();
        assert_eq!(process.executable().unwrap(), Process::myself().unwrap().executable().unwrap());
        assert_eq!(stopped.selectors().unwrap().select(stopped.pid()).unwrap(), Decision::Included(0));
        if let FollowedBy::Cgroup(path) = stopped.followed() {
            assert_eq!(cgroup::path_in(&process.cgroups().unwrap()).as_ref(), Some(path));
        }
        assert!(!ran.exists());
        assert_eq!(stopped.release().unwrap().wait().await.unwrap().exit_code(), 0);
    });
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "name\n");
}

#[test]
fn a_command_that_is_not_released_never_runs() {
    let _no_signals = no_signals();
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    runtime().block_on(async {
        let mut stopped = stopped(&["touch", ran.to_str().unwrap()]);
        assert_eq!(stopped.spawning.end().unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        let FollowedBy::Cgroup(path) = stopped.followed() else { return };
        let folder = cgroup::Hierarchy::find().unwrap().folder(path);
        assert!(folder.exists());
        drop(stopped);
        assert!(!folder.exists());
    });
    assert!(!ran.exists());
}

#[test]
fn a_daemon_of_the_command_is_reported_and_its_cgroup_kept() {
    let _no_signals = no_signals();
    // A daemon that outlives the command until its FIFO is written to.
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let fifo = fifo.to_str().unwrap();
    let script = format!("mkfifo {fifo}; (read line < {fifo}) <&- >&- 2>&- &");
    runtime().block_on(async {
        let stopped = stopped(&["sh", "-c", &script]);
        let by_cgroup = matches!(stopped.followed(), FollowedBy::Cgroup(_));
        let end = stopped.release().unwrap().wait().await.unwrap();
        assert_eq!(end.exit_code(), 0);
        let Some((path, daemons)) = end.left else {
            assert!(!by_cgroup);
            return std::fs::write(fifo, "end\n").unwrap();
        };
        let [daemon] = daemons[..] else { panic!("one daemon is left, not {daemons:?}") };
        let pid = Pid::from_raw(daemon.cast_signed()).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).unwrap();
        // SAFETY: the descriptor is open and owned. It is neither closed nor replaced while it is registered.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.unwrap();
        std::fs::write(fifo, "end\n").unwrap();
        pidfd.readable().await.unwrap().retain_ready();
        // The folder is empty when the daemon has ended. The next test that runs a command would remove it.
        std::fs::remove_dir(cgroup::Hierarchy::find().unwrap().folder(&path)).unwrap();
    });
}

#[test]
fn signals_sent_to_the_agent_reach_the_command() {
    let _alone = SIGNALS.write().unwrap_or_else(PoisonError::into_inner);
    let (reader, writer) = io::pipe().unwrap();
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
    let script = format!("trap 'exit 9' USR1; echo ready >&{}; while :; do read line; done", writer.as_raw_fd());
    let end = runtime().block_on(async {
        let running = stopped(&["bash", "-c", &script]).release().unwrap();
        let mut line = String::new();
        BufReader::new(&reader).read_line(&mut line).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), Signal::USR1).unwrap();
        running.wait().await.unwrap()
    });
    assert_eq!(end.exit_code(), 9);
}
