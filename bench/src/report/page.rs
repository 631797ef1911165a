//! The page: one file that needs nothing else, for light and dark, wide and narrow. Pure functions
//! of what the runs say.

use std::fmt::Write;

use serde_json::Value;

use super::{
    plot::escaped,
    results::{Run, label},
    scale::number,
    sections::{self, Section, Table},
};

const STYLE: &str = include_str!("page.css");
const PLOT_STYLE: &str = include_str!("plot.css");
const WIDE: f64 = 860.0;
const NARROW: f64 = 350.0;

/// The whole document.
pub(super) fn html(runs: &[Run], sections: &[Section], unreadable: &[String]) -> String {
    let mut body = head(runs);
    for section in sections {
        body += &shown(section);
    }
    body += &left_out(runs, unreadable);
    body += &raw(runs);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">\n<meta name=\"color-scheme\" \
         content=\"light dark\">\n<title>Ironcast, measured</title>\n<style>{STYLE}{PLOT_STYLE}\
         </style>\n<main>{body}</main>\n</html>\n"
    )
}

fn head(runs: &[Run]) -> String {
    let newest = runs.iter().map(|run| run.made).max().unwrap_or(0);
    let machine = runs.iter().max_by_key(|run| run.made).map_or(&Value::Null, |run| &run.machine);
    let mut out = format!(
        "<header><h1>Ironcast, measured</h1><p class=\"soft\">What a forwarded packet costs and how \
         long it takes, beside other servers and beside programs that only copy packets. \
         Measured {}{}.</p>",
        date(newest),
        machine_words(machine)
    );
    if runs.iter().any(|run| run.line["topology"] == "loopback") {
        out += "<p class=\"warning\">Some runs had no network namespaces and used loopback: the \
                receivers' work in the kernel is charged to whoever sends.</p>";
    }
    if let Some(run) = sections::headline(runs) {
        out += &tiles(run);
    }
    out + "</header>"
}

fn machine_words(machine: &Value) -> String {
    let Some(fields) = machine.as_object().filter(|fields| !fields.is_empty()) else {
        return String::new();
    };
    let words = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let parts: Vec<String> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), words(value)))
        .collect();
    escaped(&format!(" on: {}", parts.join("; ")))
}

fn tiles(run: &Run) -> String {
    let mut tiles = Vec::new();
    let costs = run.costs();
    if let Some(ours) = costs.iter().find(|cost| cost.server == "ironcast") {
        tiles.push((number(ours.value), "CPU-seconds for a million forwarded packets".to_owned()));
    }
    for cost in &costs {
        let Some(ratio) = cost.ratio else { continue };
        let name = label(&cost.server);
        if cost.server == "reflector-segmented" {
            let words = "the floor: a program that copies packets without encryption";
            tiles.push((format!("{:.2} ×", ratio[0]), words.to_owned()));
        } else if !cost.server.starts_with("reflector") && !cost.server.starts_with("ironcast") {
            // A claim needs an interval that excludes 1.
            let words = match (ratio[1], ratio[2]) {
                (_, high) if high < 1.0 => format!("as much processor time is used by {name}"),
                (low, _) if low > 1.0 => format!("the processor time of {name}"),
                _ => format!("the processor time of {name}: no clear difference"),
            };
            let value = if ratio[2] < 1.0 { 1.0 / ratio[0] } else { ratio[0] };
            tiles.push((format!("{value:.1} ×"), words));
        }
    }
    if let Some(p99) = run.line["delay_us"]["p99"].as_u64() {
        let words = "from sender to receiver for 99 of 100 packets".to_owned();
        tiles.push((format!("{} ms", number(p99 as f64 / 1e3)), words));
    }
    let mut out = format!(
        "<p class=\"soft\">One camera of 2.5 Mb/s, {} receivers, one core:</p><div class=\"tiles\">",
        run.consumers()
    );
    for (value, words) in tiles {
        let _ =
            write!(out, "<div class=\"tile\"><b>{value}</b><span>{}</span></div>", escaped(&words));
    }
    out + "</div>"
}

fn shown(section: &Section) -> String {
    let table = section.table.as_ref().map(table).unwrap_or_default();
    format!(
        "<section id=\"{}\"><h2>{}</h2><div class=\"wide\">{}</div><div class=\"narrow\">{}</div>\
         <p class=\"reading\">{}</p>{table}</section>",
        section.name,
        escaped(&section.title),
        section.plot.svg(WIDE),
        section.plot.svg(NARROW),
        escaped(&section.reading),
    )
}

/// Every figure of the scenarios that are not a comparison of servers.
fn others(runs: &[Run]) -> String {
    let without_plot = |run: &&Run| run.costs().is_empty() && run.scenario != "compare";
    let mut out = String::new();
    for run in runs.iter().filter(without_plot) {
        let _ = write!(
            out,
            "<details><summary>{} <span class=\"soft\">{}</span></summary>{}</details>",
            escaped(&run.scenario),
            date(run.made),
            table(&sections::figures(run))
        );
    }
    out
}

fn left_out(runs: &[Run], unreadable: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (server, why) in runs.iter().flat_map(Run::left_out) {
        let line = format!("<b>{}</b>: {}", escaped(label(&server)), escaped(&why));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.extend(unreadable.iter().map(|file| format!("{}: cannot be read", escaped(file))));
    if lines.is_empty() {
        return String::new();
    }
    let items: String = lines.iter().map(|line| format!("<li>{line}</li>")).collect();
    format!("<section><h2>What could not run</h2><ul>{items}</ul></section>")
}

fn raw(runs: &[Run]) -> String {
    let mut out = String::from("<section><h2>All figures</h2>");
    for run in runs.iter().filter(|run| !run.costs().is_empty()) {
        let cipher = run.line["cipher"].as_str().unwrap_or("");
        let topology = run.line["topology"].as_str().unwrap_or("");
        let title = format!("{} {} {cipher}, {topology}", run.scenario, run.consumers());
        let _ = write!(
            out,
            "<details><summary>{} <span class=\"soft\">{}</span></summary>{}</details>",
            escaped(&title),
            date(run.made),
            table(&sections::raw(run))
        );
    }
    out + &others(runs) + "</section>"
}

fn table(table: &Table) -> String {
    let mut out = String::from("<div class=\"scroll\"><table>");
    for (at, row) in table.rows.iter().enumerate() {
        out += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let tag = if at == 0 || column == 0 { "th" } else { "td" };
            let _ = write!(out, "<{tag}>{}</{tag}>", escaped(cell));
        }
        out += "</tr>";
    }
    out + "</table></div>"
}

/// Day of the common calendar, from Unix seconds.
fn date(unix_s: u64) -> String {
    // Days from 1 March of year 0, in eras of 400 years, as years begin in March.
    let days = unix_s / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_767_225_599), "2025-12-31");
    }

    #[test]
    fn a_page_without_results_is_still_a_page() {
        let page = html(&[], &[], &["a<b".to_owned()]);
        assert!(page.contains("<h1>") && page.contains("a&lt;b: cannot be read"));
        assert!(!page.contains("http:") && !page.contains("https:"), "nothing is loaded");
    }
}
