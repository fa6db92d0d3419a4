//! When spans begin and end, against what was measured by those who know: the client, or the program that calls.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::curl::Curl;
use crate::spans::{Span, of};

/// Spans' wall time is computed from monotonic time, read a few hundred nanoseconds apart.
const CLOCKS_APART: Duration = Duration::from_micros(20);

/// Nothing but the scheduler makes a span that is told rightly differ by all of the tolerance: half of them are within this
/// part of it.
const USUALLY_WITHIN: u32 = 2;

/// What a client measured of one exchange: nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Before the request's first byte was written.
    pub start: u64,
    /// After the response's last byte was read.
    pub end: u64,
    /// How long those who took part waited for a processor meanwhile, as far as it was looked at: the client always, the
    /// servers where [`World::timed`](crate::World::timed) did.
    pub held_up: Duration,
}

impl Measured {
    /// From the first byte sent to the last byte received.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }

    /// What a span may differ by.
    #[must_use]
    pub fn tolerance(&self) -> Duration {
        tolerance(self.duration())
    }

    /// How far start and end of `span` are from what was measured: the larger of both.
    #[must_use]
    pub fn distance(&self, span: &Span) -> Duration {
        Duration::from_nanos(self.start.abs_diff(span.start).max(self.end.abs_diff(span.end)))
    }

    /// What is wrong with the times of `span`, if anything.
    ///
    /// It can't begin before the request was sent. A call can't end after its answer was read; a server may be interrupted
    /// between the moment when the last byte leaves and that when its system call returns. For the rest it is the tolerance,
    /// and what the scheduler was seen to take.
    fn fault(&self, span: &Span) -> Option<String> {
        let off = |told: u64, measured: u64| (i128::from(told) - i128::from(measured)) / 1000;
        let (start, end) = (off(span.start, self.start), off(span.end, self.end));
        let micros = |duration: Duration| i128::try_from(duration.as_micros()).unwrap_or(i128::MAX);
        let (apart, allowed) = (micros(CLOCKS_APART), micros(self.tolerance() + self.held_up));
        let latest_end = if span.kind == "client" { apart } else { allowed };
        let right = (-apart..=allowed).contains(&start) && (-allowed..=latest_end).contains(&end);
        (!right).then(|| {
            format!(
                "{} {} {}: start {start} us, end {end} us from what was measured over {:?}, held up for {:?}",
                span.service,
                span.kind,
                span.name,
                self.duration(),
                self.held_up
            )
        })
    }
}

/// Fails unless the spans' times are those that were measured, each of them; and most nearer than has to be, by
/// [`USUALLY_WITHIN`].
///
/// Both are in order of their start.
pub fn expect_times(spans: &[Span], measured: &[Measured]) -> Result<()> {
    ensure!(spans.len() == measured.len(), "{} spans for {} exchanges", spans.len(), measured.len());
    let pairs = || spans.iter().zip(measured);
    let faults: Vec<_> = pairs().filter_map(|(span, measured)| measured.fault(span)).collect();
    ensure!(faults.is_empty(), "{} of {} spans' times are off:\n{}", faults.len(), spans.len(), faults.join("\n"));
    let near = |(span, measured): &(&Span, &Measured)| {
        measured.distance(span) <= measured.tolerance() / USUALLY_WITHIN + measured.held_up
    };
    let distances: Vec<_> = pairs().map(|(span, measured)| (measured.distance(span), measured.held_up)).collect();
    ensure!(
        pairs().filter(near).count() * 2 >= spans.len(),
        "most of the spans are further off than usual; distances, and for how long the exchange was held up: {distances:?}"
    );
    Ok(())
}

/// Fails unless the spans of curl's calls take as long as each of these curls said of its own, one after another.
pub fn expect_curls_times(spans: &[Span], curls: &[Curl]) -> Result<()> {
    /// curl says microseconds.
    const ROUNDED: Duration = Duration::from_micros(2);
    let calls = of(spans, "curl", "client");
    ensure!(calls.len() == curls.len(), "{} spans of {} curls", calls.len(), curls.len());
    for (span, curl) in calls.iter().zip(curls) {
        let (told, took) = (curl.exchange(), span.duration());
        let tolerance = tolerance(told) + curl.held_up;
        ensure!(
            took.abs_diff(told) <= tolerance && took <= curl.since_connected() + ROUNDED,
            "a span of {took:?} is not what curl says:\n{curl:?}"
        );
    }
    Ok(())
}

/// What a span of something that took so long may differ by: a millisecond, or five percent.
fn tolerance(duration: Duration) -> Duration {
    (duration / 20).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Measured, expect_times};
    use crate::spans::{Span, spans};

    const MILLISECOND: i64 = 1_000_000;

    fn span(kind: u8, start: i64, end: i64) -> Span {
        let span = json!({"kind": kind, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string()});
        spans(&[json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})]).unwrap().remove(0)
    }

    #[test]
    fn every_span_is_held_to_what_cause_and_the_scheduler_allow() {
        const SERVER: u8 = 2;
        const CLIENT: u8 = 3;
        let (start, end) = (1000 * MILLISECOND, 1010 * MILLISECOND);
        let good = |kind, (from, to)| {
            let held_up = Duration::from_millis(3);
            let measured = Measured { start: start as u64, end: end as u64, held_up };
            // Beside two that are exact.
            let spans = [span(kind, start, end), span(kind, start, end), span(kind, start + from, end + to)];
            expect_times(&spans, &[measured; 3]).is_ok()
        };
        assert!(good(SERVER, (MILLISECOND, MILLISECOND)) && good(CLIENT, (MILLISECOND, -MILLISECOND)));
        // What the scheduler took.
        assert!(good(SERVER, (4 * MILLISECOND, 4 * MILLISECOND)) && !good(SERVER, (5 * MILLISECOND, 0)));
        assert!(!good(SERVER, (0, 5 * MILLISECOND)) && !good(SERVER, (0, -5 * MILLISECOND)));
        // Before it was asked; after it was answered.
        assert!(!good(SERVER, (-MILLISECOND, 0)) && !good(CLIENT, (0, MILLISECOND)));
    }

    #[test]
    fn most_are_nearer_than_each_has_to_be() {
        let measured = Measured { start: 0, end: 10_000_000, held_up: Duration::from_micros(100) };
        let near = span(2, 500_000, 10_000_000);
        let far = span(2, 700_000, 10_000_000);
        assert!(expect_times(&[near.clone(), far.clone()], &[measured; 2]).is_ok());
        assert!(expect_times(&[near, far.clone(), far], &[measured; 3]).is_err());
    }
}
