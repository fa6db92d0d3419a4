//! Every counter of the agent, by name. What is lost anywhere is counted here and nowhere silently.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// The agent's own counters, one instance per agent, shared by its threads.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $name: Counter,)+
        }

        impl Metrics {
            /// Name, meaning and value of each, in the order of their declaration.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($help),+).trim_ascii(), self.$name.get()),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Spans handed to the exporters.
    spans_made,
    /// Spans an exporter delivered (for several exporters: all of them).
    spans_exported,
    /// Spans dropped because the export queue was full (the collector is slow or dead).
    spans_dropped_queue_full,
    /// Spans the collector refused or that could not be delivered within the retries.
    spans_dropped_export_failed,
    /// Spans a collector accepted the request of, but said it rejected (OTLP partial success).
    spans_rejected_by_collector,
    /// Deliveries that failed and were tried again.
    export_retries,
    /// Traces the console printed before they were complete, because it held too many.
    console_traces_cut,
}

impl Metrics {
    /// Spans whose fate is known. When the agent ends, it is [`Self::spans_made`].
    pub fn spans_judged(&self) -> u64 {
        self.spans_exported.get()
            + self.spans_dropped_queue_full.get()
            + self.spans_dropped_export_failed.get()
            + self.spans_rejected_by_collector.get()
    }
}
