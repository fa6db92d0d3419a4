//! Draws a trace as a tree: one line a span, with its service, when it was in the trace's time, and how long it took.
//!
//! Names come from the wire. What would move a terminal's cursor or turn its text around is replaced before it is shown.

use std::fmt::Write;

use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::span::{Evidence, Span};

/// What the lines may be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: usize,
    pub(crate) colour: bool,
}

const NARROWEST: usize = 60;
const LONGEST_SERVICE: usize = 20;
const LONGEST_ERROR: usize = 24;
/// "999.9 ms", right-aligned.
const DURATION: usize = 9;
/// Below this a bar says nothing.
const SHORTEST_BAR: usize = 10;
/// Deeper spans are drawn no further to the right.
const DEEPEST_INDENT: usize = 24;

const NOT_SEEN: &str = "(parent not seen)";

// Select Graphic Rendition (ECMA-48 8.3.117).
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
/// Told apart on light and dark grounds; red is for errors.
const SERVICE_COLOURS: [&str; 5] = ["36", "32", "33", "35", "34"];

/// One line of the tree.
struct Row<'a> {
    /// The branches left of the name.
    branches: String,
    /// None where the parent would stand that was not seen.
    span: Option<&'a Span>,
}

/// The text of one trace, ending in an empty line.
pub(super) fn trace(spans: &[Span], look: Look) -> String {
    let width = look.width.max(NARROWEST);
    let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
    let end = spans.iter().map(|span| span.end).max().unwrap_or(0);
    let mut services: Vec<&str> = Vec::new();
    for span in spans {
        if !services.contains(&span.service.name.as_str()) {
            services.push(&span.service.name);
        }
    }
    let rows = rows(spans);
    let names: Vec<String> = rows.iter().map(name).collect();
    let errors: Vec<String> = rows.iter().map(|row| row.span.map(error).unwrap_or_default()).collect();

    // Two spaces stand between columns.
    let name_width = names.iter().map(|name| length(name)).max().unwrap_or(0).min(width / 2);
    let service_width = services.iter().map(|s| length(&clean(s))).max().unwrap_or(0).min(LONGEST_SERVICE);
    let error_width = errors.iter().map(|error| length(error)).max().unwrap_or(0).min(LONGEST_ERROR);
    let error_column = if error_width == 0 { 0 } else { 2 + error_width };
    let bar_width = width.saturating_sub(name_width + 2 + service_width + 2 + 2 + DURATION + error_column);
    let bar_width = if bar_width < SHORTEST_BAR { 0 } else { bar_width };

    let paint = |code: &str, text: &str| {
        if look.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut out = String::new();
    let trace_id = spans.first().map(|span| span.trace_id.to_string()).unwrap_or_default();
    let heading = format!(
        "trace {trace_id}  {}  {}, {}, {}",
        time_of_day(start),
        counted(spans.len(), "span"),
        counted(services.len(), "service"),
        duration(end.saturating_sub(start)),
    );
    let _ = writeln!(out, "{}", paint(BOLD, &heading));
    for ((row, name), error) in rows.iter().zip(&names).zip(&errors) {
        let name = padded(name, name_width);
        let Some(span) = row.span else {
            let _ = writeln!(out, "{}", paint(DIM, name.trim_end()));
            continue;
        };
        let service = padded(&clean(&span.service.name), service_width);
        let place = services.iter().position(|service| *service == span.service.name).unwrap_or(0);
        let colour = SERVICE_COLOURS[place % SERVICE_COLOURS.len()];
        let name = if error.is_empty() { name } else { paint(RED, &name) };
        let _ = write!(out, "{name}  {}  ", paint(colour, &service));
        if bar_width > 0 {
            let bar = bar(span, start, end, bar_width);
            let _ = write!(out, "{}", paint(if error.is_empty() { colour } else { RED }, &bar));
        }
        let _ = write!(out, "  {:>DURATION$}", duration(span.end.saturating_sub(span.start)));
        if !error.is_empty() {
            let _ = write!(out, "  {}", paint(RED, shortened(error, error_width).as_str()));
        }
        out.push('\n');
    }
    out.push('\n');
    out
}

/// The spans in the order of their lines: children below their parent, by start.
fn rows(spans: &[Span]) -> Vec<Row<'_>> {
    let here: FxHashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
    let mut children: FxHashMap<SpanId, Vec<&Span>> = FxHashMap::default();
    let mut roots = Vec::new();
    let mut orphans = Vec::new();
    for span in spans {
        match span.parent {
            Some(parent) if here.contains(&parent.span_id) => children.entry(parent.span_id).or_default().push(span),
            Some(parent) if !parent.remote => orphans.push(span),
            _ => roots.push(span),
        }
    }
    let by_start = |spans: &mut Vec<&Span>| spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    children.values_mut().for_each(by_start);
    by_start(&mut roots);

    let mut rows = Vec::with_capacity(spans.len() + 1);
    for root in roots {
        descend(root, "", "", &mut children, &mut rows);
    }
    // Parents that name each other in a circle are nobody's children either; no wire can be trusted not to.
    let mut drawn: FxHashSet<SpanId> = rows.iter().filter_map(|row| Some(row.span?.span_id)).collect();
    if drawn.len() < here.len() {
        orphans.extend(spans.iter().filter(|span| span.parent.is_some_and(|p| here.contains(&p.span_id))));
        by_start(&mut orphans);
        // Those with a parent in the circle come last: they are drawn below others if they can be.
        orphans.sort_by_key(|span| span.parent.is_some_and(|parent| here.contains(&parent.span_id)));
        rows.push(Row { branches: String::new(), span: None });
        for orphan in orphans {
            if !drawn.contains(&orphan.span_id) {
                let first = rows.len();
                descend(orphan, "└ ", "  ", &mut children, &mut rows);
                drawn.extend(rows[first..].iter().filter_map(|row| Some(row.span?.span_id)));
            }
        }
    }
    rows
}

/// Draws `span` and what is below it. Children are taken out as they are drawn, so that no circle goes round twice.
fn descend<'a>(
    span: &'a Span,
    own: &str,
    below: &str,
    children: &mut FxHashMap<SpanId, Vec<&'a Span>>,
    rows: &mut Vec<Row<'a>>,
) {
    let mut open = vec![(span, own.to_owned(), below.to_owned())];
    while let Some((span, branches, below)) = open.pop() {
        rows.push(Row { branches, span: Some(span) });
        let mut spans = children.remove(&span.span_id).unwrap_or_default();
        let deep = length(&below) >= DEEPEST_INDENT;
        // The last is drawn last, so it is put on the stack first.
        let mut last = true;
        while let Some(child) = spans.pop() {
            let (branch, under) = if last { ("└ ", "  ") } else { ("├ ", "│ ") };
            last = false;
            let under = if deep { below.clone() } else { format!("{below}{under}") };
            open.push((child, format!("{below}{branch}"), under));
        }
    }
}

/// The first column: branches, kind and name, and how a parent is known where that is not certain.
fn name(row: &Row<'_>) -> String {
    let Some(span) = row.span else { return NOT_SEEN.to_owned() };
    let kind = match span.kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    };
    let mut text = format!("{}{kind} {}", row.branches, clean(&span.name));
    if let Some(parent) = &span.parent
        && !certain(parent.evidence)
    {
        let _ = write!(text, " ({}?)", parent.evidence.as_str());
    }
    text
}

/// The rungs on which a wrong parent would be a bug; the others are likely and shown to be so.
fn certain(evidence: Evidence) -> bool {
    matches!(evidence, Evidence::Wire | Evidence::Host | Evidence::Thread | Evidence::Responder)
}

/// What went wrong, or nothing.
fn error(span: &Span) -> String {
    let Status::Error { description } = &span.status else { return String::new() };
    let kind = match span.attribute("error.type") {
        Some(Value::String(kind)) => kind.as_str(),
        _ => description,
    };
    format!("✗ {}", clean(if kind.is_empty() { "error" } else { kind }))
}

fn bar(span: &Span, start: u64, end: u64, width: usize) -> String {
    let total = end.saturating_sub(start).max(1) as f64;
    let place = |at: u64| at.saturating_sub(start) as f64 / total * width as f64;
    let from = (place(span.start) as usize).min(width - 1);
    let to = (place(span.end).ceil() as usize).clamp(from + 1, width);
    format!("{}{}{}", " ".repeat(from), "━".repeat(to - from), " ".repeat(width - to))
}

/// Three digits and a unit.
fn duration(nanoseconds: u64) -> String {
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (nanoseconds as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanoseconds as f64 / 1e6, "ms"),
        _ => (nanoseconds as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// The time of a day in UTC, to the millisecond.
fn time_of_day(unix_nanoseconds: u64) -> String {
    let milliseconds = unix_nanoseconds / 1_000_000 % 86_400_000;
    let seconds = milliseconds / 1_000;
    format!("{:02}:{:02}:{:02}.{:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60, milliseconds % 1_000)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `text` without what a terminal would act upon: controls, and marks that turn the direction of text.
fn clean(text: &str) -> String {
    let acted_upon = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if acted_upon(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn shortened(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn padded(text: &str, width: usize) -> String {
    format!("{:width$}", shortened(text, width))
}
