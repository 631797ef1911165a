//! Plots as SVG text: lines over two axes, and bars by groups. Pure functions of what is drawn and
//! how wide; colours come by classes, so that one style serves light and dark.

use std::fmt::Write;

use super::scale::{Kind, Scale, number};

/// The style of plots, for a file that stands alone; a page has it in its own style.
const STYLE: &str = include_str!("plot.css");
const LETTER: f64 = 6.6;
const LINE: f64 = 20.0;

/// A place on a line; the interval is drawn where it has a width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Point {
    /// Without an interval.
    pub(super) fn exact(x: f64, y: f64) -> Self {
        Self { x, y, low: y, high: y }
    }
}

/// What belongs to one server.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// For people.
    pub(super) label: String,
    /// Gives the colour.
    pub(super) class: String,
    pub(super) points: Vec<Point>,
    /// Places are marked, not only joined.
    pub(super) dots: bool,
}

/// Lines over two axes.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    /// For those who do not see it.
    pub(super) title: String,
    pub(super) x: (Kind, String),
    pub(super) y: (Kind, String),
    pub(super) series: Vec<Series>,
}

/// One bar.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) class: String,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Bars that lie, group below group.
#[derive(Debug, Clone)]
pub(super) struct Bars {
    /// For those who do not see it.
    pub(super) title: String,
    /// Of all values.
    pub(super) unit: String,
    pub(super) groups: Vec<(String, Vec<Bar>)>,
}

/// Something that can be drawn at any width.
#[derive(Debug, Clone)]
pub(super) enum Plot {
    Lines(Lines),
    Bars(Bars),
}

impl Plot {
    /// As a part of a page.
    pub(super) fn svg(&self, width: f64) -> String {
        match self {
            Self::Lines(lines) => lines.svg(width, ""),
            Self::Bars(bars) => bars.svg(width, ""),
        }
    }

    /// As a file.
    pub(super) fn file(&self, width: f64) -> String {
        let style = format!("<style>{STYLE}</style>");
        match self {
            Self::Lines(lines) => lines.svg(width, &style),
            Self::Bars(bars) => bars.svg(width, &style),
        }
    }
}

/// Text as it may stand in a document.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn open(title: &str, width: f64, height: f64, style: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {width:.0} \
         {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"{}\">{style}",
        escaped(title)
    )
}

fn text(class: &str, x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(words)
    )
}

fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> String {
    format!(
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    )
}

/// Names and colours in as many lines as they need; gives the height too.
fn legend(entries: &[(&str, &str)], width: f64) -> (String, f64) {
    let (mut out, mut x, mut y) = (String::new(), 4.0, 12.0);
    for (label, class) in entries {
        let needed = label.chars().count() as f64 * (LETTER + 0.6) + 40.0;
        if x > 4.0 && x + needed > width {
            (x, y) = (4.0, y + LINE);
        }
        out += &line(&format!("curve {class}"), (x, y - 4.0), (x + 16.0, y - 4.0));
        out += &text("name", x + 22.0, y, "start", label);
        x += needed;
    }
    (out, y + 14.0)
}

/// Where the plot's inner field lies.
#[derive(Debug, Clone, Copy)]
struct Field {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Field {
    fn x(&self, scale: &Scale, value: f64) -> f64 {
        self.left + scale.place(value) * (self.right - self.left)
    }

    fn y(&self, scale: &Scale, value: f64) -> f64 {
        self.bottom - scale.place(value) * (self.bottom - self.top)
    }
}

impl Lines {
    fn svg(&self, width: f64, style: &str) -> String {
        let all = || self.series.iter().flat_map(|one| &one.points);
        let x = Scale::over(self.x.0, all().map(|point| point.x));
        let y = Scale::over(self.y.0, all().flat_map(|point| [point.low, point.high]));
        let entries: Vec<(&str, &str)> =
            self.series.iter().map(|one| (one.label.as_str(), one.class.as_str())).collect();
        let (legend, top) = legend(&entries, width);
        let height = top + (width * 0.52).clamp(240.0, 360.0);
        let widest = y.ticks().iter().map(|(_, text)| text.chars().count()).max().unwrap_or(1);
        let field = Field {
            left: widest as f64 * LETTER + 14.0,
            right: width - 14.0,
            top: top + 24.0,
            bottom: height - 40.0,
        };
        let mut out = open(&self.title, width, height, style);
        out += &legend;
        out += &text("label", 4.0, top + 10.0, "start", &self.y.1);
        out += &self.grid(&field, &x, &y);
        let middle = (field.left + field.right) / 2.0;
        out += &text("label", middle, height - 6.0, "middle", &self.x.1);
        for series in &self.series {
            out += &curve(series, &field, &x, &y);
        }
        out + "</svg>"
    }

    fn grid(&self, field: &Field, x: &Scale, y: &Scale) -> String {
        let mut out = String::new();
        for (value, words) in y.ticks() {
            let at = field.y(y, value);
            out += &line("grid", (field.left, at), (field.right, at));
            out += &text("tick", field.left - 7.0, at + 4.0, "end", &words);
        }
        let mut free_from = f64::MIN;
        for (value, words) in x.ticks() {
            let at = field.x(x, value);
            out += &line("grid", (at, field.top), (at, field.bottom));
            let half = words.chars().count() as f64 * LETTER / 2.0;
            if at - half > free_from {
                out += &text(
                    "tick",
                    at.min(field.right + 12.0 - half),
                    field.bottom + 17.0,
                    "middle",
                    &words,
                );
                free_from = at + half + 4.0;
            }
        }
        out + &line("axis", (field.left, field.bottom), (field.right, field.bottom))
    }
}

fn curve(series: &Series, field: &Field, x: &Scale, y: &Scale) -> String {
    let places: Vec<(f64, f64)> =
        series.points.iter().map(|one| (field.x(x, one.x), field.y(y, one.y))).collect();
    let mut path = String::new();
    for (at, (x, y)) in places.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
    }
    let class = &series.class;
    let mut out = String::new();
    for point in series.points.iter().filter(|one| one.high > one.low) {
        let at = field.x(x, point.x);
        let ends = (field.y(y, point.low), field.y(y, point.high));
        out += &line(&format!("interval {class}"), (at, ends.0), (at, ends.1));
    }
    let _ = write!(out, "<path class=\"curve {class}\" d=\"{path}\"/>");
    if series.dots {
        for ((x, y), point) in places.iter().zip(&series.points) {
            let _ = write!(
                out,
                "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}: {} at \
                 {}</title></circle>",
                escaped(&series.label),
                number(point.y),
                number(point.x)
            );
        }
    }
    out
}

impl Bars {
    fn svg(&self, width: f64, style: &str) -> String {
        const BAR: f64 = 17.0;
        const STEP: f64 = 24.0;
        const HEAD: f64 = 30.0;
        let bars = || self.groups.iter().flat_map(|(_, bars)| bars);
        let rows = bars().count() as f64;
        let height = rows * STEP + self.groups.len() as f64 * (HEAD + 8.0) + 30.0;
        let scale = Scale::tight(bars().flat_map(|bar| [bar.value, bar.high]));
        let names = bars().map(|bar| bar.label.chars().count()).max().unwrap_or(1);
        let left = names as f64 * LETTER + 14.0;
        // The number stands behind the bar.
        let field = Field { left, right: width - 64.0, top: 0.0, bottom: height - 26.0 };
        let mut out = open(&self.title, width, height, style);
        let mut y = 0.0;
        for (name, bars) in &self.groups {
            out += &text("group", 4.0, y + 20.0, "start", name);
            y += HEAD;
            for bar in bars {
                let end = field.x(&scale, bar.value);
                let middle = y + BAR / 2.0;
                out += &text("name", left - 8.0, middle + 4.0, "end", &bar.label);
                let _ = write!(
                    out,
                    "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" \
                     height=\"{BAR}\" rx=\"3\"/>",
                    bar.class,
                    (end - left).max(1.0)
                );
                let reach = (field.x(&scale, bar.low), field.x(&scale, bar.high));
                if bar.high > bar.low {
                    out += &line("whisker", (reach.0, middle), (reach.1, middle));
                }
                out += &text(
                    "value",
                    reach.1.max(end) + 7.0,
                    middle + 4.0,
                    "start",
                    &number(bar.value),
                );
                y += STEP;
            }
            y += 8.0;
        }
        out += &text("label", 4.0, height - 8.0, "start", &self.unit);
        out + "</svg>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        let series = |label: &str, points: &[(f64, f64)]| Series {
            label: label.to_owned(),
            class: format!("s-{label}"),
            points: points.iter().map(|(x, y)| Point::exact(*x, *y)).collect(),
            dots: true,
        };
        Lines {
            title: "a & b".to_owned(),
            x: (Kind::Log, "receivers".to_owned()),
            y: (Kind::Linear, "cost".to_owned()),
            series: vec![
                series("ours", &[(50.0, 1.0), (500.0, 2.0)]),
                series("theirs", &[(50.0, 4.0)]),
            ],
        }
    }

    #[test]
    fn a_line_joins_its_points_from_left_to_right_and_up() {
        let svg = Plot::Lines(lines()).svg(720.0);
        assert!(svg.contains("aria-label=\"a &amp; b\""), "text is escaped");
        assert_eq!(svg.matches("<circle").count(), 3);
        let path =
            svg.split("d=\"M").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
        let numbers: Vec<f64> =
            path.split(['L', ' ']).map(|word| word.parse().expect("a number")).collect();
        assert!(numbers[0] < numbers[2], "more receivers are further right");
        assert!(numbers[1] > numbers[3], "more cost is further up");
    }

    #[test]
    fn a_narrow_plot_keeps_everything_inside() {
        for width in [340.0, 720.0] {
            let svg = Plot::Lines(lines()).file(width);
            assert!(svg.contains("<style>"));
            let right = svg
                .split("x2=\"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok())
                .fold(0.0, f64::max);
            assert!(right > width / 2.0 && right < width, "{right} of {width}");
        }
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |value: f64| Bar {
            label: "one".to_owned(),
            class: "s-one".to_owned(),
            value,
            low: value,
            high: value,
        };
        let group = ("fanout".to_owned(), vec![bar(1.0), bar(4.0)]);
        let bars = Bars { title: String::new(), unit: "s".to_owned(), groups: vec![group] };
        let svg = Plot::Bars(bars).svg(720.0);
        let widths: Vec<f64> = svg
            .split("<rect")
            .skip(1)
            .filter_map(|rest| {
                rest.split("width=\"").nth(1)?.split('"').next()?.parse::<f64>().ok()
            })
            .collect();
        assert!((widths[1] / widths[0] - 4.0).abs() < 0.05, "{widths:?}");
    }
}
