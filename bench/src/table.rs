//! The table for people.

use std::fmt::Write;

use crate::{fanout::Summary, measure::Window, statistics::Estimate};

/// Above this share of its core the load may be what limits.
const LOAD_BUSY_MAX: f64 = 0.85;

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
        let lost = 100.0 * one.lost as f64 / (one.lost + one.received).max(1) as f64;
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
        if one.corrupt > 0 {
            let _ = writeln!(out, "  *** {} packets arrived damaged", one.corrupt);
        }
        if one.load_busy > LOAD_BUSY_MAX {
            out.push_str(
                "  *** the load itself is full: this is the load's limit, not the server's\n",
            );
        }
    }
    let disturbed = windows.iter().filter(|window| window.disturbed).count();
    if disturbed > 0 {
        let _ = writeln!(out, "{disturbed} disturbed windows (steal time) were thrown out");
    }
    out
}
