//! From values to places on an axis, and which values get a line and a number. Pure functions.

/// How an axis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From zero.
    Linear,
    /// By factors.
    Log,
    /// Shares below 1, with as much room for each further nine.
    Nines,
}

/// An axis over a span of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
}

/// Below this share, and above this one, nothing is drawn.
const NINES: [f64; 6] = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999];

impl Scale {
    /// Wide enough for all of `values`.
    pub(super) fn over(kind: Kind, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = values
            .into_iter()
            .filter(|value| value.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        match kind {
            Kind::Linear => {
                let high = if high > 0.0 { high } else { 1.0 };
                let step = step(high);
                Self { kind, low: 0.0, high: (high / step).ceil() * step }
            }
            Kind::Log => {
                let low = if low > 0.0 && low < f64::MAX { low } else { 1.0 };
                let high = high.max(low * 1.01);
                Self { kind, low: below(low), high: above(high) }
            }
            Kind::Nines => Self { kind, low: 0.0, high: 0.9999 },
        }
    }

    /// From zero to the greatest of `values`, which need no round end.
    pub(super) fn tight(values: impl IntoIterator<Item = f64>) -> Self {
        let high = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        Self { kind: Kind::Linear, low: 0.0, high: if high > 0.0 { high } else { 1.0 } }
    }

    /// 0 at the low end, 1 at the high one; not beyond.
    pub(super) fn place(&self, value: f64) -> f64 {
        let at = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log => {
                let value = value.max(f64::MIN_POSITIVE);
                (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
            }
            Kind::Nines => nines(value) / nines(self.high),
        };
        at.clamp(0.0, 1.0)
    }

    /// The values that get a line, with their numbers.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.kind {
            Kind::Linear => {
                let step = step(self.high);
                let count = (self.high / step).round() as usize;
                (0..=count).map(|at| at as f64 * step).map(|value| (value, number(value))).collect()
            }
            Kind::Log => self.log_ticks().into_iter().map(|value| (value, number(value))).collect(),
            Kind::Nines => NINES
                .into_iter()
                .map(|share| (share, format!("{} %", trimmed(&format!("{:.2}", share * 100.0)))))
                .collect(),
        }
    }

    fn log_ticks(&self) -> Vec<f64> {
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let leads: &[f64] = if self.high / self.low > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        (first..=last)
            .flat_map(|power| leads.iter().map(move |lead| lead * 10f64.powi(power)))
            .filter(|value| *value >= self.low * 0.999 && *value <= self.high * 1.001)
            .collect()
    }
}

/// Every nine is one unit.
fn nines(share: f64) -> f64 {
    -(1.0 - share.clamp(0.0, 0.999_999)).log10()
}

/// A round step of which four to eight make `high`.
fn step(high: f64) -> f64 {
    let rough = high / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let lead = match rough / power {
        lead if lead < 1.5 => 1.0,
        lead if lead < 3.5 => 2.0,
        lead if lead < 7.5 => 5.0,
        _ => 10.0,
    };
    lead * power
}

fn below(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|lead| lead * power).find(|one| *one <= value).unwrap_or(power)
}

fn above(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|lead| lead * power)
        .find(|one| *one >= value)
        .unwrap_or(power * 10.0)
}

/// A number of three figures, with thousands set apart.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 1_000.0 {
        return short(value);
    }
    let whole = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    trimmed(&format!("{value:.decimals$}"))
}

/// Without zeros at its end.
fn trimmed(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_axes_begin_at_zero_and_end_round() {
        let scale = Scale::over(Kind::Linear, [0.7, 4.3]);
        assert_eq!((scale.place(0.0), scale.place(5.0)), (0.0, 1.0));
        let numbers: Vec<String> = scale.ticks().into_iter().map(|(_, text)| text).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(Scale::over(Kind::Linear, []).place(0.5), 0.5);
    }

    #[test]
    fn log_axes_give_factors_equal_room() {
        let scale = Scale::over(Kind::Log, [50.0, 1_000.0]);
        let gap = scale.place(200.0) - scale.place(100.0);
        assert!((scale.place(1_000.0) - scale.place(500.0) - gap).abs() < 1e-9);
        assert_eq!((scale.place(50.0), scale.place(1_000.0)), (0.0, 1.0));
        assert_eq!(scale.ticks().len(), 5, "50, 100, 200, 500, 1000");
    }

    #[test]
    fn each_nine_gets_equal_room() {
        let scale = Scale::over(Kind::Nines, []);
        assert!((scale.place(0.9) - 0.25).abs() < 1e-9);
        assert!((scale.place(0.99) - 0.5).abs() < 1e-9);
        assert_eq!(scale.place(1.0), 1.0);
        assert_eq!(scale.ticks()[4].1, "99.9 %");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1.25), "1.25");
        assert_eq!(number(20_000.0), "20\u{202f}000");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(100.0), "100");
        assert_eq!((number(228.35), number(36.41)), ("228".to_owned(), "36.4".to_owned()));
    }
}
