//! `onlooker exec` behaves like the command itself: exit code, signals, children.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::CString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{fs, ptr, thread};

use onlooker_tests::{Outcome, Summary, spans};
use rstest::rstest;

fn exec(options: &[&str], command: &[&str]) -> Command {
    let mut exec = Command::new(env!("CARGO_BIN_EXE_onlooker"));
    exec.arg("exec").args(options).arg("--").args(command).env("OTEL_TRACES_EXPORTER", "none");
    exec
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The spans in `file` and the counters of an agent. Together they must be `ends` request ends.
fn account(file: &Path, output: &Output, ends: usize) -> Outcome {
    let spans = spans::from_requests(&spans::read_lines(file).unwrap()).unwrap();
    Outcome::check(spans, Summary::read(&stderr(output)), &ends.into()).unwrap()
}

#[rstest]
#[case::its_own(&["sh", "-c", "exit 1"], 1)]
#[case::of_a_signal(&["sh", "-c", "kill -TERM $$"], 143)]
#[case::not_executable(&["/etc/passwd"], 126)]
#[case::not_found(&["onlooker-no-such-command"], 127)]
fn the_exit_code_is_that_of_the_command(#[case] command: &[&str], #[case] code: i32) {
    let output = exec(&[], command).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
}

#[rstest]
#[case::option(&["--no-such-option"], "--no-such-option")]
#[case::value(&["--ring-bytes", "5000"], "not a power of two")]
#[case::exporter(&["--export", "carrier-pigeon"], "carrier-pigeon")]
fn a_failure_before_the_command_has_a_code_of_its_own(#[case] options: &[&str], #[case] why: &str) {
    let output = exec(options, &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", stderr(&output));
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
}

/// For example because the terminal was closed.
#[test]
fn a_warning_that_cannot_be_written_is_ignored() {
    let nowhere = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut exec = exec(&[], &["sh", "-c", "exit 7"]);
    let status = exec.env("OTEL_BSP_SCHEDULE_DELAY", "soon").stderr(nowhere).status().unwrap();
    assert_eq!(status.code(), Some(7));
}

#[test]
fn help_exits_with_success() {
    let output = Command::new(env!("CARGO_BIN_EXE_onlooker")).args(["exec", "--help"]).output().unwrap();
    assert!(output.status.success());
}

/// `nohup onlooker exec -- server`: the server must survive its terminal as it would without the agent.
#[test]
fn an_ignored_signal_stays_ignored_for_the_command() {
    let ignored = |hangup: libc::sighandler_t| {
        let mut exec = exec(&[], &["grep", "SigIgn", "/proc/self/status"]);
        // SAFETY: signal is async-signal-safe.
        unsafe {
            exec.pre_exec(move || {
                libc::signal(libc::SIGHUP, hangup);
                Ok(())
            });
        }
        let output = exec.output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let bits = found.strip_prefix("SigIgn:").unwrap_or_else(|| panic!("{found}{}", stderr(&output)));
        u64::from_str_radix(bits.trim(), 16).unwrap() & (1 << (libc::SIGHUP - 1)) != 0
    };
    assert!(ignored(libc::SIG_IGN));
    assert!(!ignored(libc::SIG_DFL));
}

/// What `program` prints, without the newline at its end.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Before, `sudo onlooker exec` could run a command only as root.
#[test]
fn a_command_runs_as_another_user_with_its_groups_and_environment() {
    let script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL $KEPT";
    let found = printed(exec(&["--user", "nobody"], &["sh", "-c", script]).env("KEPT", "kept"));
    let id = |option| printed(Command::new("id").args([option, "nobody"]));
    let entry = printed(Command::new("getent").args(["passwd", "nobody"]));
    let [.., home, shell] = entry.split(':').collect::<Vec<_>>()[..] else { panic!("{entry}") };
    let (uid, gid, groups) = (id("-u"), id("-g"), id("-G"));
    assert_eq!(found, format!("{uid}\n{gid}\n{groups}\n{home} nobody nobody {shell} kept"));
}

#[test]
fn an_unknown_user_is_an_error_before_the_command() {
    let output = exec(&["--user", "onlooker-no-such-user"], &["echo", "ran"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("cannot run the command as `onlooker-no-such-user`: there is no such user"));
    assert!(output.stdout.is_empty());
}

/// Makes the cgroup hierarchy read-only, as in most containers.
fn without_cgroup(exec: &mut Command) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let hierarchy = mounts.find_map(|mut mount| {
        let place = mount.nth(1)?;
        (mount.next()? == "cgroup2").then(|| CString::new(place).unwrap())
    });
    let done = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: it only makes system calls, with strings that were allocated before the fork.
    unsafe {
        exec.pre_exec(move || {
            done(libc::unshare(libc::CLONE_NEWNS))?;
            let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
            done(libc::mount(none, root, ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()))?;
            let Some(hierarchy) = &hierarchy else { return Ok(()) };
            let read_only = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
            done(libc::mount(none, hierarchy.as_ptr(), ptr::null(), read_only, ptr::null()))
        });
    }
}

/// A server that answers one request with `ok`, and its URL.
fn answers_once() -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let read = client.read(&mut [0; 4096]).unwrap();
        assert_ne!(read, 0);
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    (url, server)
}

/// A server with a thread per request. Each request makes a call.
const THREADED: &str = "
import http.server, sys, urllib.request
class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        urllib.request.urlopen(sys.argv[1] + self.path).read()
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass
web = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Web)
print(web.server_address[1], flush=True)
web.serve_forever()
";

/// Until it executes the command, the child is a fork of the agent, whose threads prove nothing.
#[test]
fn the_command_is_recognised_by_what_it_executes() {
    let folder = tempfile::tempdir().unwrap();
    let (file, script) = (folder.path().join("spans"), folder.path().join("web.py"));
    fs::write(&script, THREADED).unwrap();
    let (url, server) = answers_once();
    let command = ["python3", script.to_str().unwrap(), &url];
    let mut exec = exec(&["--file", file.to_str().unwrap()], &command);
    exec.env("no_proxy", "*").env_remove("OTEL_SERVICE_NAME").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut exec = exec.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(exec.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let curl = Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*", &format!("http://127.0.0.1:{}/7", port.trim())])
        .status();
    assert!(curl.unwrap().success());
    server.join().unwrap();
    // SAFETY: kill accepts any two integers. The pid of a child that was not waited for is not reused.
    unsafe { libc::kill(exec.id().cast_signed(), libc::SIGTERM) };
    let output = exec.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + libc::SIGTERM), "{}", stderr(&output));
    let tree = "
        web server GET /{id} -> 200
          web client GET /{id} -> 200 by thread
    ";
    account(&file, &output, 2).expect_tree(&[], tree).unwrap();
}

/// The daemon executes its program after its parent has ended. Then /proc no longer shows its descent.
#[test]
fn daemons_are_followed_also_without_a_cgroup() {
    let folder = tempfile::tempdir().unwrap();
    let (file, fifo, got) = (folder.path().join("spans"), folder.path().join("fifo"), folder.path().join("got"));
    let (url, server) = answers_once();
    let (fifo, got) = (fifo.display(), got.display());
    let script = format!(
        "mkfifo {fifo}; ( (read line < {fifo}; exec curl --silent --noproxy '*' --output {got} {url}/7) & ); \
         echo go > {fifo}; while ! [ -s {got} ]; do sleep 0.05; done"
    );
    let mut exec = exec(&["--file", file.to_str().unwrap()], &["sh", "-c", &script]);
    without_cgroup(&mut exec);
    let output = exec.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("what it starts is followed by descent"), "{}", stderr(&output));
    server.join().unwrap();
    account(&file, &output, 1).expect_tree(&[], "curl client GET /{id} -> 200").unwrap();
}
