//! Prints traces as trees, for people: each when it is complete.

mod render;

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::account::{Fate, Lane, Share, Ticket};
use onlooker_engine::assemble::{Assembly, Trace};
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::span::Span;
pub(crate) use render::Look;

/// The width of lines where nothing says how wide they may be.
const WIDTH: usize = 120;

/// Where the console exporter writes, and how it may look there.
pub struct Output {
    writer: Box<dyn Write + Send>,
    colour: bool,
    /// Asked for each trace: people resize their windows.
    width: Box<dyn Fn() -> usize + Send>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("colour", &self.colour).field("width", &(self.width)()).finish_non_exhaustive()
    }
}

impl Output {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        let width = || rustix::termios::tcgetwinsize(io::stdout()).map_or(WIDTH, |size| columns(size.ws_col));
        Self::to(io::stdout(), width)
    }

    /// Standard error: for `exec`, where standard output belongs to the command.
    #[must_use]
    pub fn stderr() -> Self {
        let width = || rustix::termios::tcgetwinsize(io::stderr()).map_or(WIDTH, |size| columns(size.ws_col));
        Self::to(io::stderr(), width)
    }

    /// Any writer, for lines of `width`, with or without colour.
    #[must_use]
    pub fn new(writer: impl Write + Send + 'static, width: usize, colour: bool) -> Self {
        Self { writer: Box::new(writer), colour, width: Box::new(move || width) }
    }

    /// Coloured if it is a terminal and nobody minds (<https://no-color.org>).
    fn to(stream: impl Write + IsTerminal + Send + 'static, width: impl Fn() -> usize + Send + 'static) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let colour = stream.is_terminal() && !unwanted && !dumb;
        Self { writer: Box::new(stream), colour, width: Box::new(width) }
    }
}

/// A terminal that does not know its width says 0.
fn columns(reported: u16) -> usize {
    if reported == 0 { WIDTH } else { usize::from(reported) }
}

/// The pipeline's end of the console's lane.
#[derive(Debug)]
pub(super) struct Sender {
    lane: Arc<Lane>,
    channel: UnboundedSender<(Span, Share)>,
}

/// The channel is bounded by what the lane admits, the spans held for assembly included.
pub(super) fn channel(lane: Arc<Lane>) -> (Sender, UnboundedReceiver<(Span, Share)>) {
    let (channel, receiver) = mpsc::unbounded_channel();
    (Sender { lane, channel }, receiver)
}

impl Sender {
    /// Takes a span of the ticket, if there is room for it.
    pub(super) fn put(&self, ticket: &Arc<Ticket>, span: &Span) {
        if !self.lane.has_room() {
            return self.lane.refuse(ticket, Fate::QueueFull);
        }
        let mut share = Share::new(ticket, &self.lane);
        share.grow();
        // If the exporter has ended, the share comes back with the error and is dropped: counted as failed.
        drop(self.channel.send((span.clone(), share)));
    }
}

/// Prints what comes until nothing more can, then what is left.
pub(super) async fn run(mut receiver: UnboundedReceiver<(Span, Share)>, output: Output, counters: Arc<Counters>) {
    /// How exactly "nothing came for a while" is judged.
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    let mut printer = Printer { output, failing: false, closed: false };
    let mut assembly = Assembly::default();
    let mut look_at = Instant::now();
    loop {
        let received = match assembly.is_empty() {
            true => Ok(receiver.recv().await),
            false => timeout_at(look_at, receiver.recv()).await,
        };
        let now = Instant::now();
        match received {
            Ok(Some((span, share))) => {
                if let Some(cut) = assembly.add(span, share, now.into_std()) {
                    counters.console_traces_cut.add(1);
                    printer.print(cut);
                }
            }
            Ok(None) => break,
            Err(_) => {}
        }
        if now >= look_at {
            look_at = now + LOOK_EVERY;
            for trace in assembly.complete(now.into_std()) {
                printer.print(trace);
            }
        }
    }
    for trace in assembly.drain() {
        printer.print(trace);
    }
}

struct Printer {
    output: Output,
    /// The last write failed; said once, not for each.
    failing: bool,
    /// Nobody reads any more (`| head`).
    closed: bool,
}

impl Printer {
    fn print(&mut self, trace: Trace<Share>) {
        let (spans, shares) = trace.into_parts();
        if self.closed {
            return;
        }
        let look = Look { width: (self.output.width)(), colour: self.output.colour };
        let text = render::trace(&spans, look);
        match self.output.writer.write_all(text.as_bytes()).and_then(|()| self.output.writer.flush()) {
            Ok(()) => {
                self.failing = false;
                for share in shares {
                    share.settle(Fate::Exported);
                }
            }
            Err(error) => {
                self.closed = error.kind() == ErrorKind::BrokenPipe;
                if !std::mem::replace(&mut self.failing, true) {
                    warn!("cannot print spans: {error}; spans are being lost");
                }
            }
        }
    }
}
