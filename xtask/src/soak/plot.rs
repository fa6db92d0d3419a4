//! The samples as a picture: one panel for each column, from zero.

use std::fmt::Write as _;
use std::time::Duration;

use super::held::Sample;
use super::table::{COLUMNS, Column};

/// Sizes are in pixels.
const WIDTH: f64 = 800.0;
const PANEL: f64 = 64.0;
const GAP: f64 = 12.0;
/// The part of a panel that has its name.
const NAMES: f64 = 250.0;
const FOOT: f64 = 24.0;

/// Points of a curve. More are not seen.
const POINTS: usize = 400;

/// An SVG picture of what was held.
pub(super) fn svg(samples: &[Sample]) -> String {
    let height = COLUMNS.len() as f64 * (PANEL + GAP) + FOOT;
    let end = samples.last().map_or(Duration::ZERO, |last| last.at);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, column) in COLUMNS.iter().enumerate() {
        panel(&mut svg, column, samples, end, index as f64 * (PANEL + GAP));
    }
    text(&mut svg, NAMES, height - FOOT / 3.0, "start", "0 s");
    text(&mut svg, WIDTH, height - FOOT / 3.0, "end", &format!("{} s", end.as_secs()));
    svg + "</svg>\n"
}

fn panel(svg: &mut String, column: &Column, samples: &[Sample], end: Duration, top: f64) {
    let values = samples.iter().map(|sample| (column.read)(&sample.held));
    let (least, most) = (values.clone().min().unwrap_or(0), values.max().unwrap_or(0));
    let range = if least == most { most.to_string() } else { format!("{least} to {most}") };
    let bottom = top + PANEL;
    let _ = writeln!(svg, "<path d=\"M{NAMES} {top}V{bottom}H{WIDTH}\" fill=\"none\" stroke=\"silver\"/>");
    text(svg, 4.0, top + PANEL / 2.0, "start", &format!("{}: {range}", column.name));
    let x = |at: Duration| NAMES + (WIDTH - NAMES) * at.as_secs_f64() / end.as_secs_f64().max(1.0);
    // The line of the largest value is not at the edge.
    let y = |value: u64| bottom - 0.9 * PANEL * value as f64 / most.max(1) as f64;
    let every = samples.len().div_ceil(POINTS).max(1);
    let points: Vec<_> = samples
        .iter()
        .step_by(every)
        .map(|sample| format!("{:.1},{:.1}", x(sample.at), y((column.read)(&sample.held))))
        .collect();
    let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"steelblue\"/>", points.join(" "));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::super::held::Held;
    use super::*;

    #[test]
    fn each_column_has_a_curve_from_the_beginning_to_the_end() {
        let sample = |second| Sample {
            at: Duration::from_secs(second),
            held: Held { resident_kib: 100 * (1 + second), ..Held::default() },
        };
        let svg = svg(&[sample(0), sample(1), sample(2)]);
        assert_eq!(svg.matches("<polyline").count(), COLUMNS.len());
        assert!(svg.contains("RSS, KiB: 100 to 300"), "{svg}");
        // A third of 90 % of 64 pixels above the bottom at the left, all of it at the right.
        assert!(svg.contains("<polyline points=\"250.0,44.8 525.0,25.6 800.0,6.4\""), "{svg}");
        assert!(svg.contains(">2 s</text>"), "{svg}");
    }
}
