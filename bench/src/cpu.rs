//! Readings of processor time: of processes (all their threads, user and system) and of a core.
//! Called by [`crate::measure`]; never waits.

use std::fs;

/// What one core did since the machine started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CoreTicks {
    busy: u64,
    idle: u64,
    steal: u64,
}

/// Share of a window that a core worked, and that the host took away.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CoreShare {
    /// 0 to 1; what the kernel did outside the process is in it.
    pub(crate) busy: f64,
    /// 0 to 1.
    pub(crate) steal: f64,
}

/// Nanoseconds on a processor of all threads of these processes (the scheduler's exact sum; the
/// counters in ticks are a hundred times coarser).
pub(crate) fn process_ns(pids: &[u32]) -> u64 {
    pids.iter().flat_map(|pid| thread_files(*pid)).filter_map(|path| run_ns(&path)).sum()
}

fn thread_files(pid: u32) -> Vec<String> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads.flatten().map(|thread| format!("{}/schedstat", thread.path().display())).collect()
}

fn run_ns(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok()
}

/// Resident memory, bytes.
pub(crate) fn resident_bytes(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum::<u64>()
        * 1024
}

/// Reads one core.
pub(crate) fn core_ticks(core: usize) -> CoreTicks {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    parse_core(&stat, core).unwrap_or_default()
}

fn parse_core(stat: &str, core: usize) -> Option<CoreTicks> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find(|line| line.starts_with(&name))?;
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal (proc(5))
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some(CoreTicks { busy: user + nice + system + irq + softirq, idle: idle + iowait, steal })
}

/// What happened between two readings.
pub(crate) fn core_share(before: CoreTicks, after: CoreTicks) -> CoreShare {
    let busy = after.busy.saturating_sub(before.busy) as f64;
    let idle = after.idle.saturating_sub(before.idle) as f64;
    let steal = after.steal.saturating_sub(before.steal) as f64;
    let all = (busy + idle + steal).max(1.0);
    CoreShare { busy: busy / all, steal: steal / all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_found_among_others() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\ncpu1 1 0 1 8 0 0 0 2 0 0\n";
        let zero = CoreTicks { busy: 19, idle: 9, steal: 8 };
        assert_eq!(parse_core(stat, 0), Some(zero));
        let one = parse_core(stat, 1).expect("a core");
        let share = core_share(CoreTicks::default(), one);
        assert!((share.busy - 2.0 / 12.0).abs() < 1e-9 && (share.steal - 2.0 / 12.0).abs() < 1e-9);
        assert_eq!(parse_core(stat, 2), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let mut sum = 0u64;
        for number in 0..2_000_000u64 {
            sum = sum.wrapping_mul(31).wrapping_add(number);
        }
        assert_ne!(sum, 1);
        let own = [std::process::id()];
        assert!(process_ns(&own) > 0);
        assert!(resident_bytes(&own) > 100_000);
    }
}
