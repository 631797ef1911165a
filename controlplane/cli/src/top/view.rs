//! The screen of `ironcast top`: what it shows of what was seen, drawn into any buffer. Made for 80
//! columns and 24 lines; more room shows more rows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ironcast_api::{Top, TopRouter, TopTransport, TopWorker, WorkerStatus};
use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table, Widget},
};

use crate::look::table::{bits, duration, or_dash, percent, short};

/// Busy from here on is shown in yellow, and in red.
const BUSY: (f64, f64) = (0.7, 0.9);
/// A packet's time in the server, p99 in microseconds.
const DELAY: (f64, f64) = (5_000.0, 20_000.0);
/// Share of packets that were lost on the way to a receiver.
const LOSS: (f64, f64) = (0.02, 0.10);
/// Dropped datagrams per second.
const DROPS: (f64, f64) = (1.0, 1_000.0);

/// Which lists are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Both,
    Routers,
    Transports,
    Drops,
}

impl Shown {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Both => Self::Routers,
            Self::Routers => Self::Transports,
            Self::Transports => Self::Drops,
            Self::Drops => Self::Both,
        }
    }
}

/// What is on the screen.
pub(super) struct Screen {
    url: String,
    top: Top,
    seen: Option<Instant>,
    /// Drops per second of each worker and reason, between the last two looks.
    drops: BTreeMap<(String, String), f64>,
    lost: Option<String>,
    pub(super) shown: Shown,
    /// The first row of a long list.
    pub(super) first: usize,
}

impl Screen {
    pub(super) fn new(url: String) -> Self {
        let (top, drops) = (Top::default(), BTreeMap::new());
        Self { url, top, seen: None, drops, lost: None, shown: Shown::Both, first: 0 }
    }

    /// Another look.
    pub(super) fn see(&mut self, top: Top, now: Instant) {
        if let Some(seen) = self.seen {
            self.drops = rates(&self.top, &top, now.saturating_duration_since(seen));
        }
        (self.top, self.seen, self.lost) = (top, Some(now), None);
    }

    /// It could not be looked.
    pub(super) fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    fn drops_of(&self, worker: &str) -> f64 {
        self.drops.iter().filter(|((one, _), _)| one == worker).map(|(_, rate)| rate).sum()
    }
}

/// Drops per second. A worker that has begun anew counts from 0.
fn rates(before: &Top, after: &Top, time: Duration) -> BTreeMap<(String, String), f64> {
    let seconds = time.as_secs_f64().max(0.001);
    let mut rates = BTreeMap::new();
    for worker in &after.workers {
        let id = &worker.worker.id;
        let older = before.workers.iter().find(|one| one.worker.id == *id);
        for (reason, count) in &worker.drops {
            let before = older.and_then(|one| one.drops.get(reason)).copied().unwrap_or_default();
            let more = if *count >= before { count - before } else { *count };
            if more > 0 {
                rates.insert((id.to_string(), reason.clone()), more as f64 / seconds);
            }
        }
    }
    rates
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    render(screen, area, frame.buffer_mut());
}

/// As lines of text, of this width and as long as it takes.
pub(super) fn as_text(screen: &Screen, width: u16) -> String {
    let rows = screen.top.workers.len() + screen.top.routers.len() + screen.top.transports.len();
    let height = u16::try_from(rows + 12).unwrap_or(u16::MAX).min(400);
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    render(screen, area, &mut buffer);
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let lines: Vec<String> = (0..height - 1).map(|y| line(y).trim_end().to_owned()).collect();
    lines.join("\n").trim_end().to_owned()
}

fn render(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let workers = u16::try_from(screen.top.workers.len()).unwrap_or(u16::MAX);
    // Of many workers as many are shown as leave half of the screen to the rest.
    let workers = workers.min(area.height.saturating_sub(4) / 2).max(1) + 1;
    let [head, first, second, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(workers + 1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    Paragraph::new(summary(screen)).render(head, buffer);
    render_workers(screen, first, buffer);
    match screen.shown {
        Shown::Both => {
            let routers = u16::try_from(screen.top.routers.len()).unwrap_or(u16::MAX);
            let half = second.height / 2;
            let above = (routers + 2).min(half.max(3));
            let [above, below] =
                Layout::vertical([Constraint::Length(above), Constraint::Fill(1)]).areas(second);
            render_routers(screen, 0, above, buffer);
            render_transports(screen, screen.first, below, buffer);
        }
        Shown::Routers => render_routers(screen, screen.first, second, buffer),
        Shown::Transports => render_transports(screen, screen.first, second, buffer),
        Shown::Drops => render_drops(screen, second, buffer),
    }
    let keys = "q quit  tab/b/r/t/d both, routers, transports, drops  up/down scroll";
    Line::from(keys).style(Style::new().add_modifier(Modifier::DIM)).render(foot, buffer);
}

fn summary(screen: &Screen) -> Vec<Line<'_>> {
    let (top, host) = (&screen.top, &screen.top.host);
    let sum = |figure: fn(&TopWorker) -> f64| top.workers.iter().map(figure).sum::<f64>();
    let packets = sum(|one| one.worker.packets_out_per_second);
    let rate = sum(|one| one.worker.bitrate_out_bps as f64);
    let drops: f64 = screen.drops.values().sum();
    let state = match (&screen.lost, host.draining, host.drained) {
        (Some(why), _, _) => Span::from(format!("NOT NOW: {why}")).red().bold(),
        (None, true, true) => Span::from("DRAINED").yellow().bold(),
        (None, true, false) => Span::from("DRAINING").yellow().bold(),
        (None, false, _) => Span::from("serving").green(),
    };
    vec![
        Line::from(vec![
            Span::from("ironcast ").bold(),
            Span::from(format!("{} {}  up {}  ", top.version, screen.url, duration(top.uptime_s))),
            state,
        ]),
        Line::from(vec![Span::from(format!(
            "{} rooms  {} people  {} transports  {} producers  {} consumers",
            host.routers, host.participants, host.transports, top.producers, top.consumers
        ))]),
        Line::from(vec![
            Span::from(format!("out {} packets/s  {}  drops ", short(packets), bits(rate as u64))),
            Span::styled(format!("{}/s", short(drops)), graded(drops, DROPS)),
        ]),
    ]
}

/// Green, yellow or red are told apart by people who see them; bold says it to all.
fn graded(value: f64, (warn, bad): (f64, f64)) -> Style {
    match value {
        value if value >= bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        value if value >= warn => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

fn head<'a>(names: impl IntoIterator<Item = &'a str>) -> Row<'a> {
    Row::new(names.into_iter().map(Line::from)).style(Style::new().add_modifier(Modifier::REVERSED))
}

/// A number stands to the right.
fn number<'a>(text: String) -> Line<'a> {
    Line::from(text).right_aligned()
}

fn render_workers(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let rows = screen.top.workers.iter().map(|one| {
        let (worker, delay) = (&one.worker, one.worker.forwarding_delay_us);
        let drops = screen.drops_of(worker.id.as_str());
        let name = match worker.status {
            WorkerStatus::Running => worker.id.to_string(),
            WorkerStatus::Restarting => format!("{} RESTARTING", worker.id),
        };
        Row::new(vec![
            Line::from(name),
            number(or_dash(worker.core)),
            Line::from(bar(worker.cpu_busy, 10)).style(graded(worker.cpu_busy, BUSY)),
            number(percent(worker.cpu_busy)),
            number(worker.routers.to_string()),
            number(worker.transports.to_string()),
            number(worker.consumers.to_string()),
            number(short(worker.packets_out_per_second)),
            number(bits(worker.bitrate_out_bps)),
            number(micros(delay.p50)),
            number(micros(delay.p99)).style(graded(delay.p99, DELAY)),
            number(short(drops)).style(graded(drops, DROPS)),
        ])
    });
    let widths = [6, 4, 10, 4, 5, 6, 6, 5, 8, 5, 5, 5].map(Constraint::Length);
    let names = [
        "worker", "core", "busy", "", "rooms", "transp", "cons", "pkt/s", "out", "p50", "p99",
        "drops",
    ];
    Widget::render(Table::new(rows, widths).header(head(names)), area, buffer);
}

fn render_routers(screen: &Screen, first: usize, area: Rect, buffer: &mut Buffer) {
    let rows = screen.top.routers.iter().skip(first).map(|one: &TopRouter| {
        Row::new(vec![
            Line::from(one.id.to_string()),
            number(one.worker_id.to_string()),
            number(one.counts.participants.to_string()),
            number(one.counts.producers.to_string()),
            number(one.counts.consumers.to_string()),
            number(bits(one.recv_bitrate)),
            number(bits(one.send_bitrate)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    let names = ["router", "worker", "people", "prod", "cons", "in", "out"];
    Widget::render(Table::new(rows, widths).header(head(names)), area, buffer);
}

fn render_transports(screen: &Screen, first: usize, area: Rect, buffer: &mut Buffer) {
    let rows = screen.top.transports.iter().skip(first).map(|one: &TopTransport| {
        let stats = &one.stats;
        let loss = stats.rtp_packet_loss_sent.unwrap_or_default();
        Row::new(vec![
            Line::from(stats.transport_id.clone()),
            Line::from(or_dash(one.participant_id.as_ref())),
            number(bits(stats.recv_bitrate)),
            number(bits(stats.send_bitrate)),
            number(or_dash(stats.available_outgoing_bitrate.map(bits))),
            number(bits(stats.rtx_send_bitrate)),
            number(or_dash(stats.rtp_packet_loss_sent.map(percent))).style(graded(loss, LOSS)),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(5),
    ];
    let names = ["transport", "of", "in", "out", "estimate", "repeats", "lost"];
    Widget::render(Table::new(rows, widths).header(head(names)), area, buffer);
}

fn render_drops(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let all = screen.top.workers.iter().flat_map(|one| {
        let id = one.worker.id.to_string();
        one.drops.iter().map(move |(reason, count)| (id.clone(), reason.clone(), *count))
    });
    let mut all: Vec<_> = all
        .map(|(worker, reason, count)| {
            let rate = screen.drops.get(&(worker.clone(), reason.clone())).copied();
            (worker, reason, count, rate.unwrap_or_default())
        })
        .collect();
    all.sort_by(|a, b| b.3.total_cmp(&a.3).then(b.2.cmp(&a.2)));
    let rows = all.into_iter().skip(screen.first).map(|(worker, reason, count, rate)| {
        Row::new(vec![
            Line::from(reason),
            number(worker),
            number(short(rate)).style(graded(rate, DROPS)),
            number(count.to_string()),
        ])
    });
    let widths =
        [Constraint::Fill(1), Constraint::Length(6), Constraint::Length(8), Constraint::Length(14)];
    let names = ["dropped because of", "worker", "now/s", "since start"];
    Widget::render(Table::new(rows, widths).header(head(names)), area, buffer);
}

/// A share of 1 in so many characters.
fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "\u{2588}".repeat(full), "\u{2591}".repeat(width - full))
}

/// Microseconds, and milliseconds where they are many.
fn micros(us: f64) -> String {
    if us < 9_999.5 { format!("{us:.0}u") } else { format!("{:.0}ms", us / 1_000.0) }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::{Value, json};

    use super::*;

    fn worker(id: &str, busy: f64, drops: u64) -> Value {
        json!({
            "id": id, "core": 2, "status": "running", "ports": { "min": 1, "max": 2 },
            "routers": 12, "transports": 340, "producers": 170, "consumers": 4_900,
            "cpuBusy": busy, "packetsOutPerSecond": 184_000.0, "bitrateOutBps": 1_640_000_000u64,
            "load": busy, "forwardingDelayUs": { "p50": 180.0, "p99": 21_000.0 },
            "drops": { "srtp_replayed": drops }, "datagramsIn": 1, "datagramsOut": 2,
        })
    }

    fn top(busy: f64, drops: u64, rows: usize) -> Top {
        let router = |n: usize| {
            json!({
                "id": format!("room-{n}"), "workerId": "0",
                "counts": { "participants": 7, "transports": 14, "producers": 14, "consumers": 84 },
                "recvBitrate": 9_000_000, "sendBitrate": 54_000_000,
            })
        };
        let transport = |n: usize| {
            json!({
                "routerId": "room-1", "participantId": format!("person-{n}"),
                "type": "webrtc-transport", "transportId": format!("transport-{n}"),
                "timestamp": 0, "iceRole": "controlled", "iceState": "completed",
                "dtlsState": "connected", "bytesReceived": 0, "recvBitrate": 40_000,
                "bytesSent": 0, "sendBitrate": 2_400_000, "rtpBytesReceived": 0,
                "rtpRecvBitrate": 0, "rtpBytesSent": 0, "rtpSendBitrate": 0,
                "rtxBytesReceived": 0, "rtxRecvBitrate": 0, "rtxBytesSent": 0,
                "rtxSendBitrate": 12_000, "probationBytesSent": 0, "probationSendBitrate": 0,
                "availableOutgoingBitrate": 3_100_000, "rtpPacketLossSent": 0.031,
            })
        };
        let value = json!({
            "uptimeS": 7_260, "version": "0.1.0",
            "host": { "draining": false, "drained": false, "routers": rows, "transports": 2,
                      "participants": 3 },
            "producers": 4, "consumers": 5,
            "workers": [worker("0", busy, drops)],
            "routers": (0..rows).map(router).collect::<Vec<_>>(),
            "transports": (0..rows).map(transport).collect::<Vec<_>>(),
        });
        serde_json::from_value(value).expect("the API's shape")
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a buffer");
        terminal.draw(|frame| draw(frame, screen)).expect("it draws");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(line).collect()
    }

    fn seen_twice(rows: usize) -> Screen {
        let mut screen = Screen::new("https://127.0.0.1:7443".into());
        let now = Instant::now();
        screen.see(top(0.5, 100, rows), now);
        screen.see(top(0.93, 350, rows), now + Duration::from_secs(1));
        screen
    }

    #[test]
    fn a_host_fits_on_80_by_24() {
        let lines = drawn(&seen_twice(30), 80, 24);
        let text = lines.join("\n");
        let wanted = [
            "up 2h01m",
            "serving",
            "30 rooms  3 people",
            "184k packets/s",
            "drops 250/s",
            "93%",
            "1.64Gb/s",
            "180u",
            "21ms",
            "room-0",
            "54.0Mb/s",
            "transport-0",
            "person-0",
            "3.10Mb/s",
            "3.1%",
            "q quit",
        ];
        for part in wanted {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(lines.iter().any(|line| line.starts_with("worker core busy")), "{text}");
        let transports = lines.iter().filter(|line| line.starts_with("transport-")).count();
        let routers = lines.iter().filter(|line| line.starts_with("room-")).count();
        assert!(transports >= 6 && routers >= 6, "{routers} {transports}\n{text}");
    }

    #[test]
    fn keys_choose_what_is_shown_and_long_lists_scroll() {
        let mut screen = seen_twice(30);
        screen.shown = Shown::Routers;
        screen.first = 5;
        let text = drawn(&screen, 80, 24).join("\n");
        assert!(text.contains("room-5 ") && !text.contains("room-4 "), "{text}");
        assert!(!text.contains("transport-"), "{text}");
        screen.shown = Shown::Drops;
        screen.first = 0;
        let text = drawn(&screen, 80, 24).join("\n");
        assert!(text.contains("srtp_replayed") && text.contains("350"), "{text}");
    }

    #[test]
    fn what_was_seen_last_stays_when_the_server_is_away() {
        let mut screen = seen_twice(2);
        screen.lose("the control plane cannot be reached".into());
        let text = drawn(&screen, 80, 24).join("\n");
        assert!(text.contains("NOT NOW: the control plane"), "{text}");
        assert!(text.contains("room-1"), "{text}");
    }

    #[test]
    fn no_size_is_too_small_to_draw() {
        let screen = seen_twice(30);
        for (width, height) in [(1, 1), (10, 3), (20, 5), (200, 60)] {
            drawn(&screen, width, height);
        }
        assert!(as_text(&screen, 100).contains("transport-29"));
    }

    #[test]
    fn a_worker_that_began_anew_counts_its_drops_from_zero() {
        let rate = rates(&top(0.1, 900, 0), &top(0.1, 30, 0), Duration::from_secs(1));
        assert_eq!(rate.values().copied().sum::<f64>(), 30.0);
    }
}
