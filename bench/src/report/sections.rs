//! The sections of the report: what is drawn from the runs, and the sentence that says how to read
//! it. A section without results is left out. Pure functions.

use serde_json::Value;

use super::{
    plot::{Bar, Bars, Lines, Plot, Point, Series},
    results::{Cost, Run, distribution, label},
    scale::{Kind, number},
    singles,
};

const GCM: &str = "AEAD_AES_128_GCM";
const AES_CM: &str = "AES_CM_128_HMAC_SHA1_80";

/// One part of the page.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// Names the plot's file.
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) plot: Plot,
    /// How it is read.
    pub(super) reading: String,
    pub(super) table: Option<Table>,
}

/// A table: the first row is the head, the first column names the row.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) rows: Vec<Vec<String>>,
}

/// All sections that these runs have results for.
pub(super) fn of(runs: &[Run]) -> Vec<Section> {
    let costs = [costs(runs), cost_by_size(runs), delays(runs)].into_iter().flatten();
    costs.chain(singles::of(runs)).collect()
}

/// The scenarios that are compared, the largest size of each.
pub(super) fn compared(runs: &[Run]) -> Vec<(String, &Run)> {
    let kinds = [("fanout", GCM), ("fanout", AES_CM), ("audio", GCM), ("meeting", GCM)];
    let largest = kinds.into_iter().filter_map(|(scenario, cipher)| {
        let run = largest(runs, scenario, cipher)?;
        Some((title(scenario, cipher, run), run))
    });
    let single = runs
        .iter()
        .filter(|run| !run.is_segmented() && run.is_of("fanout", GCM))
        .max_by_key(|run| run.consumers())
        .map(|run| (format!("{}, no segmentation", title("fanout", GCM, run)), run));
    largest.chain(single).collect()
}

/// Of the default size, or else the largest.
pub(super) fn largest<'a>(runs: &'a [Run], scenario: &str, cipher: &str) -> Option<&'a Run> {
    let of_kind = || runs.iter().filter(|run| run.is(scenario, cipher));
    of_kind()
        .find(|run| run.consumers() == 300)
        .or_else(|| of_kind().max_by_key(|run| run.consumers()))
}

/// The run that the page begins with.
pub(super) fn headline(runs: &[Run]) -> Option<&Run> {
    largest(runs, "fanout", GCM).or_else(|| runs.iter().find(|run| !run.costs().is_empty()))
}

fn title(scenario: &str, cipher: &str, run: &Run) -> String {
    let cipher = if cipher == AES_CM { "AES-CM" } else { "AES-GCM" };
    match (scenario, run.consumers()) {
        ("fanout", count) => format!("Camera to {count}, {cipher}"),
        ("audio", count) => format!("Microphone to {count}, {cipher}"),
        ("meeting", count) => format!("Meetings with {count} streams, {cipher}"),
        (other, _) => format!("{other}, {cipher}"),
    }
}

fn class(server: &str) -> String {
    format!("s-{server}")
}

fn costs(runs: &[Run]) -> Option<Section> {
    let compared = compared(runs);
    let bar = |cost: Cost| Bar {
        label: label(&cost.server).to_owned(),
        class: class(&cost.server),
        value: cost.value,
        low: cost.low,
        high: cost.high,
    };
    let groups: Vec<(String, Vec<Bar>)> = compared
        .iter()
        .map(|(title, run)| (title.clone(), run.costs().into_iter().map(bar).collect()))
        .collect();
    if groups.is_empty() {
        return None;
    }
    Some(Section {
        name: "cost",
        title: "What a forwarded packet costs".to_owned(),
        plot: Plot::Bars(Bars {
            title: "Processor time for a million forwarded packets, by server".to_owned(),
            unit: "CPU-seconds for a million packets: less is better".to_owned(),
            groups,
        }),
        reading:
            "Each bar is the processor time of all processes of a server for a million packets \
                  that arrived, and the thin line the interval in which the median lies with 95 %; \
                  the floors are programs that copy packets without encryption, with one send a \
                  packet or with segmented sends."
                .to_owned(),
        table: Some(ratios(&compared)),
    })
}

/// Ours over each of the others.
fn ratios(compared: &[(String, &Run)]) -> Table {
    let mut servers: Vec<String> = Vec::new();
    for cost in compared.iter().flat_map(|(_, run)| run.costs()) {
        if cost.server != "ironcast" && !servers.contains(&cost.server) {
            servers.push(cost.server);
        }
    }
    let mut head = vec!["Ironcast's cost over that of".to_owned()];
    head.extend(servers.iter().map(|server| label(server).to_owned()));
    let row = |(title, run): &(String, &Run)| {
        let costs = run.costs();
        let cell = |server: &String| {
            costs
                .iter()
                .find(|cost| cost.server == *server)
                .and_then(|cost| cost.ratio)
                .map_or_else(|| "–".to_owned(), |ratio| times(&ratio))
        };
        std::iter::once(title.clone()).chain(servers.iter().map(cell)).collect()
    };
    Table { rows: std::iter::once(head).chain(compared.iter().map(row)).collect() }
}

/// A ratio with its interval.
pub(super) fn times(ratio: &[f64; 3]) -> String {
    format!("{:.2} × ({:.2}–{:.2})", ratio[0], ratio[1], ratio[2])
}

fn cost_by_size(runs: &[Run]) -> Option<Section> {
    let mut of_kind: Vec<&Run> = runs.iter().filter(|run| run.is("fanout", GCM)).collect();
    of_kind.sort_by_key(|run| run.consumers());
    if of_kind.len() < 2 {
        return None;
    }
    let series = by_server(&of_kind, |run, cost| Point {
        x: run.consumers() as f64,
        y: cost.value,
        low: cost.low,
        high: cost.high,
    });
    Some(Section {
        name: "cost-by-receivers",
        title: "Cost against the number of receivers".to_owned(),
        plot: Plot::Lines(Lines {
            title: "Processor time for a million forwarded packets against receivers".to_owned(),
            x: (Kind::Log, "receivers of one camera".to_owned()),
            y: (Kind::Linear, "CPU-seconds for a million packets".to_owned()),
            series,
        }),
        reading:
            "A flat line means that one more receiver costs what the last one did; the pale bars \
                  are the 95 % intervals."
                .to_owned(),
        table: None,
    })
}

/// A line a server through all runs, for those that measured it.
fn by_server(runs: &[&Run], point: impl Fn(&Run, &Cost) -> Point) -> Vec<Series> {
    let mut all: Vec<(String, Series)> = Vec::new();
    for run in runs {
        for cost in run.costs() {
            let point = point(run, &cost);
            match all.iter_mut().find(|(name, _)| *name == cost.server) {
                Some((_, series)) => series.points.push(point),
                None => {
                    let series = Series {
                        label: label(&cost.server).to_owned(),
                        class: class(&cost.server),
                        points: vec![point],
                        dots: true,
                    };
                    all.push((cost.server, series));
                }
            }
        }
    }
    all.into_iter().map(|(_, series)| series).collect()
}

fn delays(runs: &[Run]) -> Option<Section> {
    let run = headline(runs)?;
    let series: Vec<Series> = run
        .servers()
        .into_iter()
        .map(|(server, _)| (server, distribution(&run.delays(server))))
        .filter(|(_, points)| points.len() > 1)
        .map(|(server, points)| Series {
            label: label(server).to_owned(),
            class: class(server),
            points: points.into_iter().map(|(share, us)| Point::exact(share, us)).collect(),
            dots: false,
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    Some(Section {
        name: "delay",
        title: format!("How long packets take, with {} receivers", run.consumers()),
        plot: Plot::Lines(Lines {
            title: "Delay from sending to arrival, by share of packets".to_owned(),
            x: (Kind::Nines, "share of packets that took no longer".to_owned()),
            y: (Kind::Log, "microseconds from sender to receiver".to_owned()),
            series,
        }),
        reading: "Read up from a share: at 99 % stands the delay that 99 of 100 packets stay below. The \
                  last receiver of a burst waits for all before it, so the line rises with the number \
                  of receivers."
            .to_owned(),
        table: None,
    })
}

/// A run as a table: a row a server.
pub(super) fn raw(run: &Run) -> Table {
    const FIELDS: [(&str, &str); 9] = [
        ("CPU-s/M", "cpu_s_per_million"),
        ("core-s/M", "core_s_per_million"),
        ("core busy", "core_busy"),
        ("load busy", "load_busy"),
        ("sent", "sent"),
        ("received", "received"),
        ("lost", "lost"),
        ("verified", "verified"),
        ("corrupt", "corrupt"),
    ];
    const DELAYS: [&str; 4] = ["p50", "p99", "p999", "max"];
    let head = std::iter::once("server".to_owned())
        .chain(FIELDS.iter().map(|(name, _)| (*name).to_owned()))
        .chain(DELAYS.iter().map(|name| format!("{name} µs")))
        .collect();
    let row = |(server, values): (&str, &Value)| {
        std::iter::once(label(server).to_owned())
            .chain(FIELDS.iter().map(|(_, field)| cell(&values[*field])))
            .chain(DELAYS.iter().map(|name| cell(&values["delay_us"][*name])))
            .collect()
    };
    Table { rows: std::iter::once(head).chain(run.servers().into_iter().map(row)).collect() }
}

/// What a scenario says besides servers: every figure of its last line by its path.
pub(super) fn figures(run: &Run) -> Table {
    let mut rows = vec![vec!["figure".to_owned(), "value".to_owned()]];
    collect("", &run.line, &mut rows);
    Table { rows }
}

fn collect(path: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, value, rows);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (at, item) in items.iter().enumerate() {
                collect(&format!("{path}[{at}]"), item, rows);
            }
        }
        Value::Array(items) => {
            rows.push(vec![path.to_owned(), items.iter().map(cell).collect::<Vec<_>>().join(", ")]);
        }
        Value::Null => {}
        other => rows.push(vec![path.to_owned(), cell(other)]),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Number(one) => one.as_f64().map_or_else(|| one.to_string(), number),
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}
