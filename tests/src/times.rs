//! Compares spans' times with what the client, or the calling program, measured.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::curl::Curl;
use crate::spans::{Span, of_service};

/// Spans' wall-clock times are computed from monotonic time. The two clocks are read a few hundred nanoseconds apart.
const CLOCKS_APART: Duration = Duration::from_micros(20);

/// Only scheduling makes a correct span differ by the whole tolerance. At least half of the spans must be within this
/// fraction of it.
const USUAL_FRACTION: u32 = 2;

/// The times of one exchange as its client measured them, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Before writing the request's first byte.
    pub start: u64,
    /// After reading the response's last byte.
    pub end: u64,
    /// Scheduling delay during the exchange: of the client, and, if measured with
    /// [`World::timed`](crate::World::timed), of the watched servers.
    pub scheduling_delay: Duration,
}

impl Measured {
    /// From the first byte sent to the last byte received.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }

    /// How much a span may differ from this.
    #[must_use]
    pub fn tolerance(&self) -> Duration {
        tolerance(self.duration())
    }

    /// The difference between `span` and this: that of the starts or that of the ends, whichever is larger.
    #[must_use]
    pub fn distance(&self, span: &Span) -> Duration {
        Duration::from_nanos(self.start.abs_diff(span.start).max(self.end.abs_diff(span.end)))
    }

    /// Describes what is wrong with the times of `span`, if anything.
    ///
    /// No span begins before the request was sent. A client span cannot end after its response was read. A server span can:
    /// the server may be interrupted after the last byte left and before its system call returns. Otherwise, the tolerance
    /// plus the scheduling delay is allowed.
    fn fault(&self, span: &Span) -> Option<String> {
        let off = |span: u64, measured: u64| (i128::from(span) - i128::from(measured)) / 1000;
        let (start, end) = (off(span.start, self.start), off(span.end, self.end));
        let micros = |duration: Duration| i128::try_from(duration.as_micros()).unwrap_or(i128::MAX);
        let (apart, allowed) = (micros(CLOCKS_APART), micros(self.tolerance() + self.scheduling_delay));
        let latest_end = if span.kind == "client" { apart } else { allowed };
        let right = (-apart..=allowed).contains(&start) && (-allowed..=latest_end).contains(&end);
        (!right).then(|| {
            format!(
                "{} {} {}: start {start} us, end {end} us from what was measured over {:?}, with a scheduling delay of {:?}",
                span.service,
                span.kind,
                span.name,
                self.duration(),
                self.scheduling_delay
            )
        })
    }
}

/// Fails unless each span's times match its measurement, and most match it closely (see [`USUAL_FRACTION`]).
///
/// Both slices are in order of start time.
pub fn expect_times(spans: &[Span], measured: &[Measured]) -> Result<()> {
    ensure!(spans.len() == measured.len(), "{} spans for {} exchanges", spans.len(), measured.len());
    let pairs = || spans.iter().zip(measured);
    let faults: Vec<_> = pairs().filter_map(|(span, measured)| measured.fault(span)).collect();
    ensure!(faults.is_empty(), "{} of {} spans' times are off:\n{}", faults.len(), spans.len(), faults.join("\n"));
    let is_close = |(span, measured): &(&Span, &Measured)| {
        measured.distance(span) <= measured.tolerance() / USUAL_FRACTION + measured.scheduling_delay
    };
    let distances: Vec<_> =
        pairs().map(|(span, measured)| (measured.distance(span), measured.scheduling_delay)).collect();
    ensure!(
        pairs().filter(is_close).count() * 2 >= spans.len(),
        "fewer than half of the spans are close; distances and scheduling delays: {distances:?}"
    );
    Ok(())
}

/// Fails unless the spans of curl's calls take as long as each curl reported. Both are in order of start time.
pub fn expect_curls_times(spans: &[Span], curls: &[Curl]) -> Result<()> {
    /// curl reports microseconds.
    const ROUNDED: Duration = Duration::from_micros(2);
    let calls = of_service(spans, "curl", "client");
    ensure!(calls.len() == curls.len(), "{} spans of {} curls", calls.len(), curls.len());
    for (span, curl) in calls.iter().zip(curls) {
        let (reported, took) = (curl.exchange(), span.duration());
        let tolerance = tolerance(reported) + curl.scheduling_delay;
        ensure!(
            took.abs_diff(reported) <= tolerance && took <= curl.since_connected() + ROUNDED,
            "a span of {took:?} differs from curl's report:\n{curl:?}"
        );
    }
    Ok(())
}

/// The tolerance for a span of this duration: one millisecond or five percent, whichever is more.
fn tolerance(duration: Duration) -> Duration {
    (duration / 20).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Measured, expect_times};
    use crate::spans::{Span, from_requests};

    const MILLISECOND: i64 = 1_000_000;

    fn span(kind: u8, start: i64, end: i64) -> Span {
        let span = json!({"kind": kind, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string()});
        from_requests(&[json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})]).unwrap().remove(0)
    }

    #[test]
    fn a_span_may_differ_by_tolerance_and_scheduling_delay_only() {
        const SERVER: u8 = 2;
        const CLIENT: u8 = 3;
        let (start, end) = (1000 * MILLISECOND, 1010 * MILLISECOND);
        let good = |kind, (from, to)| {
            let scheduling_delay = Duration::from_millis(3);
            let measured = Measured { start: start as u64, end: end as u64, scheduling_delay };
            // Two exact spans make sure that most are close.
            let spans = [span(kind, start, end), span(kind, start, end), span(kind, start + from, end + to)];
            expect_times(&spans, &[measured; 3]).is_ok()
        };
        assert!(good(SERVER, (MILLISECOND, MILLISECOND)) && good(CLIENT, (MILLISECOND, -MILLISECOND)));
        // Within and beyond the scheduling delay.
        assert!(good(SERVER, (4 * MILLISECOND, 4 * MILLISECOND)) && !good(SERVER, (5 * MILLISECOND, 0)));
        assert!(!good(SERVER, (0, 5 * MILLISECOND)) && !good(SERVER, (0, -5 * MILLISECOND)));
        // Before the request was sent; after the response was read.
        assert!(!good(SERVER, (-MILLISECOND, 0)) && !good(CLIENT, (0, MILLISECOND)));
    }

    #[test]
    fn most_spans_must_be_close() {
        let measured = Measured { start: 0, end: 10_000_000, scheduling_delay: Duration::from_micros(100) };
        let near = span(2, 500_000, 10_000_000);
        let far = span(2, 700_000, 10_000_000);
        assert!(expect_times(&[near.clone(), far.clone()], &[measured; 2]).is_ok());
        assert!(expect_times(&[near, far.clone(), far], &[measured; 3]).is_err());
    }
}
