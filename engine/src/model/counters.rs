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
        pub struct Counters {
            $($(#[doc = $help])+ pub $name: Counter,)+
        }

        impl Counters {
            /// Name, meaning and value of each, in the order of their declaration.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($help),+).trim_ascii(), self.$name.get()),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Records taken from the kernel.
    events,
    /// Records that could not be read: kernel object and agent are of different builds.
    events_malformed,
    /// Processes that could not be judged because /proc did not tell what they are.
    processes_unreadable,
    /// Changes of processes that were not looked at, because too many were to be: all processes were looked through later.
    process_changes_missed,
    /// Processes that were asked for and could not be selected.
    processes_not_selected,
    /// Listening ports that the kernel side could not be told of: their connections count as calls.
    listeners_not_told,
    /// Requests whose completion the kernel side could not be told of.
    completions_not_told,
    /// Connections of which the kernel side could not be told to capture more.
    captures_not_raised,
    /// Connections that were followed.
    connections_seen,
    /// Connections that selected processes opened.
    connections_opened,
    /// Segments of connections that were not followed because too many were.
    connections_over_limit,
    /// Idle connections that were dropped to make room: their next request has no addresses.
    connections_evicted,
    /// Connections that speak TLS, which is not read yet.
    connections_tls,
    /// Connections that speak HTTP/2, which is not read yet.
    connections_http2,
    /// Connections that speak nothing there is a parser for.
    connections_unknown,
    /// Connections that stopped making sense and were looked at anew.
    connections_unparsable,
    /// Segments let through before what they waited for, because too many waited.
    segments_held_too_many,
    /// Segments that came when they had been declared missing.
    segments_too_late,
    /// Bytes of followed connections that no segment told of.
    bytes_missing,
    /// Responses whose request was not seen: it began before the agent, or its event was lost.
    responses_without_request,
    /// Requests that began.
    requests_begun,
    /// Of these, requests known only from the hole that their event left: their loss is counted as kernel_ring_full_requests
    /// or requests_lost_too_late.
    requests_untold,
    /// Requests that were given up because bytes of their head were not captured.
    requests_lost_head_missing,
    /// Requests that were given up because their response was not captured.
    requests_lost_response_missing,
    /// Requests that were given up because their connection stopped making sense.
    requests_lost_unparsable,
    /// Requests that were given up because more were open on their connection than are kept.
    requests_lost_too_many_open,
    /// Requests whose event came when it had been declared missing.
    requests_lost_too_late,
    /// Requests on connections that were not followed because too many were.
    requests_lost_over_limit,
    /// Requests that were lost when spans had been told that theirs is their parent.
    parents_lost,
    /// Calls that an OpenTelemetry SDK in the caller tells of itself: they are not told twice.
    spans_left_to_sdk,
    /// Parents found after the trace had been sent under another id: told as a link.
    parents_found_late,
    /// Spans of processes that could not be looked at in time: they go by the kernel's name of their process.
    spans_of_unknown_service,
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

impl Counters {
    /// Spans whose fate is known. When the agent ends, it is [`Self::spans_made`].
    pub fn spans_judged(&self) -> u64 {
        self.spans_exported.get()
            + self.spans_dropped_queue_full.get()
            + self.spans_dropped_export_failed.get()
            + self.spans_rejected_by_collector.get()
    }
}
