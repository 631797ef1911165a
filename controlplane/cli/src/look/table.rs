//! How figures and tables look: aligned columns without lines, so that `awk` and eyes both read
//! them; units that people say.

use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

/// Rows under a headline. Columns whose headline begins with `>` are numbers, aligned to the right.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|name| name.trim_start_matches('>')));
    table.add_rows(rows);
    for (column, name) in table.column_iter_mut().zip(head) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

/// Names and what they are.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let shown = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    table.add_rows(shown.map(|(name, value)| vec![name.to_owned(), value]));
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    trimmed(&table)
}

/// Without blanks at the ends of lines.
fn trimmed(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON for programs.
pub(crate) fn print_json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Milliseconds of the Unix epoch, now.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago that was, in its two largest units.
pub(crate) fn age(at_ms: u64) -> String {
    duration(now_ms().saturating_sub(at_ms) / 1_000)
}

/// Seconds in their two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Three digits and a prefix: `1.25M`, `870k`, `12`.
pub(crate) fn short(value: f64) -> String {
    // The sum of nothing is -0.
    let value = value + 0.0;
    let (value, prefix) = match value.abs() {
        v if v >= 999.5e6 => (value / 1e9, "G"),
        v if v >= 999.5e3 => (value / 1e6, "M"),
        v if v >= 999.5 => (value / 1e3, "k"),
        _ => return format!("{value:.0}"),
    };
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{prefix}")
}

/// Bits per second.
pub(crate) fn bits(bps: u64) -> String {
    if bps == 0 { "0".to_owned() } else { format!("{}b/s", short(bps as f64)) }
}

/// A share of 1 in percent.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if (0.05..9.95).contains(&percent) {
        format!("{percent:.1}%")
    } else {
        format!("{percent:.0}%")
    }
}

/// What is not there is a dash.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A word of the API (`connected`, `simulcast`) as it is written there.
pub(crate) fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(Value::Null) | Err(_) => "-".to_owned(),
        Ok(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (1_250_000.0, "1.25M"),
            (870_400.0, "870k"),
            (99_960.0, "100k"),
            (2.5e9, "2.50G"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text, "{value}");
        }
        assert_eq!(bits(1_500_000), "1.50Mb/s");
        assert_eq!(
            (percent(0.0), percent(0.004), percent(0.42)),
            ("0%".into(), "0.4%".into(), "42%".into())
        );
        let durations = [(59, "59s"), (61, "1m01s"), (3_660, "1h01m"), (90_000, "1d01h")];
        for (seconds, text) in durations {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn numbers_stand_to_the_right_and_lines_end_with_text() {
        let rows = [vec!["room-1".into(), "7".into()], vec!["r".into(), "1200".into()]];
        assert_eq!(
            table(&["ROUTER", ">N"], rows),
            "ROUTER  N\nroom-1     7\nr       1200".replace("ROUTER  N", "ROUTER     N")
        );
    }
}
