//! The process that is measured, and the one that tells it what to do.
//!
//! It is this program, started again with `--load`: small, on a processor of its own, and the only one that is selected.
//! It is told through pipes, which are no sockets.

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

use crate::cpu;
use crate::statistics::least;

/// Windows per time that an operation is asked for.
const WINDOWS: usize = 300;
/// A window is short enough to fit between two interrupts: 0.5 ms on a unix socket.
const TURNS_PER_WINDOW: u32 = 250;
/// Four operations a turn: both ends write and read, or one end twice.
const OPERATIONS_PER_TURN: u32 = 4;
const MESSAGE: [u8; 64] = [b'x'; 64];

/// What can be asked of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// One end writes, the other reads: all is one run.
    UnixOneWay,
    /// Both ends write and read in turn: every operation begins a run, as requests and responses do.
    UnixConversation,
    TcpOneWay,
    TcpConversation,
    /// A system call that has nothing to do with sockets: getppid.
    Other,
}

pub(crate) const ON_SOCKETS: [Operation; 4] =
    [Operation::UnixOneWay, Operation::UnixConversation, Operation::TcpOneWay, Operation::TcpConversation];
pub(crate) const ALL: [Operation; 5] = [
    Operation::UnixOneWay,
    Operation::UnixConversation,
    Operation::TcpOneWay,
    Operation::TcpConversation,
    Operation::Other,
];

impl Operation {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::UnixOneWay => "unix socket, one way",
            Self::UnixConversation => "unix socket, in turns",
            Self::TcpOneWay => "loopback TCP, one way",
            Self::TcpConversation => "loopback TCP, in turns",
            Self::Other => "getppid",
        }
    }

    fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|operation| operation.describe() == name)
    }
}

/// The load, seen from the one who measures. Ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
    /// `None` only while it is dropped.
    orders: Option<ChildStdin>,
    answers: Receiver<io::Result<String>>,
    port: u16,
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
        let orders = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("its stdout is a pipe")?).lines();
        let (sender, answers) = channel();
        // Ends with the load, whose pipe then ends.
        thread::spawn(move || lines.map_while(|line| sender.send(line).ok()).for_each(drop));
        let mut load = Self { child, orders, answers, port: 0 };
        cpu::measure_there(load.pid())?;
        load.port = load.answer(&mut || {})?.parse().context("the load says on which port it listens")?;
        Ok(load)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port its TCP connection was accepted on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Nanoseconds that one operation takes in the best window; `meanwhile` is called every millisecond.
    pub(crate) fn measure(&mut self, operation: Operation, meanwhile: &mut dyn FnMut()) -> Result<f64> {
        let orders = self.orders.as_mut().context("the load has not been stopped")?;
        writeln!(orders, "{}", operation.describe()).context("cannot tell the load what to do")?;
        self.answer(meanwhile)?.parse().context("the load answers with a number")
    }

    fn answer(&mut self, meanwhile: &mut dyn FnMut()) -> Result<String> {
        loop {
            match self.answers.recv_timeout(Duration::from_millis(1)) {
                Ok(line) => return line.context("cannot hear the load"),
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                Err(RecvTimeoutError::Disconnected) => bail!("the load ended"),
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It ends when nobody gives it orders any more.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// Is the load: does what it is told on stdin, until that ends.
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
    writeln!(out, "{}", address.port())?;
    for order in io::stdin().lines() {
        let order = order?;
        let nanos = match Operation::named(&order).with_context(|| format!("cannot do \"{order}\""))? {
            Operation::UnixOneWay => best(|| unix.one_way())?,
            Operation::UnixConversation => best(|| unix.conversation())?,
            Operation::TcpOneWay => best(|| tcp.one_way())?,
            Operation::TcpConversation => best(|| tcp.conversation())?,
            Operation::Other => best(|| {
                for _ in 0..OPERATIONS_PER_TURN {
                    // SAFETY: no arguments, no effect.
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

/// Nanoseconds per operation in the best window of turns.
fn best(mut turn: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let mut window = || {
        let start = Instant::now();
        for _ in 0..TURNS_PER_WINDOW {
            turn()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(TURNS_PER_WINDOW * OPERATIONS_PER_TURN))
    };
    let windows: io::Result<Vec<f64>> = (0..WINDOWS).map(|_| window()).collect();
    windows.map(least)
}

/// Both ends of a connection, as files: read(2) and write(2), as most servers do it.
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
