//! The table for people.

use std::fmt::Write;

use crate::{fanout::Summary, measure::Window, servers::Server, statistics::Estimate};

/// Above this share of its core the load may be what limits.
const LOAD_BUSY_MAX: f64 = 0.85;

/// Percent of what should have come.
fn share_lost(lost: u64, received: u64) -> f64 {
    100.0 * lost as f64 / (lost + received).max(1) as f64
}

/// One line a server.
pub(crate) fn of(summaries: &[Summary], windows: &[Window]) -> String {
    let mut out = String::from(
        "server                CPU-s/M [95 %]        core-s/M  core  load  ironcast is         \
         with xdp            lost   verified  p50 us  p99 us\n",
    );
    for one in summaries {
        let interval = format!("{:.3} [{:.3} {:.3}]", one.cpu.median, one.cpu.low, one.cpu.high);
        let ratio = |ratio: &Option<Estimate>| match ratio {
            Some(ratio) => format!("{:.2} x [{:.2} {:.2}]", ratio.median, ratio.low, ratio.high),
            None => String::new(),
        };
        let (ours, xdp) = (ratio(&one.ours_over_this), ratio(&one.xdp_over_this));
        let lost = share_lost(one.lost, one.received);
        let _ = writeln!(
            out,
            "{:<21} {interval:<21} {:<9.3} {:>3.0} % {:>3.0} % {ours:<19} {xdp:<19} {lost:.3} % \
             {:>9} {:>7} {:>7}",
            one.server,
            one.core.median,
            one.core_busy * 100.0,
            one.load_busy * 100.0,
            one.verified,
            one.delay_us[0],
            one.delay_us[1],
        );
        if one.server == Server::IroncastXdp.name() {
            let _ = writeln!(out, "  {:.0} % of them as whole frames", one.by_frames * 100.0);
        }
        if one.corrupt > 0 {
            let _ = writeln!(out, "  *** {} packets arrived damaged", one.corrupt);
        }
        if one.load_busy > LOAD_BUSY_MAX {
            out.push_str(
                "  *** the load itself is full: this is the load's limit, not the server's\n",
            );
        }
    }
    for window in windows {
        let by_sockets = window.server == Server::IroncastXdp.name() && window.xdp_datagrams == 0;
        if by_sockets || window.xdp_failures > 0 {
            let _ = writeln!(
                out,
                "  *** a window of {}: {} datagrams left as whole frames, {} interfaces failed",
                window.server, window.xdp_datagrams, window.xdp_failures
            );
        }
        if let Some(why) = &window.broken {
            let lost = share_lost(window.lost, window.received);
            let _ = writeln!(
                out,
                "  *** a window of {} is no result: {why} ({lost:.3} % never came)",
                window.server
            );
        }
    }
    let disturbed = windows.iter().filter(|window| window.disturbed).count();
    if disturbed > 0 {
        let _ = writeln!(out, "{disturbed} disturbed windows (steal time) were thrown out");
    }
    out
}
