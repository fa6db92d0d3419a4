//! Tries, before anything is selected, whether this kernel adds the lines as it should, and changes nothing else.
//!
//! A process in a cgroup of its own sends two requests on one connection to this process. The first comes in two pieces and must arrive
//! with the lines. After it the socket must be like any other: FIONREAD answers right, and the second request arrives as it was sent.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use onlooker_common::selection::process_flag;

use super::client;
use crate::exec::OwnCgroup;
use crate::kernel::{Kernel, Lines, Selection};

/// A step takes less than a millisecond, and longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether the process has connected.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes the test.
///
/// # Errors
/// What is not as it should be.
pub fn run(kernel: &mut Kernel, selection: &mut Selection, lines: &Lines) -> Result<()> {
    let cgroup = OwnCgroup::for_test().context("cannot create a cgroup for the test")?;
    let folder = std::fs::File::open(cgroup.folder()).context("cannot open the cgroup of the test")?;
    let _link = kernel.inject_into(&folder)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback interface")?;
    let mut client = start_client(&cgroup, listener.local_addr()?.port()).context("cannot start the test")?;
    // Nothing of the process is recorded.
    let flags = process_flag::CANDIDATE | process_flag::SELF_TEST | process_flag::CALLS;
    let tested = selection.select(client.id(), flags).context("cannot select the process of the test").and_then(|()| {
        client.stdin.take().context("its stdin is a pipe")?.write_all(b"\n")?;
        serve(&listener, lines)
    });
    let outcome = end(&mut client);
    selection.deselect(client.id());
    // If the process saw something wrong, that is the reason for what this one saw.
    outcome.and(tested)
}

fn start_client(cgroup: &OwnCgroup, port: u16) -> io::Result<Child> {
    let mut procs = OpenOptions::new().write(true).open(cgroup.folder().join("cgroup.procs"))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(client::VERB).arg(port.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(move || procs.write_all(b"0")) };
    command.spawn()
}

/// Receives both requests and responds to them.
fn serve(listener: &TcpListener, lines: &Lines) -> Result<()> {
    let stream = accept(listener)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let first = head(&mut reader)?;
    let end = client::REQUEST.len() - client::END.len();
    let (before, rest) = first.split_at_checked(end).context("the first request is incomplete")?;
    let (added, after) = rest.split_at_checked(lines.length()).context("nothing was added")?;
    ensure!(lines.are(added) && [before, after].concat() == client::REQUEST, "the first request arrived changed");
    writer.write_all(client::RESPONSE)?;
    let second = head(&mut reader)?;
    ensure!(second == client::REQUEST, "the second request arrived changed: the socket did not leave");
    writer.write_all(client::RESPONSE)?;
    Ok(())
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let by = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < by => thread::sleep(PAUSE),
            Err(error) => return Err(error).context("the process of the test did not connect"),
        }
    }
}

fn head(reader: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(client::END_OF_HEAD) {
        let read = reader.read_until(b'\n', &mut head).context("a request did not arrive")?;
        ensure!(read > 0, "the connection ended within a request");
    }
    Ok(head)
}

/// Waits for the end of the process, and returns what it found.
fn end(client: &mut Child) -> Result<()> {
    let by = Instant::now() + PATIENCE;
    while client.try_wait()?.is_none() && Instant::now() < by {
        thread::sleep(PAUSE);
    }
    if client.try_wait()?.is_none() {
        client.kill()?;
        client.wait()?;
        bail!("the process of the test did not end");
    }
    let mut printed = String::new();
    client.stdout.take().context("its stdout is a pipe")?.read_to_string(&mut printed)?;
    match printed.trim() {
        client::FINE => Ok(()),
        "" => bail!("the process of the test failed"),
        wrong => bail!("{wrong}"),
    }
}
