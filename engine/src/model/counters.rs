//! Every counter of the agent. Whatever is lost anywhere is counted here under a name.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use onlooker_protocols::{PROTOCOLS, Spec, tls};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one protocol.
#[derive(Debug, Default)]
pub struct ProtocolCounters {
    /// Connections, and datagram flows, that speak the protocol.
    pub connections: Counter,
    /// Bytes that passed on them, in both directions.
    pub bytes: Counter,
}

/// A counter as users see it: name, meaning, value.
pub type Line = (Cow<'static, str>, Cow<'static, str>, u64);

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// The counters of one agent, shared by its threads.
        ///
        /// ```
        /// use onlooker_engine::model::counters::Counters;
        /// use onlooker_protocols::http1;
        ///
        /// let counters = Counters::default();
        /// counters.requests_begun.add(2);
        /// counters.protocol(&http1::SPEC).expect("a row of the table").connections.add(1);
        /// let lines: Vec<_> = counters.all().filter(|(_, _, value)| *value > 0).collect();
        /// assert_eq!(lines[0].0, "requests_begun");
        /// assert_eq!(lines[1].0, "connections_http1");
        /// ```
        #[derive(Debug)]
        pub struct Counters {
            protocols: &'static [&'static Spec],
            by_protocol: Box<[ProtocolCounters]>,
            $($(#[doc = $help])+ pub $name: Counter,)+
        }

        impl Counters {
            /// Counters for the protocols of a table.
            #[must_use]
            pub fn new(protocols: &'static [&'static Spec]) -> Self {
                let by_protocol = protocols.iter().map(|_| ProtocolCounters::default()).collect();
                Self { protocols, by_protocol, $($name: Counter::default(),)+ }
            }

            fn named(&self) -> impl Iterator<Item = Line> {
                let lines: [(&'static str, &'static str, u64); _] =
                    [$((stringify!($name), concat!($($help),+).trim_ascii(), self.$name.get()),)+];
                lines.into_iter().map(|(name, meaning, value)| (name.into(), meaning.into(), value))
            }
        }
    };
}

counters! {
    /// Records taken from the kernel.
    events,
    /// Records that could not be read: the kernel programs and the agent are of different builds.
    events_malformed,
    /// Processes that could not be judged, because /proc did not show what they are.
    processes_unreadable,
    /// Processes that ended before it was known whether they match a selector. They are not traced.
    processes_ended_undecided,
    /// Records dropped because it was not known in time whether their process is selected.
    records_dropped_undecided,
    /// Changes of processes that were not looked at, because too many came at once. All processes were looked at later.
    process_changes_missed,
    /// Processes that matched a selector and could not be selected.
    processes_not_selected,
    /// Processes whose unit of work is not read, because it is not known where their runtime has it. Fewer of their calls have
    /// parents.
    units_unread,
    /// Functions of selected processes that could not be observed. Fewer of their calls have parents.
    functions_not_observed,
    /// Processes that were not searched for TLS libraries, because too many had to be at once. Their TLS may not be read.
    tls_looks_missed,
    /// Listening ports that could not be passed to the kernel programs. Their connections count as calls.
    listeners_not_registered,
    /// Completed requests that could not be passed to the kernel programs.
    completions_not_reported,
    /// Connections and processes for which the kernel programs could not be asked to capture more, or less.
    captures_not_raised,
    /// Connections that were followed.
    connections_seen,
    /// Connections that selected processes opened.
    connections_opened,
    /// Connections whose beginning was not recorded, because their process was not traced then. Earlier requests are missing.
    connections_begun_unseen,
    /// Segments dropped because their connection was one too many to follow.
    connections_over_limit,
    /// Idle connections dropped to make room. The spans of their later requests have no addresses.
    connections_evicted,
    /// Connections whose protocol was not recognised.
    connections_unknown,
    /// Connections that could not be parsed any further. Their protocol was detected anew.
    connections_unparsable,
    /// Of connections_tls, connections whose plaintext was recorded in the process's TLS library.
    connections_tls_read,
    /// Of connections_tls_read, connections that began while the process's TLS library was not yet read. Earlier requests are missing.
    connections_tls_read_late,
    /// Of connections_tls, connections of JVMs whose TLS is not read. Run with --java, or see `onlooker doctor --pid`.
    connections_tls_java,
    /// Of connections_tls, connections of processes with a TLS library that is recognised and not read: NSS, Mbed TLS, wolfSSL or s2n-tls.
    connections_tls_unsupported,
    /// Processes in cgroups whose requests get no `traceparent`: the root cgroup, or one that could not be attached to.
    processes_not_injected,
    /// JVMs that could not be made to load the library of --java. The log says why. Their TLS is not read.
    jvms_not_loaded,
    /// Plaintext streams whose socket did not become known in time. Their spans have no addresses.
    plaintext_untied,
    /// Datagrams dropped because their flow was one too many to follow.
    datagrams_over_limit,
    /// Datagrams that could not be parsed.
    datagrams_unparsable,
    /// Segments delivered before the bytes they waited for, because too many waited.
    segments_held_too_many,
    /// Segments dropped because they came after their bytes had been declared missing.
    segments_too_late,
    /// Bytes of followed connections that no segment reported.
    bytes_missing,
    /// Responses whose request was not seen: it began before the agent, or its record was lost.
    responses_without_request,
    /// Times that an end of an HTTP/2 connection chose a table of header fields of more than 64 KiB. Fields that refer to its
    /// older entries are unknown.
    http2_tables_not_kept,
    /// Prepared statements and portals of PostgreSQL that were dropped, because their connection has more than 1,024 of them or
    /// more than 512 KiB of their SQL. Requests that use one have no SQL.
    postgres_statements_forgotten,
    /// Requests that began.
    requests_begun,
    /// Requests that lasted longer than `--request-age`. Their end is awaited up to twelve times as long.
    requests_aged,
    /// Requests whose end was awaited no longer, after twelve times `--request-age` or because too many were aged. Their spans
    /// are marked as aged.
    requests_given_up,
    /// Of these, requests known only from the hole that their lost record left. kernel_ring_full_requests or
    /// requests_lost_too_late counts the loss.
    requests_discarded,
    /// Requests that prepared a statement and are part of the span of its execution.
    requests_folded,
    /// Requests given up because bytes of their head were not captured.
    requests_lost_head_missing,
    /// Requests given up because their response was not captured.
    requests_lost_response_missing,
    /// Requests given up because their connection could not be parsed any further.
    requests_lost_unparsable,
    /// Requests given up because too many were open on their connection.
    requests_lost_too_many_open,
    /// Requests whose record came after its bytes had been declared missing.
    requests_lost_too_late,
    /// Requests on connections that were too many to follow.
    requests_lost_over_limit,
    /// Requests without a span because the configuration says so: by their path, by their protocol, or by a rule that excludes their
    /// process.
    requests_ignored,
    /// Requests without a span because they belong to one that is ignored.
    requests_below_ignored,
    /// Requests that were open when a rule, or a change of the rules, ended the recording of their process. Their spans end then, and
    /// are marked as deselected.
    requests_deselected,
    /// Requests that were lost after their id was exported as a parent.
    parents_lost,
    /// Calls whose span an OpenTelemetry SDK in the caller reports. Onlooker does not report them again.
    spans_left_to_sdk,
    /// Parents found after the trace had been exported under another id. They are span links.
    parents_found_late,
    /// Spans settled before it was known who responded to the requests that may own them: after ten seconds, or because too
    /// many spans waited.
    parents_not_awaited,
    /// Units of work (threads, tasks) that were forgotten because there were too many. Their background calls may get a likely
    /// parent.
    units_forgotten,
    /// Spans of processes that could not be examined in time. Their service has the kernel's name of the process.
    spans_of_unknown_service,
    /// Kubernetes pods of this node that became known.
    pods_seen,
    /// Failed attempts to list or watch the pods of this node. Known pods keep their attributes.
    pod_watch_errors,
    /// Pods of this node that were not kept, because there were too many. Their spans have no attributes of the pod.
    pods_over_limit,
    /// Spans of containers in pods that were not known in time. They have the `container.id`, and no attributes of the pod. Where
    /// pods are followed, also spans of processes that ended before it was known whether they ran in a container.
    spans_without_pod,
    /// Spans of known pods for which it was not known in time which of the pod's containers sent them.
    spans_without_container_name,
    /// Spans handed to the exporters.
    spans_made,
    /// Spans that all exporters delivered.
    spans_exported,
    /// Spans dropped because an export queue was full: the collector is slow or down.
    spans_dropped_queue_full,
    /// Spans that the collector refused, or that no retry could deliver.
    spans_dropped_export_failed,
    /// Spans that the collector rejected from a request it accepted (OTLP partial success).
    spans_rejected_by_collector,
    /// Deliveries that failed and were tried again.
    export_retries,
    /// Traces that the console printed before they were complete, because it held too many.
    console_traces_cut,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new(PROTOCOLS)
    }
}

impl Counters {
    /// The table of protocols.
    pub fn protocols(&self) -> &'static [&'static Spec] {
        self.protocols
    }

    /// The counters of a protocol of the table.
    #[must_use]
    pub fn protocol(&self, protocol: &Spec) -> Option<&ProtocolCounters> {
        let index = self.protocols.iter().position(|row| **row == *protocol)?;
        self.by_protocol.get(index)
    }

    /// Each counter: those of the agent in the order of their declaration, then those of each protocol.
    pub fn all(&self) -> impl Iterator<Item = Line> {
        let by_protocol = self.protocols.iter().zip(&self.by_protocol).flat_map(|(protocol, counters)| {
            let Spec { name, title, .. } = protocol;
            let is_readable = protocol.parser.is_some() || **protocol == tls::SPEC;
            let not_parsed = if is_readable { "" } else { ", which is not parsed" };
            let connections = format!("Connections that speak {title}{not_parsed}.");
            [
                (format!("connections_{name}").into(), connections.into(), counters.connections.get()),
                (
                    format!("bytes_{name}").into(),
                    format!("Bytes on connections that speak {title}.").into(),
                    counters.bytes.get(),
                ),
            ]
        });
        self.named().chain(by_protocol)
    }

    /// Spans whose fate is known. When the agent ends, their number is [`Self::spans_made`].
    pub fn spans_judged(&self) -> u64 {
        self.spans_exported.get()
            + self.spans_dropped_queue_full.get()
            + self.spans_dropped_export_failed.get()
            + self.spans_rejected_by_collector.get()
    }
}
