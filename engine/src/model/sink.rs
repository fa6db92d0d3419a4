//! Where finished spans go: exporters, metrics, a store.

use onlooker_protocols::Exchange;

use super::span::{Ends, Span};

/// A finished exchange: its span, ready for export, and the facts the span was made from.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    pub span: &'a Span,
    pub exchange: &'a Exchange,
    pub ends: &'a Ends,
}

/// Receives every finished exchange, on the pipeline's thread.
///
/// A `Ticket` comes with each exchange. With it the sink says what became of the span: delivered, dropped, rejected.
/// A sink that always succeeds needs none, and is a `Sink<()>`. Dropping a sink closes it.
pub trait Sink<Ticket = ()> {
    /// Takes one exchange. Never blocks: what the sink has no room for, it drops and counts.
    fn put(&mut self, finished: Finished<'_>, ticket: &Ticket);
}
