//! `ironcast doctor`: is this host ready? Reads what the kernel tells and compares it with what the
//! configuration asks. Changes nothing; every finding says what to do.

use std::{fs, net::SocketAddr, process::ExitCode, thread::available_parallelism};

use ironcast_config::{Config, Door, PortRange, Transmit};
use ironcast_driver::{Without, probe};
use nix::sys::resource::{Resource, getrlimit};

use crate::probe::{require_media_ports, require_port};

/// One line of the report.
enum Finding {
    Good(String),
    /// Works, but less well.
    Better(String, String),
    /// Will not work.
    Bad(String, String),
}
use Finding::{Bad, Better, Good};

/// Prints the report. Fails if something will not work.
pub(crate) fn run(config: &Config) -> ExitCode {
    let mut findings = vec![kernel(), io_uring()];
    findings.extend(xdp(config));
    findings.extend([open_files(config), cores(config), memory()]);
    findings.extend([socket_buffers(), reserved_ports(config), media_port(config)]);
    findings.extend(doors(config).into_iter().map(door));
    let mut failed = false;
    for finding in findings {
        match finding {
            Good(what) => println!("  \u{2713} {what}"),
            Better(what, advice) => println!("  ! {what}\n      {advice}"),
            Bad(what, advice) => {
                failed = true;
                println!("  \u{2717} {what}\n      {advice}");
            }
        }
    }
    println!("\n{}", if failed { "Not ready." } else { "Ready." });
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    match kernel_version(&release) {
        Some(version) if version < (6, 1) => Bad(
            format!("Linux {release} is too old"),
            "6.1 is needed (Debian 12, Ubuntu 24.04); 6.13 or newer is best".into(),
        ),
        Some(version) if version < (6, 13) => Better(
            format!("Linux {release}"),
            "from 6.13 on, many participants on one port cost no more than one".into(),
        ),
        Some(_) => Good(format!("Linux {release}")),
        None => Better(format!("unknown kernel `{release}`"), "6.1 or newer is needed".into()),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Runs a ring as a worker would, with the same arguments.
fn io_uring() -> Finding {
    match Without::from_environment().map(probe::require) {
        Ok(Ok(())) => Good("io_uring works here".into()),
        Ok(Err(error)) => refused(&error),
        Err(error) => refused(&error),
    }
}

/// Only where the configuration asks for it.
fn xdp(config: &Config) -> Option<Finding> {
    (config.dataplane.transmit == Transmit::Xdp).then(|| match probe::require_xdp() {
        Ok(()) => Good("AF_XDP works here".into()),
        Err(error) => refused(&error),
    })
}

/// An error that says what is wrong, a colon, and what to do.
fn refused(error: &dyn std::error::Error) -> Finding {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((what, advice)) => Bad(what.to_owned(), advice.to_owned()),
        None => Bad(text, "`transmit` in [dataplane] says what is used".into()),
    }
}

fn open_files(config: &Config) -> Finding {
    // The limit bounds each worker's table of sockets: a quarter more than peers, for listeners.
    let wanted = u64::from(config.dataplane.paths_max) * 5 / 4 + 1_000;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= wanted => Good(format!("{hard} open files")),
        Ok((_, hard)) => Better(
            format!("{hard} open files, {wanted} would be needed at full load"),
            "raise LimitNOFILE, or lower dataplane.paths_max".into(),
        ),
        Err(error) => Better(format!("the limit of open files is unknown: {error}"), "".into()),
    }
}

fn cores(config: &Config) -> Finding {
    let cores = available_parallelism().map_or(1, usize::from);
    let workers = config.worker_cores(&(0..cores as u32).collect::<Vec<_>>()).len();
    if workers > cores {
        return Better(
            format!("{workers} workers share {cores} cores"),
            "lower dataplane.workers: a worker wants a core of its own".into(),
        );
    }
    Good(format!("{workers} workers on {cores} cores"))
}

fn memory() -> Finding {
    let meminfo = read("/proc/meminfo");
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    match kib.map(|kib| kib / 1024) {
        Some(mib) if mib < 512 => Better(
            format!("{mib} MiB of memory are free"),
            "1 GiB is good for a few hundred participants".into(),
        ),
        Some(mib) => Good(format!("{mib} MiB of memory are free")),
        None => Better("free memory is unknown".into(), "/proc/meminfo cannot be read".into()),
    }
}

fn socket_buffers() -> Finding {
    const WANTED: u64 = 4 * 1024 * 1024;
    let receive = read("/proc/sys/net/core/rmem_max").parse::<u64>().unwrap_or(WANTED);
    let send = read("/proc/sys/net/core/wmem_max").parse::<u64>().unwrap_or(WANTED);
    if receive >= WANTED && send >= WANTED {
        return Good("socket buffers can be large enough".into());
    }
    Better(
        format!("socket buffers are at most {receive} B in and {send} B out"),
        "sysctl net.core.rmem_max=4194304 net.core.wmem_max=4194304 survives longer bursts".into(),
    )
}

/// A port of ours that the kernel lends to an outgoing connection is missing here.
fn reserved_ports(config: &Config) -> Finding {
    let ports = match config.rtc.single_port {
        Some(port) => PortRange { first: port, last: port },
        None => config.rtc.ports,
    };
    let lent = read("/proc/sys/net/ipv4/ip_local_port_range");
    let mut ends = lent.split_whitespace().map(|end| end.parse::<u16>().unwrap_or(0));
    let (first, last) = (ends.next().unwrap_or(0), ends.next().unwrap_or(0));
    if ports.last < first || ports.first > last {
        return Good(format!("UDP ports {ports} are not lent to other programs"));
    }
    if reserved(&read("/proc/sys/net/ipv4/ip_local_reserved_ports"), ports) {
        return Good(format!("UDP ports {ports} are reserved"));
    }
    Better(
        format!("the kernel may lend UDP ports {ports} to other programs"),
        format!("sysctl net.ipv4.ip_local_reserved_ports={ports} (as root)"),
    )
}

fn reserved(list: &str, ports: PortRange) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) => first <= ports.first && ports.last <= last,
            _ => false,
        }
    })
}

fn media_port(config: &Config) -> Finding {
    match require_media_ports(config) {
        Ok(()) => Good("the UDP ports of media can be had".into()),
        Err(text) => Bad(text, "Ironcast may be running".into()),
    }
}

/// Every TCP port that is listened on, with its key.
pub(crate) fn doors(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let mut doors = vec![
        ("control.listen", config.control.listen),
        ("control.ops", config.control.ops),
        ("signaling.listen", config.signaling.listen),
    ];
    if let Some(Door::Tcp(address)) = config.control.plain {
        doors.push(("control.plain", address));
    }
    doors
}

fn door((key, address): (&'static str, SocketAddr)) -> Finding {
    match require_port(key, address) {
        Ok(()) => Good(format!("{address} is free ({key})")),
        Err(text) => Better(text, "Ironcast may be running".into()),
    }
}

/// One line where the limit of open files is below what the configuration may need.
pub(crate) fn few_files(config: &Config) -> Option<String> {
    match open_files(config) {
        Good(_) => None,
        Better(what, advice) | Bad(what, advice) => Some(format!("{what}: {advice}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("nonsense"), None);
    }

    #[test]
    fn reserved_ports_are_found_in_the_kernels_list() {
        let ports = PortRange { first: 40_000, last: 49_999 };
        assert!(reserved("3000,39999-50000", ports));
        assert!(!reserved("40000-49998", ports));
        assert!(!reserved("", ports));
        assert!(reserved("3478", PortRange { first: 3478, last: 3478 }));
    }
}
