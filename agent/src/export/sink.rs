//! What a sink does.

use std::fmt;
use std::sync::Arc;

use onlooker_engine::model::span::Span;

use super::account::Ticket;

/// Takes spans on the pipeline's thread, and exports them on a thread of its own. When it is dropped, what it holds is
/// exported without further delay.
pub(super) trait SpanSink: fmt::Debug + Send {
    /// Takes a span of `ticket`, or refuses it, which is counted. Never waits.
    fn put(&self, ticket: &Arc<Ticket>, span: &Span);
}
