//! The measured process, and the handle that controls it.
//!
//! The process is this program, started again with `--load`. It has a processor of its own and is the only one that is
//! selected. It is controlled through pipes, because operations on sockets would be traced.

use std::env;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use onlooker_common::unit::{UnitSource, go};

use super::goroutine::{self, Goroutine};
use crate::cpu;
use crate::statistics::least;

/// Windows per measurement.
const WINDOWS: usize = 300;
/// A window is short enough to fit between two interrupts: 0.5 ms on a unix socket.
const ROUNDS_PER_WINDOW: u32 = 250;
/// Four operations per round: both ends write and read once, or one end writes twice and the other reads twice.
const OPERATIONS_PER_ROUND: u32 = 4;
const MESSAGE: [u8; 64] = [b'x'; 64];

/// What the load can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// One end writes, the other reads. All data is one run.
    UnixOneWay,
    /// Both ends alternate. Every operation begins a run, as requests and responses do.
    UnixConversation,
    TcpOneWay,
    TcpConversation,
    /// A system call without sockets: getppid.
    Other,
    /// A function call: what Go's net/http client does once per request.
    Function,
}

pub(crate) const ON_SOCKETS: [Operation; 4] =
    [Operation::UnixOneWay, Operation::UnixConversation, Operation::TcpOneWay, Operation::TcpConversation];
pub(crate) const ALL: [Operation; 6] = [
    Operation::UnixOneWay,
    Operation::UnixConversation,
    Operation::TcpOneWay,
    Operation::TcpConversation,
    Operation::Other,
    Operation::Function,
];

impl Operation {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::UnixOneWay => "unix socket, one way",
            Self::UnixConversation => "unix socket, in turns",
            Self::TcpOneWay => "loopback TCP, one way",
            Self::TcpConversation => "loopback TCP, in turns",
            Self::Other => "getppid",
            Self::Function => "roundTrip",
        }
    }

    fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|operation| operation.describe() == name)
    }
}

/// A handle of the measured process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
    /// `None` only during drop.
    commands: Option<ChildStdin>,
    results: Receiver<io::Result<String>>,
    port: u16,
    unit: UnitSource,
    function: u64,
}

impl Load {
    pub(crate) fn start() -> Result<Self> {
        let this = env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(this)
            .arg("--load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the load")?;
        let commands = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("its stdout is a pipe")?).lines();
        let (sender, results) = channel();
        // The thread ends with the load, whose pipe is then closed.
        thread::spawn(move || lines.map_while(|line| sender.send(line).ok()).for_each(drop));
        let unit = UnitSource::default();
        let mut load = Self { child, commands, results, port: 0, unit, function: 0 };
        cpu::measure_there(load.pid())?;
        let first = load.result(&mut || {})?;
        let mut words = first.split(' ').map(str::parse::<u64>);
        let mut next = || words.next().and_then(Result::ok).context("the load prints numbers first");
        load.port = u16::try_from(next()?)?;
        load.function = next()?;
        load.unit = goroutine::source();
        load.unit.words[go::G] = next()?;
        Ok(load)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The listening port of its TCP connection.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How its goroutine is read.
    pub(crate) fn unit(&self) -> UnitSource {
        self.unit
    }

    /// The address of the function that [`Operation::Function`] calls.
    pub(crate) fn function(&self) -> u64 {
        self.function
    }

    /// The time of one operation in the best window, in nanoseconds. `meanwhile` is called every millisecond.
    pub(crate) fn measure(&mut self, operation: Operation, meanwhile: &mut dyn FnMut()) -> Result<f64> {
        let commands = self.commands.as_mut().context("the load runs until it is dropped")?;
        writeln!(commands, "{}", operation.describe()).context("cannot send a command to the load")?;
        self.result(meanwhile)?.parse().context("the load prints a number")
    }

    fn result(&mut self, meanwhile: &mut dyn FnMut()) -> Result<String> {
        loop {
            match self.results.recv_timeout(Duration::from_millis(1)) {
                Ok(line) => return line.context("cannot read from the load"),
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                Err(RecvTimeoutError::Disconnected) => bail!("the load ended"),
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Closing its stdin ends the load.
        self.commands = None;
        let _ = self.child.wait();
    }
}

/// Is the load: executes the commands on stdin until it is closed.
pub(crate) fn serve() -> Result<()> {
    let (left, right) = UnixStream::pair().context("cannot make a unix socket pair")?;
    let mut unix = Ends::new(left, right);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    let client = TcpStream::connect(address).context("cannot connect on loopback")?;
    let (server, _) = listener.accept().context("cannot accept on loopback")?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut tcp = Ends::new(client, server);

    let mut out = io::stdout().lock();
    let running = Goroutine::run();
    let function = goroutine::round_trip as extern "C" fn() as usize;
    writeln!(out, "{} {function} {}", address.port(), goroutine::source().words[go::G])?;
    for command in io::stdin().lines() {
        let command = command?;
        let nanos = match Operation::named(&command).with_context(|| format!("unknown command \"{command}\""))? {
            Operation::UnixOneWay => best(|| unix.one_way())?,
            Operation::UnixConversation => best(|| unix.conversation())?,
            Operation::TcpOneWay => best(|| tcp.one_way())?,
            Operation::TcpConversation => best(|| tcp.conversation())?,
            Operation::Function => best(|| {
                for _ in 0..OPERATIONS_PER_ROUND {
                    running.call();
                }
                Ok(())
            })?,
            Operation::Other => best(|| {
                for _ in 0..OPERATIONS_PER_ROUND {
                    // SAFETY: getppid has no arguments and no effect.
                    black_box(unsafe { libc::getppid() });
                }
                Ok(())
            })?,
        };
        writeln!(out, "{nanos}")?;
        out.flush()?;
    }
    Ok(())
}

/// The time of one operation in the best window, in nanoseconds.
fn best(mut round: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let mut window = || {
        let start = Instant::now();
        for _ in 0..ROUNDS_PER_WINDOW {
            round()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS_PER_WINDOW * OPERATIONS_PER_ROUND))
    };
    let windows: io::Result<Vec<f64>> = (0..WINDOWS).map(|_| window()).collect();
    windows.map(least)
}

/// Both ends of a connection as files, which use read(2) and write(2).
struct Ends {
    left: File,
    right: File,
}

impl Ends {
    fn new(left: impl Into<OwnedFd>, right: impl Into<OwnedFd>) -> Self {
        Self { left: File::from(left.into()), right: File::from(right.into()) }
    }

    fn one_way(&mut self) -> io::Result<()> {
        pass(&mut self.left, &mut self.right)?;
        pass(&mut self.left, &mut self.right)
    }

    fn conversation(&mut self) -> io::Result<()> {
        pass(&mut self.left, &mut self.right)?;
        pass(&mut self.right, &mut self.left)
    }
}

fn pass(from: &mut File, to: &mut File) -> io::Result<()> {
    from.write_all(&MESSAGE)?;
    to.read_exact(&mut [0; MESSAGE.len()])
}
