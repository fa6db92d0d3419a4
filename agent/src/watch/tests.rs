//! Processes that really run, and their entries in the kernel maps.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use onlooker_common::capture::Capture;
use onlooker_common::decode::Event;
use onlooker_common::process::Execution;
use onlooker_common::selection::process_flag::{CALLS, CANDIDATE, LOOP, PORT_HOLDER, SCHEDULER};
use onlooker_tests::record_skip;
use onlooker_tests::wait::{until, within};

use super::*;
use crate::discover::select::{self, Judgement};
use crate::discover::sockets::ListeningSockets;
use crate::kernel::ring::Ring;
use crate::kernel::{self, Kernel, LoadError};

/// A program that prints a line when it runs, and ends when its stdin is closed.
struct Running(Child);

impl Running {
    fn new(program: &str, arguments: &[&str]) -> Self {
        let child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut running = Self(child.unwrap());
        running.listen();
        running
    }

    fn shell(script: &str) -> Self {
        Self::new("sh", &["-c", &format!("echo ready; {script}")])
    }

    fn listen(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Lets it read a line, and waits for the next line that it prints.
    fn go_on(&mut self) -> String {
        self.0.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
        self.listen()
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A watch of these processes, with a kernel side that records nothing yet. None without the privileges to load it.
fn watch(pids: &[u32]) -> Option<Watch> {
    let mut kernel = match Kernel::load(&kernel::Options { ring_bytes: 4096, ..kernel::Options::default() }) {
        Err(LoadError::NotPermitted(why)) => {
            record_skip(&why);
            return None;
        }
        loaded => loaded.unwrap(),
    };
    let selectors = Selectors::new(&select::Options { pid: pids.to_vec(), ..select::Options::default() }).unwrap();
    let (selection, losses) = (kernel.selection(Capture::default()).unwrap(), kernel.losses().unwrap());
    let units = kernel.unit_sources().unwrap();
    let kernel = Arc::new(Mutex::new(Some(kernel)));
    Some(Watch::new(kernel, selection, units, losses, selectors, Arc::default(), Arc::default()))
}

/// The processes that the kernel side reported, in order, without repetition.
fn reported(ring: &mut Ring, change: u32) -> Vec<u32> {
    let mut found = Vec::new();
    ring.drain(usize::MAX, |record| {
        if let Ok(Event::Process(process)) = Event::decode(record)
            && process.change == change
        {
            found.push(process.tgid);
        }
    });
    found.dedup();
    found
}

/// Before, every exec and every listen of the host was reported, which cost 30 us each.
#[test]
fn processes_that_no_selector_needs_are_not_reported() {
    let mut shell = Running::shell("read line; exec cat");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let Some(mut watch) = watch(&[shell.pid()]) else { return };
    let kernel = Arc::clone(&watch.kernel);
    let mut ring = {
        let mut kernel = kernel.lock().unwrap();
        let kernel = kernel.as_mut().unwrap();
        kernel.attach(&[]).unwrap();
        kernel.ring().unwrap()
    };
    watch.scan().unwrap();
    let others = || {
        for _ in 0..20 {
            assert!(Command::new("true").status().unwrap().success());
        }
        drop(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    };
    others();
    // cat prints the rest of the input.
    shell.0.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(shell.go_on(), "go on");
    assert_eq!(reported(&mut ring, lifecycle::EXEC), [shell.pid()]);
    assert_eq!(reported(&mut ring, lifecycle::LISTEN), [0_u32; 0]);

    // With a name, programs with that name are reported, also if it is longer than the kernel's names of processes.
    let folder = tempfile::tempdir().unwrap();
    let (program, link) = (folder.path().join("onlooker-test-of-names"), folder.path().join("onlooker-link"));
    std::fs::copy("/bin/true", &program).unwrap();
    std::os::unix::fs::symlink("/bin/true", &link).unwrap();
    let globs =
        vec![program.to_str().unwrap().to_owned(), format!("*/{}", link.file_name().unwrap().to_str().unwrap())];
    watch.selectors = Selectors::new(&select::Options { exe: globs, ..select::Options::default() }).unwrap();
    watch.report_what_selectors_need();
    others();
    let started: Vec<u32> = [&program, &link]
        .into_iter()
        .map(|program| {
            let mut child = Command::new(program).spawn().unwrap();
            child.wait().unwrap();
            child.id()
        })
        .collect();
    let undecided = executions(&mut ring);
    assert_eq!(undecided.iter().map(|execution| execution.change.tgid).collect::<Vec<_>>(), started);

    // Once it is decided, the kernel side knows the program, until the selectors change.
    for execution in &undecided {
        watch.selection.remember(execution.executable, execution.change.tgid == started[0]);
    }
    let run = |program: &Path| Command::new(program).status().unwrap();
    run(&program);
    run(&link);
    assert_eq!(executions(&mut ring).len(), 0);
    // A new file at the same path.
    std::fs::copy("/bin/false", program.with_extension("new")).unwrap();
    std::fs::rename(program.with_extension("new"), &program).unwrap();
    run(&program);
    assert_eq!(executions(&mut ring).len(), 1);
    watch.report_what_selectors_need();
    run(&link);
    assert_eq!(executions(&mut ring).len(), 1);
}

fn executions(ring: &mut Ring) -> Vec<Execution> {
    let mut found = Vec::new();
    ring.drain(usize::MAX, |record| {
        if let Ok(Event::Execution(execution)) = Event::decode(record) {
            found.push(*execution);
        }
    });
    found
}

#[test]
fn an_ended_process_is_judged_by_the_path_that_it_was_executed_by() {
    let globs = vec!["onlooker-short-lived".to_owned()];
    let selectors = Selectors::new(&select::Options { exe: globs, ..select::Options::default() }).unwrap();
    let judge = |path: &str| selectors.judge_execution(0x7fff_fff0, Path::new(path));
    assert_eq!(judge("/no/such/folder/onlooker-short-lived"), Judgement::ByPath(true));
    assert_eq!(judge("/bin/true"), Judgement::ByPath(false));
    assert_eq!(judge("./something"), Judgement::Unknown);
}

fn change(change: u32, tgid: u32) -> LifecycleChange {
    LifecycleChange { change, tgid, other: 0 }
}

#[test]
fn a_process_that_ended_before_its_selection_does_not_stay_selected() {
    let mut ended = Running::shell("");
    // A zombie. Its pid is not reused before it is waited for.
    let pid = ended.pid();
    until(within(Duration::from_secs(10)), "its end", || {
        Ok(Process::open(pid).is_ok_and(|process| process.is_zombie()).then_some(()))
    })
    .unwrap();
    let Some(mut watch) = watch(&[pid]) else { return };
    watch.kernel.lock().unwrap().as_mut().unwrap().attach(&[]).unwrap();
    assert_eq!(watch.scan().unwrap(), 0);
    assert_eq!(watch.selection.flags(pid), None);

    // A process that ended before its selection, and one whose end the kernel reports.
    let (living, mut lost) = (Running::shell("read line"), Running::shell("read line"));
    for running in [&living, &lost] {
        assert!(watch.select(running.pid(), Since::Before, &mut ListeningSockets::default()).is_some());
        assert_eq!(watch.selection.flags(running.pid()), Some(0));
    }
    watch.selection.select(pid, LOOP).unwrap();
    watch.sweep();
    assert_eq!(watch.selection.flags(pid), None);
    assert_eq!(watch.selection.selected().len(), 2);
    drop(lost.0.stdin.take());
    lost.0.wait().unwrap();
    assert_eq!(watch.selection.selected(), [living.pid()], "the kernel deselects a process that ends");
    ended.0.wait().unwrap();
}

#[test]
fn existing_children_are_selected_with_their_parent() {
    // One of two threads forks a child that forks another one.
    const FORKS: &str = "import os, sys, threading
read, write = os.pipe()
def fork():
    if os.fork() == 0:
        if os.fork() == 0:
            os.write(write, b'%d' % os.getpid())
        sys.stdin.readline()
        os._exit(0)
thread = threading.Thread(target=fork); thread.start(); thread.join()
print(os.read(read, 9).decode(), flush=True); sys.stdin.read()";
    let mut forking = Running(
        Command::new("python3").args(["-c", FORKS]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap(),
    );
    let grandchild: u32 = forking.listen().parse().unwrap();
    let Some(mut watch) = watch(&[forking.pid()]) else { return };
    assert_eq!(watch.scan().unwrap(), 3);
    assert!(watch.selection.flags(grandchild).is_some());
}

#[test]
fn what_runs_below_a_process_that_accepts_on_the_port_is_selected_with_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The shell's child executes another program. The listening socket is this process's alone.
    let shell = Running::shell("sleep 1000 & echo $!; wait");
    let child = |shell: &Running| Process::open(shell.pid()).unwrap().children().first().copied();
    let child = until(within(Duration::from_secs(10)), "the child", || Ok(child(&shell))).unwrap();
    until(within(Duration::from_secs(10)), "its exec", || {
        Ok(Process::open(child).is_ok_and(|process| process.comm() == "sleep").then_some(()))
    })
    .unwrap();
    let Some(mut watch) = watch(&[shell.pid()]) else { return };
    let options = select::Options { port: vec![port.to_string().parse().unwrap()], ..select::Options::default() };
    watch.selectors = Selectors::new(&options).unwrap();
    watch.select_with_children(shell.pid(), Since::Before, &mut ListeningSockets::default());
    let flags = |watch: &Watch| [shell.pid(), child].map(|tgid| watch.selection.flags(tgid).unwrap());
    assert_eq!(flags(&watch), [PORT_HOLDER, CANDIDATE]);
    watch.promote_children();
    assert_eq!(flags(&watch), [PORT_HOLDER, CANDIDATE], "nothing has been accepted");
    // As the kernel programs do when the shell uses a connection of the port.
    watch.selection.stand(shell.pid(), 0);
    watch.promote_children();
    assert_eq!(flags(&watch), [0, 0]);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
}

#[test]
fn flags_of_a_program_end_with_its_exec_of_another() {
    let mut shell = Running::shell("read line; exec cat");
    let Some(mut watch) = watch(&[shell.pid()]) else { return };
    watch.scan().unwrap();
    // As if it were a container's runtime, which executes the container's program.
    watch.selection.add(shell.pid(), LOOP | SCHEDULER | CALLS);
    // cat prints the rest of the input.
    shell.0.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(shell.go_on(), "go on");
    watch.changed(change(lifecycle::EXEC, shell.pid()));
    assert_eq!(watch.selection.flags(shell.pid()).unwrap() & (LOOP | SCHEDULER), 0);
}

#[test]
fn children_get_the_flags_of_their_parent_also_later() {
    let parent = Running::shell("sh -c 'echo $$; read line'");
    let Some(mut watch) = watch(&[parent.pid()]) else { return };
    let child = Running::shell("read line");
    for pid in [parent.pid(), child.pid()] {
        watch.selection.select(pid, 0).unwrap();
    }
    watch.flags.insert(parent.pid(), LOOP);
    let fork = |child| LifecycleChange { change: lifecycle::FORK, tgid: parent.pid(), other: child };
    watch.changed(fork(child.pid()));
    assert_eq!(watch.selection.flags(child.pid()), Some(LOOP));
    // A child that has ended is not selected.
    watch.changed(fork(0x7fff_fff0));
    assert_eq!(watch.selection.flags(0x7fff_fff0), None);
    assert_eq!(watch.flags.len(), 2);
}

#[test]
fn ticks_are_traced_while_a_caller_may_run_an_event_loop() {
    const LOOPS: &str = "import select, sys; print('ready', flush=True); sys.stdin.readline()
poll = select.epoll(); print('waits', flush=True); sys.stdin.read()";
    let mut python = Running::new("python3", &["-c", LOOPS]);
    let Some(mut watch) = watch(&[python.pid()]) else { return };
    watch.scan().unwrap();
    let start = Instant::now();
    watch.changed(change(lifecycle::CALLS, python.pid()));
    watch.look_at_callers(start + Duration::from_secs(1));
    assert!(!watch.ticks_traced, "it has no epoll instance");
    assert_eq!(python.go_on(), "waits");
    watch.look_at_callers(start + Duration::from_secs(2));
    assert!(watch.ticks_traced);
    watch.changed(change(lifecycle::EXIT, python.pid()));
    watch.look_at_callers(start + Duration::from_secs(3));
    assert!(watch.ticks_traced, "another caller may start");
    watch.look_at_callers(start + Duration::from_secs(60));
    assert!(!watch.ticks_traced);
    // The programs can be attached again.
    let mut kernel = watch.kernel.lock().unwrap();
    let kernel = kernel.as_mut().unwrap();
    kernel.attach_boundaries();
    assert_eq!(kernel.unavailable, []);
}

#[test]
fn the_thread_answers_requests_and_can_be_stopped() {
    let shell = Running::shell("read line");
    let Some(mut watch) = watch(&[shell.pid()]) else { return };
    watch.scan().unwrap();
    let (sender, thread) = watch.start(mpsc::channel().0, mpsc::channel().0).unwrap();
    assert!(thread.has_examined(Duration::from_secs(10)));
    let mut directory = crate::enrich::Directory::new(Arc::default());
    let pending = directory.service_of(shell.pid(), |pending| sender.request_service(pending));
    until(within(Duration::from_secs(10)), "an answer", || Ok(pending.service().is_some().then_some(()))).unwrap();
    assert!(!thread.has_ended(Duration::ZERO));
    thread.stop();
    drop(sender);
    assert!(thread.has_ended(Duration::from_secs(10)));
}
