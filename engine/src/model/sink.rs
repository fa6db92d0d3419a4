//! Where finished spans go: exporters, metrics, a store.

use std::fmt;

use onlooker_protocols::Exchange;

use super::span::{Ends, Span};

/// A finished exchange: its span, ready for export, and the facts that the span was made from.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    pub span: &'a Span,
    pub exchange: &'a Exchange,
    pub ends: &'a Ends,
}

/// Receives every finished exchange, on the pipeline's thread. Dropping a sink closes it.
///
/// A `Ticket` comes with each exchange. With it the sink reports what became of the span: delivered, dropped, rejected. A
/// sink that always succeeds needs none, and is a `Sink<()>`:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// use onlooker_engine::model::sink::{Finished, Sink};
///
/// /// Counts server errors by the facts, without a look at encoded attributes.
/// #[derive(Debug, Default)]
/// struct ServerErrors(AtomicU64);
///
/// impl Sink for ServerErrors {
///     fn put(&self, finished: Finished<'_>, _ticket: &()) {
///         let status = finished.exchange.facts.as_http().and_then(|http| http.status);
///         self.0.fetch_add(u64::from(status >= Some(500)), Relaxed);
///     }
/// }
/// ```
pub trait Sink<Ticket = ()>: fmt::Debug + Send {
    /// Takes one exchange. Never blocks: what the sink has no room for, it drops and counts.
    fn put(&self, finished: Finished<'_>, ticket: &Ticket);
}
