//! The sections of scenarios that measure more than a cost: delay by load, capacity, memory, join
//! storms, changes of layers. Pure functions of one run each; called by [`super::sections`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    plot::{Bar, Bars, Lines, Plot, Point, Series},
    results::{Run, label},
    scale::{Kind, number},
    sections::{Section, Table},
};

/// The newest of a scenario.
fn newest<'a>(runs: &'a [Run], scenario: &str) -> Option<&'a Run> {
    runs.iter().filter(|run| run.scenario == scenario).max_by_key(|run| run.made)
}

/// Those that there are results for.
pub(super) fn of(runs: &[Run]) -> Vec<Section> {
    let section = |scenario, make: fn(&Run) -> Option<Section>| make(newest(runs, scenario)?);
    [
        section("latency", latency),
        section("capacity", capacity),
        section("join-storm", join_storm),
        section("switching", switching),
        section("memory", memory),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.as_f64().map_or_else(|| "–".to_owned(), number),
    }
}

fn series(label: String, class: String, mut points: Vec<Point>) -> Option<Series> {
    points.retain(|point| point.x > 0.0);
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    (!points.is_empty()).then_some(Series { label, class, points, dots: true })
}

fn rows(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    Table { rows: std::iter::once(head).chain(rows).collect() }
}

fn latency(run: &Run) -> Option<Section> {
    let points = list(&run.line["points"]);
    // The camera that all servers are given stands in the table.
    let meetings = || points.iter().filter(|one| one["meetings"] != false);
    let servers: BTreeSet<&str> = meetings().filter_map(|one| one["server"].as_str()).collect();
    let of = |server: &str, quantile: &str| {
        let at = |one: &Value| {
            let (x, y) = (one["receivers"].as_f64()?, one["delay_us"][quantile].as_f64()?);
            Some(Point::exact(x, y))
        };
        meetings().filter(|one| one["server"] == *server).filter_map(at).collect()
    };
    let both = |server: &&str| {
        let name = label(server);
        [
            series(format!("{name}, p99"), format!("s-{server}"), of(server, "p99")),
            series(format!("{name}, p50"), format!("s-{server} thin"), of(server, "p50")),
        ]
    };
    let series: Vec<Series> = servers.iter().flat_map(both).flatten().collect();
    if series.is_empty() {
        return None;
    }
    let row = |one: &Value| {
        let busy = one["core_busy"].as_f64().unwrap_or(0.0) * 100.0;
        let mut row = vec![label(one["server"].as_str().unwrap_or("")).to_owned()];
        row.extend([text(&one["load"]), text(&one["receivers"]), format!("{busy:.0} %")]);
        row.extend(["p50", "p99", "p999"].map(|name| text(&one["delay_us"][name])));
        row
    };
    let head = ["server", "load", "streams", "core busy", "p50 µs", "p99 µs", "p99.9 µs"];
    Some(Section {
        name: "latency",
        title: "Delay through the server, by load".to_owned(),
        plot: Plot::Lines(Lines {
            title: "Delay in meetings, half of the packets and 99 of 100".to_owned(),
            x: (Kind::Log, "received streams".to_owned()),
            y: (Kind::Log, "microseconds from sender to receiver".to_owned()),
            series,
        }),
        reading:
            "Thick lines are the delay that 99 of 100 packets stay below, thin ones that of half \
                  of them; more streams mean a fuller core. With one camera a frame leaves for one \
                  receiver after the other, and the last one's delay is that of the whole frame."
                .to_owned(),
        table: Some(rows(&head, points.iter().map(row))),
    })
}

fn capacity(run: &Run) -> Option<Section> {
    let servers = run.line["servers"].as_object()?;
    let line = |(server, one): (&String, &Value)| {
        let at = |step: &Value| {
            let (x, y) = (step["packets_per_s"].as_f64()?, step["core_busy"].as_f64()?);
            Some(Point::exact(x, y * 100.0))
        };
        let points = list(&one["steps"]).iter().filter_map(at).collect();
        series(label(server).to_owned(), format!("s-{server}"), points)
    };
    let series: Vec<Series> = servers.iter().filter_map(line).collect();
    if series.is_empty() {
        return None;
    }
    let row = |(server, one): (&String, &Value)| {
        let mut row = vec![label(server).to_owned()];
        let fields = ["receivers", "packets_per_s", "packets_per_s_at_full_core", "ended_by"];
        row.extend(fields.map(|name| text(&one[name])));
        row
    };
    let head = ["server", "receivers", "packets/s", "packets/s at a full core", "ended by"];
    Some(Section {
        name: "capacity",
        title: "How far one core goes".to_owned(),
        plot: Plot::Lines(Lines {
            title: "Busy share of the server's core against forwarded packets".to_owned(),
            x: (Kind::Linear, "packets received a second".to_owned()),
            y: (Kind::Linear, "percent of the server's core".to_owned()),
            series,
        }),
        reading: "A flatter line carries more: where it would meet 100 percent is what one core can \
                  forward. A line ends where packets are lost, come late, or the load itself is full."
            .to_owned(),
        table: Some(rows(&head, servers.iter().map(row))),
    })
}

fn bar(label: &str, class: &str, us: &Value) -> Option<Bar> {
    let value = us.as_f64()? / 1e3;
    let (label, class) = (label.to_owned(), class.to_owned());
    Some(Bar { label, class, value, low: value, high: value })
}

fn bars(of: &Value, class: &str) -> Vec<Bar> {
    let kinds = [("half below", "p50"), ("99 % below", "p99"), ("longest", "max")];
    kinds.iter().filter_map(|(name, field)| bar(name, class, &of[*field])).collect()
}

fn groups(of: &[(&str, &Value, &str)]) -> Option<Vec<(String, Vec<Bar>)>> {
    let groups: Vec<(String, Vec<Bar>)> = of
        .iter()
        .map(|(name, value, class)| ((*name).to_owned(), bars(value, class)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    (!groups.is_empty()).then_some(groups)
}

fn join_storm(run: &Run) -> Option<Section> {
    let line = &run.line;
    let groups = groups(&[
        ("From joining to the first packet", &line["first_packet_us"], "s-ironcast"),
        ("Delay of those in the room, before", &line["delay_us_before"], "s-reflector-sendmmsg"),
        ("Delay of those in the room, during", &line["delay_us_during"], "s-ironcast"),
        ("Delay of those in the room, when all are there", &line["delay_us_after"], "s-ironcast"),
    ])?;
    let (joins, seconds) = (text(&line["joins"]), text(&line["seconds"]));
    Some(Section {
        name: "join-storm",
        title: format!("{joins} join within {seconds} seconds"),
        plot: Plot::Bars(Bars {
            title: "Time to the first packet, and delays before and during the storm".to_owned(),
            unit: "milliseconds: less is better".to_owned(),
            groups,
        }),
        reading: format!(
            "The first group is how long newcomers wait, with all handshakes. The delay while they \
             join should not be above that when all are there: a larger room takes its time, the \
             joins should not. {} joins failed.",
            text(&line["failed"])
        ),
        table: None,
    })
}

fn switching(run: &Run) -> Option<Section> {
    let line = &run.line;
    let groups = groups(&[
        ("One receiver at a time", &line["took_us"], "s-ironcast"),
        ("All receivers at once", &line["together_us"], "s-ironcast"),
    ])?;
    Some(Section {
        name: "switching",
        title: "Changing between layers".to_owned(),
        plot: Plot::Bars(Bars {
            title: "Time to change the layer".to_owned(),
            unit: "milliseconds: less is better".to_owned(),
            groups,
        }),
        reading: format!(
            "Of {} changes {} failed and left {} gaps in the numbers of a stream; the time holds the \
             wait for the publisher's key frame, and no receiver was without packets for longer than \
             {} ms.",
            text(&line["switches"]),
            text(&line["failed"]),
            text(&line["gaps"]),
            line["longest_pause_us"].as_f64().map_or_else(|| "–".to_owned(), |us| number(us / 1e3)),
        ),
        table: None,
    })
}

fn memory(run: &Run) -> Option<Section> {
    let steps = list(&run.line["steps"]);
    let of = |state: &str| {
        let at = |step: &Value| {
            let sum = |of: &Value| Some(of["processes"].as_f64()? + of["kernel"].as_f64()?);
            let more = sum(&step[state])? - sum(&step["empty"])?;
            Some(Point::exact(step["participants"].as_f64()?, more.max(0.0) / 1e6))
        };
        steps.iter().filter_map(at).collect()
    };
    let series: Vec<Series> = [
        series("active".to_owned(), "s-ironcast".to_owned(), of("active")),
        series("idle".to_owned(), "s-ironcast thin".to_owned(), of("idle")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if series.is_empty() {
        return None;
    }
    let slope = |name: &str| {
        let bytes = run.line[name]["sum"].as_f64();
        bytes.map_or_else(|| "–".to_owned(), |bytes| number((bytes / 1e3).round()))
    };
    Some(Section {
        name: "memory",
        title: "What participants cost in memory".to_owned(),
        plot: Plot::Lines(Lines {
            title: "Memory of the server and the kernel against participants".to_owned(),
            x: (Kind::Linear, "participants".to_owned()),
            y: (Kind::Linear, "megabytes more than the empty server".to_owned()),
            series,
        }),
        reading: format!(
            "The slope is what one more participant costs: {} KB idle, {} KB while all send, with the \
             kernel's memory of both ends of every connection.",
            slope("bytes_per_participant_idle"),
            slope("bytes_per_participant_active")
        ),
        table: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(line: Value) -> Run {
        let scenario = line["scenario"].as_str().expect("a name").to_owned();
        Run { scenario, line, windows: Vec::new(), made: 1, machine: Value::Null }
    }

    #[test]
    fn delays_become_a_line_a_server_and_quantile() {
        let point = |server: &str, receivers: u64, p99: u64| {
            json!({ "server": server, "load": "x", "receivers": receivers,
                    "delay_us": { "p50": 10, "p99": p99, "p999": p99 } })
        };
        let points =
            [point("ironcast", 80, 300), point("ironcast", 20, 100), point("janus", 20, 9)];
        let section = latency(&run(json!({ "scenario": "latency", "points": points })));
        let section = section.expect("points");
        let Plot::Lines(lines) = &section.plot else { panic!("lines") };
        assert_eq!(lines.series.len(), 4);
        let ours: Vec<(f64, f64)> =
            lines.series[0].points.iter().map(|point| (point.x, point.y)).collect();
        assert_eq!(ours, [(20.0, 100.0), (80.0, 300.0)], "from left to right");
        assert_eq!(section.table.expect("a table").rows.len(), 4);
    }

    #[test]
    fn memory_is_what_is_more_than_empty() {
        let step = |participants: u64, bytes: u64| {
            let of = |bytes: u64| json!({ "processes": bytes, "kernel": 0 });
            json!({ "participants": participants, "empty": of(1_000_000), "idle": of(bytes) })
        };
        let line = json!({
            "scenario": "memory", "steps": [step(10, 2_000_000), step(20, 3_000_000)],
            "bytes_per_participant_idle": { "sum": 100_000 },
        });
        let section = memory(&run(line)).expect("steps");
        let Plot::Lines(lines) = &section.plot else { panic!("lines") };
        let sizes: Vec<f64> = lines.series[0].points.iter().map(|point| point.y).collect();
        assert_eq!(sizes, [1.0, 2.0]);
        assert!(section.reading.contains("100 KB idle"));
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        assert!(of(&[]).is_empty());
        assert!(of(&[run(json!({ "scenario": "capacity" }))]).is_empty());
        assert!(of(&[run(json!({ "scenario": "switching" }))]).is_empty());
    }
}
