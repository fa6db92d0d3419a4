//! Draws a trace as a tree. Each line shows a span, its service, its place in the time of the trace, and its duration.
//!
//! Names come from the wire. Characters that would move the cursor or reverse the text are replaced.

use std::fmt::Write;

use opentelemetry::trace::{SpanId, SpanKind, Status};
use rustc_hash::{FxHashMap, FxHashSet};

use onlooker_engine::model::span::Span;

/// The form of the lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: usize,
    pub(crate) colour: bool,
}

/// Narrower terminals get a heading of two lines.
const NARROW: usize = 60;
/// What columns keep on a narrow terminal. Lines of a terminal with fewer than 31 columns wrap.
const SHORTEST_NAME: usize = 10;
const SHORTEST_SERVICE: usize = 6;
const LONGEST_SERVICE: usize = 20;
const LONGEST_ERROR: usize = 24;
/// "✗ 503". The mark and the name in red remain without the column.
const SHORTEST_ERROR: usize = 5;
/// "999.9 ms", right-aligned.
const DURATION: usize = 9;
/// A shorter bar would show nothing.
const SHORTEST_BAR: usize = 10;
/// Deeper spans are not indented further.
const DEEPEST_INDENT: usize = 24;

const NOT_SEEN: &str = "(parent not seen)";

// Select Graphic Rendition (ECMA-48 8.3.117).
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
/// Distinguishable on light and dark backgrounds. Red is for errors.
const SERVICE_COLOURS: [&str; 5] = ["36", "32", "33", "35", "34"];

/// One line of the tree.
struct Row<'a> {
    /// The branches left of the name.
    branches: String,
    /// None for a parent that was not seen.
    span: Option<&'a Span>,
}

/// The text of one trace, ending in an empty line.
pub(super) fn trace(spans: &[Span], look: Look) -> String {
    let width = look.width;
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

    let longest = |texts: &[String]| texts.iter().map(|text| length(text)).max().unwrap_or(0);
    let service_names: Vec<String> = services.iter().map(|service| clean(service)).collect();
    let columns = Columns::fit(width, longest(&names), longest(&service_names), longest(&errors));

    let paint = |code: &str, text: &str| {
        if look.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut out = String::new();
    let trace_id = spans.first().map(|span| span.trace_id.to_string()).unwrap_or_default();
    let heading = format!(
        "trace {trace_id}{}{}  {}, {}, {}",
        if width < NARROW { "\n" } else { "  " },
        time_of_day(start),
        counted(spans.len(), "span"),
        counted(services.len(), "service"),
        duration(end.saturating_sub(start)),
    );
    let _ = writeln!(out, "{}", paint(BOLD, &heading));
    for ((row, name), error) in rows.iter().zip(&names).zip(&errors) {
        let name = padded(name, columns.name);
        let Some(span) = row.span else {
            let _ = writeln!(out, "{}", paint(DIM, name.trim_end()));
            continue;
        };
        let service = padded(&clean(&span.service.name), columns.service);
        let place = services.iter().position(|service| *service == span.service.name).unwrap_or(0);
        let colour = SERVICE_COLOURS[place % SERVICE_COLOURS.len()];
        let name = if error.is_empty() { name } else { paint(RED, &name) };
        let _ = write!(out, "{name}  {}  ", paint(colour, &service));
        if columns.bar > 0 {
            let bar = bar(span, start, end, columns.bar);
            let _ = write!(out, "{}", paint(if error.is_empty() { colour } else { RED }, &bar));
        }
        let _ = write!(out, "  {:>DURATION$}", duration(span.end.saturating_sub(span.start)));
        if !error.is_empty() && columns.error > 0 {
            let _ = write!(out, "  {}", paint(RED, shortened(error, columns.error).as_str()));
        }
        out.push('\n');
    }
    out.push('\n');
    out
}

/// The widths of the columns. Two spaces stand between columns.
struct Columns {
    name: usize,
    service: usize,
    bar: usize,
    /// 0 for no column.
    error: usize,
}

impl Columns {
    /// Fits columns with texts of these lengths into `width`. First the bar goes, then the columns become shorter.
    fn fit(width: usize, name: usize, service: usize, error: usize) -> Self {
        let mut columns = Self {
            name: name.min(width / 2),
            service: service.min(LONGEST_SERVICE),
            bar: 0,
            error: error.min(LONGEST_ERROR),
        };
        let used = columns.used();
        if used + SHORTEST_BAR <= width {
            columns.bar = width - used;
            return columns;
        }
        let mut excess = used.saturating_sub(width);
        for (column, shortest) in
            [(&mut columns.service, SHORTEST_SERVICE), (&mut columns.name, SHORTEST_NAME), (&mut columns.error, 0)]
        {
            let shorter = column.saturating_sub(excess).max(shortest.min(*column));
            excess -= *column - shorter;
            *column = shorter;
        }
        if columns.error < SHORTEST_ERROR {
            columns.error = 0;
        }
        columns
    }

    fn used(&self) -> usize {
        let error = if self.error == 0 { 0 } else { 2 + self.error };
        self.name + 2 + self.service + 2 + 2 + DURATION + error
    }
}

/// The spans in the order of their lines. Children follow their parent by start time. Spans whose parent is missing come
/// last.
fn rows(spans: &[Span]) -> Vec<Row<'_>> {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&index| (spans[index].start, std::cmp::Reverse(spans[index].end)));
    let here: FxHashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
    let mut tree = Tree { spans, children: FxHashMap::default(), drawn: vec![false; spans.len()], rows: Vec::new() };
    let (mut roots, mut orphans, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for index in order {
        match spans[index].parent {
            Some(parent) if here.contains(&parent.span_id) => {
                tree.children.entry(parent.span_id).or_default().push(index);
                kept.push(index);
            }
            Some(parent) if !parent.remote => orphans.push(index),
            _ => roots.push(index),
        }
    }
    for root in roots {
        tree.draw(root, "", "");
    }
    // Spans whose parents form a cycle are below no root. Such input is invalid, but possible.
    orphans.extend(kept);
    if tree.drawn.contains(&false) {
        tree.rows.push(Row { branches: String::new(), span: None });
    }
    for orphan in orphans {
        tree.draw(orphan, "└ ", "  ");
    }
    tree.rows
}

struct Tree<'a> {
    spans: &'a [Span],
    /// By parent, in the order of their start.
    children: FxHashMap<SpanId, Vec<usize>>,
    drawn: Vec<bool>,
    rows: Vec<Row<'a>>,
}

impl Tree<'_> {
    /// Draws the span at `index` after `branches`, and its descendants after `below`. Draws no span twice.
    fn draw(&mut self, index: usize, branches: &str, below: &str) {
        let mut open = vec![(index, branches.to_owned(), below.to_owned())];
        while let Some((index, branches, below)) = open.pop() {
            if std::mem::replace(&mut self.drawn[index], true) {
                continue;
            }
            let span = &self.spans[index];
            self.rows.push(Row { branches, span: Some(span) });
            let deep = length(&below) >= DEEPEST_INDENT;
            let mut branch = ("└ ", "  ");
            // The last child is drawn last, so it is put on the stack first.
            for child in self.children.remove(&span.span_id).unwrap_or_default().into_iter().rev() {
                let under = if deep { below.clone() } else { format!("{below}{}", branch.1) };
                open.push((child, format!("{below}{}", branch.0), under));
                branch = ("├ ", "│ ");
            }
        }
    }
}

/// The first column: branches, kind, name, and the evidence for the parent if that is not certain.
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
        && !parent.evidence.is_certain()
    {
        let _ = write!(text, " ({}?)", parent.evidence.as_str());
    }
    text
}

/// The error of a span, empty if it has none.
fn error(span: &Span) -> String {
    let Status::Error { description } = &span.status else { return String::new() };
    let kind = span.attributes.text("error.type");
    let kind = kind.as_deref().unwrap_or(description);
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

/// `text` without characters that control a terminal: control characters and marks that change the text direction.
fn clean(text: &str) -> String {
    let controls_terminal = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if controls_terminal(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::KeyValue;
    use rstest::rstest;

    use onlooker_engine::model::span::Evidence;

    use super::*;
    use onlooker_engine::model::service::Service;
    use onlooker_engine::testing::{self as sample, EPOCH, MILLISECOND, below, from_elsewhere, service};

    const PLAIN: Look = Look { width: 80, colour: false };

    /// A client span from `start` to `end`, in milliseconds of the trace.
    fn call(id: u64, parent: u64, name: &str, service: &Arc<Service>, start: u64, end: u64) -> Span {
        Span {
            parent: below(parent, Evidence::Thread),
            kind: SpanKind::Client,
            name: name.into(),
            start: EPOCH + start * MILLISECOND,
            end: EPOCH + end * MILLISECOND,
            ..sample::span(id, service)
        }
    }

    #[test]
    fn a_trace_is_a_tree_in_time() {
        let (shop, stock) = (service("shop"), service("stock"));
        let failed = Span {
            status: Status::error("boom"),
            attributes: [KeyValue::new("error.type", "503")].into_iter().collect(),
            ..call(5, 1, "GET", &shop, 9, 10)
        };
        let guessed = Span { parent: below(3, Evidence::Tick), ..call(4, 3, "SELECT items", &stock, 3, 4) };
        let server = Span { kind: SpanKind::Server, ..call(3, 2, "GET /stock/{id}", &stock, 2, 5) };
        let spans = [
            failed,
            guessed,
            call(2, 1, "GET", &shop, 1, 6),
            server,
            Span { end: EPOCH + 10 * MILLISECOND, ..sample::span(1, &shop) },
        ];
        let expected = "\
trace 00000000000000000000000000000001  22:13:20.000Z  5 spans, 2 services, 10.0 ms
server GET /users/{id}             shop   ━━━━━━━━━━━━━━━━━━━━    10.0 ms
├ client GET                       shop     ━━━━━━━━━━            5.00 ms
│ └ server GET /stock/{id}         stock      ━━━━━━              3.00 ms
│   └ client SELECT items (tick?)  stock        ━━                1.00 ms
└ client GET                       shop                     ━━    1.00 ms  ✗ 503

";
        let drawn = trace(&spans, PLAIN);
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn spans_without_their_parent_are_drawn_last() {
        let shop = service("shop");
        let remote = Span { parent: from_elsewhere(50), ..sample::span(1, &shop) };
        let spans = [call(3, 99, "SELECT b", &shop, 0, 1), call(4, 3, "x", &shop, 0, 1), remote];
        let drawn = trace(&spans, PLAIN);
        let names: Vec<&str> =
            drawn.lines().skip(1).map(|line| line.split("  shop").next().unwrap().trim_end()).collect();
        assert_eq!(names, ["server GET /users/{id}", NOT_SEEN, "└ client SELECT b", "  └ client x", ""]);
    }

    #[test]
    fn a_cycle_of_parents_is_drawn_once() {
        let shop = service("shop");
        let spans = [call(1, 2, "a", &shop, 0, 1), call(2, 1, "b", &shop, 0, 1), call(3, 3, "self", &shop, 0, 1)];
        let drawn = trace(&spans, PLAIN);
        for name in ["client a", "client b", "client self"] {
            assert_eq!(drawn.matches(name).count(), 1, "{drawn}");
        }
    }

    #[test]
    fn a_deep_chain_stays_within_the_width() {
        let shop = service("shop");
        let spans: Vec<Span> = (1..=1000).map(|id| call(id, id - 1, "call", &shop, 0, 1)).collect();
        let drawn = trace(&spans, PLAIN);
        assert_eq!(drawn.lines().filter(|line| line.contains("call")).count(), 1000);
        assert!(drawn.lines().skip(1).all(|line| length(line) <= PLAIN.width), "{drawn}");
    }

    /// Issue 7, fault 23.
    #[rstest]
    fn lines_fit_into_the_width(#[values(31, 40, 59, 60, 75, 100, 200)] width: usize) {
        let shop = service("a-service-with-a-long-name");
        let failed = Span { status: Status::error("a long reason of the failure"), ..sample::span(1, &shop) };
        let named = call(2, 1, "SELECT a, b, c FROM a_table_with_a_long_name", &shop, 0, 1);
        let drawn = trace(&[failed, named], Look { width, colour: false });
        // The heading is one line from 60 columns on, and the trace's id is never cut.
        let lines = drawn.lines().skip(if width < NARROW { 2 } else { 1 });
        for line in lines {
            assert!(length(line) <= width, "{drawn}");
        }
        assert!(drawn.contains("server"), "{drawn}");
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        let hostile = Span { name: "GET /\x1b[2J\u{202e}\r\n".into(), ..sample::span(1, &service("a\x07b")) };
        let drawn = trace(&[hostile], PLAIN);
        assert!(drawn.contains("GET /�[2J���") && drawn.contains("a�b"), "{drawn:?}");
        assert_eq!(drawn.lines().count(), 3);
    }

    #[test]
    fn colour_is_used_only_if_enabled() {
        let spans = [sample::span(1, &service("shop"))];
        assert!(!trace(&spans, PLAIN).contains('\x1b'));
        assert!(trace(&spans, Look { colour: true, ..PLAIN }).contains("\x1b[36mshop\x1b[0m"));
    }

    #[rstest]
    #[case(0, "0 ns")]
    #[case(999, "999 ns")]
    #[case(1_500, "1.50 us")]
    #[case(12_340_000, "12.3 ms")]
    #[case(999_400_000, "999 ms")]
    #[case(75_000_000_000, "75.0 s")]
    fn durations_have_three_digits(#[case] nanoseconds: u64, #[case] text: &str) {
        assert_eq!(duration(nanoseconds), text);
    }

    #[rstest]
    #[case::whole(0, 10, "━━━━━━━━━━")]
    #[case::middle(5, 6, "     ━    ")]
    #[case::an_instant_at_the_end(10, 10, "         ━")]
    fn a_bar_is_as_long_as_its_share_of_the_time(#[case] from: u64, #[case] to: u64, #[case] expected: &str) {
        let span = Span { start: EPOCH + from, end: EPOCH + to, ..sample::span(1, &service("shop")) };
        assert_eq!(bar(&span, EPOCH, EPOCH + 10, 10), expected);
    }
}
