//! Prints traces as trees, for people. Each trace is printed when it is complete.

mod render;

use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::account::{Fate, Share, SinkQueue, Ticket};
use super::error::StartError;
use super::output::Output;
use super::starter::{BoxedSink, SinkRow, Starter};
use onlooker_engine::assemble::{Assembly, Trace};
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::sink::{Finished, Sink};
use onlooker_engine::model::span::Span;
pub(crate) use render::Look;

pub(super) const CONSOLE: SinkRow = SinkRow {
    name: "console",
    is_listed: true,
    is_implied: |_, _| false,
    configure: |_, _, config| {
        config.console = true;
        Ok(())
    },
    start,
};

fn start(starter: &mut Starter<'_>) -> Result<Option<BoxedSink>, StartError> {
    let Some(output) = starter.output.take().filter(|_| starter.config.console) else { return Ok(None) };
    let (spans, receiver) = mpsc::unbounded_channel();
    let sink = ConsoleSink { queue: starter.queue(), spans };
    let counters = Arc::clone(&starter.counters);
    starter.threads.spawn("export-console", move || Ok(run(receiver, output, counters)))?;
    Ok(Some(Box::new(sink)))
}

/// Passes copies of spans to the console's thread.
#[derive(Debug)]
struct ConsoleSink {
    queue: Arc<SinkQueue>,
    /// Bounded by the queue, which also counts the spans held for assembly.
    spans: UnboundedSender<(Span, Share)>,
}

impl Sink<Arc<Ticket>> for ConsoleSink {
    fn put(&self, Finished { span, .. }: Finished<'_>, ticket: &Arc<Ticket>) {
        if !self.queue.has_room() {
            return self.queue.refuse(ticket, Fate::QueueFull);
        }
        let mut share = Share::new(ticket, &self.queue);
        share.grow();
        // If the thread has ended, the share comes back in the error. It is dropped, and counts as failed.
        drop(self.spans.send((span.clone(), share)));
    }
}

/// Prints traces until the sink is dropped, then the remaining ones.
async fn run(mut receiver: UnboundedReceiver<(Span, Share)>, output: Output, counters: Arc<Counters>) {
    /// How often complete traces are looked for.
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
    /// The last write failed. This is logged once, not for each trace.
    failing: bool,
    /// The reader has gone (`| head`).
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
