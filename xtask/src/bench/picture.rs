//! The ratios as bars.

use std::fmt::Write;

use super::report::Row;
use super::workload::Compared;

/// Points from nothing to as much as nats-server.
const WHOLE: f64 = 480.0;
const LEFT: f64 = 110.0;
const LINE: f64 = 22.0;
/// What is more is not drawn longer.
const MOST: f64 = 1.15;

/// An SVG of all rows that are compared with nats-server: a bar for the ratio, a line where it must not go beyond, and a
/// dotted one where it would be better still.
pub(crate) fn of(rows: &[Row]) -> String {
    let drawn: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row, row.figure()?)))
        .filter(|(_, figure)| figure.compared != Compared::Alone)
        .collect();
    let (width, height) = (LEFT + WHOLE * MOST + 60.0, LINE * (drawn.len() as f64 + 2.0));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for tenth in (0..=10).step_by(2) {
        let x = LEFT + WHOLE * f64::from(tenth) / 10.0;
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {LINE}V{:.1}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"15\" \
             text-anchor=\"middle\">{:.1}</text>",
            height - LINE / 2.0,
            f64::from(tenth) / 10.0
        );
    }
    for (number, (row, figure)) in drawn.into_iter().enumerate() {
        let y = LINE * (number as f64 + 1.2);
        let ratio = row.ratio();
        let color = if row.is_met() { "#2e7d32" } else { "#ef6c00" };
        let at = |ratio: f64| LEFT + WHOLE * ratio.min(MOST);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{ratio:.2}</text>\
             <path d=\"M{:.1} {:.1}v18\" stroke=\"#000\" stroke-width=\"2\"/>\
             <path d=\"M{:.1} {:.1}v18\" stroke=\"#000\" stroke-dasharray=\"2\"/>",
            LEFT - 8.0,
            y + 11.0,
            row.name(),
            at(ratio) - LEFT,
            at(ratio.max(figure.must)) + 6.0,
            y + 11.0,
            at(figure.must),
            y - 2.0,
            at(figure.stretch),
            y - 2.0,
        );
    }
    svg + "</svg>\n"
}
