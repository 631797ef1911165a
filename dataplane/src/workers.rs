//! The workers' threads: one pinned thread a core, which runs the driver's loop around an engine. A
//! panic ends one worker's run, never the process: its routers are reported dead, and it starts
//! again, empty. Listeners of single-port mode belong to the process and outlive a worker.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Sender as HubSender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use ironcast_config::{Config, PortRange, Transmit, explain};
use ironcast_core::{
    SECOND,
    srtp::{Sealer, SoftwareSealer},
    worker::{Limits, Worker},
};
use ironcast_driver::{
    DriverConfig, Exchange, StreamLimits, Without,
    claim::{PortClaim, require_free},
    mailbox,
    steering::SharedListeners,
};
use ironcast_handshake::{Certificate, Output, Pool, PoolConfig};
use ironcast_protocol::WorkerId;

use crate::{
    addresses,
    counters::Counters,
    directory::Directory,
    engine::{Parts, WorkerEngine},
    life::{Lives, Pulse},
    messages::{ToHub, ToWorker},
    neighbours::Neighbours,
    plain::PlainSockets,
    ports::Ports,
    settings::Settings,
};

/// Before a worker that ended is started again; doubled each time it ends again soon.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// With fewer sockets than this no worker is of use.
const FEW_PATHS: u32 = 64;
/// A worker that ran for so long has not failed at its start.
const RAN_WELL: Duration = Duration::from_secs(10);

/// All workers, before they start.
pub struct Workers {
    config: Config,
    settings: Arc<Settings>,
    cores: Vec<u32>,
    addresses: Vec<IpAddr>,
    certificate: Certificate,
    hub: HubSender<ToHub>,
    directory: Directory,
    /// Of all workers.
    handshakes: Pool,
    shared: Option<SharedListeners>,
    without: Without,
    /// Where they find each other.
    exchange: Exchange,
    neighbours: Neighbours,
    /// The ports of each worker.
    slices: Vec<PortRange>,
    /// Those of its plain transports.
    plain_slices: Vec<PortRange>,
    /// Nobody else on this host uses them while this lives.
    _claim: PortClaim,
}

impl Workers {
    /// Looks at the host: cores, addresses, certificate, and the listeners of single-port mode.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn prepare(
        config: &Config,
        without: Without,
        hub: HubSender<ToHub>,
        counters: &Counters,
        settings: &Arc<Settings>,
    ) -> anyhow::Result<Self> {
        let allowed = ironcast_driver::affinity::allowed_cpus()?;
        let allowed: Vec<u32> = allowed.into_iter().map(|core| core as u32).collect();
        let cores = config.worker_cores(&allowed);
        anyhow::ensure!(cores.len() <= 256, "at most 256 workers");
        require_sealer(config.dataplane.sealer)?;
        let addresses = addresses::local(&config.rtc.listen).context("no network interfaces")?;
        let (slices, claim) = claim_ports(config, cores.len(), &addresses)?;
        let plain_slices = slices_of("rtc.plain_ports", config.rtc.plain_ports, cores.len())?;
        warn_of_few_files(config.dataplane.paths_max)?;
        let shared = config
            .rtc
            .single_port
            .map(|port| SharedListeners::open(&addresses, port, cores.len()))
            .transpose()
            .with_context(|| {
                let port = config.rtc.single_port.unwrap_or_default();
                format!("UDP port {port} (rtc.single_port) cannot be opened")
            })?;
        let certificate = Certificate::generate()?;
        let handshakes = start_handshakes(config, &certificate, &allowed, &cores)?;
        counters.add_spread("handshake_ns", handshakes.times());
        let counts = handshakes.counts();
        counters.add_reader(move |tell| {
            counts().iter().for_each(|(name, count)| tell(&format!("dtls_{name}"), count));
        });
        Ok(Self {
            settings: Arc::clone(settings),
            config: config.clone(),
            directory: Directory::new(cores.len()),
            exchange: Exchange::new(cores.len()),
            neighbours: Neighbours::default(),
            cores,
            addresses,
            certificate,
            handshakes,
            hub,
            shared,
            without,
            slices,
            plain_slices,
            _claim: claim,
        })
    }

    /// The core of each worker.
    #[must_use]
    pub fn cores(&self) -> Vec<u32> {
        self.cores.clone()
    }

    /// Starts all threads.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn start(self, lives: Arc<Lives>) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let all = Arc::new(self);
        let thread = |index: usize| {
            let (workers, lives) = (all.clone(), lives.clone());
            let name = format!("worker-{index}");
            std::thread::Builder::new().name(name).spawn(move || workers.supervise(index, &lives))
        };
        Ok((0..all.cores.len()).map(thread).collect::<Result<_, _>>()?)
    }

    /// Runs one worker again and again until it is told to stop.
    fn supervise(&self, index: usize, lives: &Arc<Lives>) {
        let worker = index as WorkerId;
        if let Err(error) =
            ironcast_driver::affinity::pin_current_thread(self.cores[index] as usize)
        {
            tracing::warn!(worker, %error, "not pinned to its core");
        }
        let mut pause = RESTART_PAUSE;
        loop {
            let began = Instant::now();
            let run = catch_unwind(AssertUnwindSafe(|| self.run(index, lives)));
            let ran = began.elapsed();
            self.directory.set(worker, None);
            let reason = match run {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error:#}"),
                Err(panic) => panic_message(panic.as_ref()),
            };
            if self.hub.send(ToHub::Died { worker, reason }).is_err() {
                return;
            }
            std::thread::sleep(pause);
            pause = pause_after(pause, ran);
        }
    }

    fn run(&self, index: usize, lives: &Arc<Lives>) -> anyhow::Result<()> {
        let pulse = lives.pulse(index as WorkerId);
        match self.config.dataplane.sealer {
            #[cfg(feature = "ipsec-mb")]
            ironcast_config::Sealer::IpsecMb => {
                self.run_with(index, ironcast_driver::ipsec_mb::MultiBufferSealer::new()?, pulse)
            }
            // Without the feature, the other one was refused at the start.
            _ => self.run_with(index, SoftwareSealer, pulse),
        }
    }

    fn run_with(&self, index: usize, sealer: impl Sealer, pulse: Pulse) -> anyhow::Result<()> {
        let worker = index as WorkerId;
        let config = &self.config;
        let (sender, receiver) =
            mailbox::mailbox::<ToWorker>(config.dataplane.commands_waiting_max as usize)?;
        let back = sender.clone();
        let handshakes = self.handshakes.join(move |transport, output| {
            let is_datagram = matches!(output, Output::Datagram(_));
            let message = ToWorker::Handshake { transport, output };
            if is_datagram {
                back.offer(message);
            } else {
                // Keys, and the end, are said once. A worker that has ended has no use for them.
                let _ = back.deliver(message);
            }
        });
        self.neighbours.forget(worker);
        let (ports, slice) = self.ports(index);
        let limits = &config.dataplane;
        let core = Worker::new(
            worker,
            Limits {
                routers_max: limits.routers_max as usize,
                // One that could never be connected is better refused, in words.
                transports_max: limits
                    .transports_max
                    .min(ironcast_driver::paths_max(limits.paths_max)?)
                    as usize,
                producers_max: limits.producers_max as usize,
                consumers_max: limits.consumers_max as usize,
                packets_max: limits.packets_max as usize,
                sent_ssrcs_max: limits.sent_ssrcs_per_transport_max as usize,
                repeats_waiting_max: limits.repeats_waiting_max as usize,
                answers_bytes_max: limits.answers_bytes_max as usize,
                observers_per_router_max: config.limits.observers_per_router_max as usize,
                producers_per_observer_max: config.limits.producers_per_observer_max as usize,
                plain_allow: config.rtc.plain_allow.clone(),
                takes_dtls_in_stun: config.rtc.dtls_in_stun,
            },
        );
        let engine = WorkerEngine::new(
            core,
            Parts {
                number: worker,
                core: self.cores[index],
                slice,
                addresses: self.addresses.clone(),
                settings: Arc::clone(&self.settings),
                ports,
                is_single_port: self.shared.is_some(),
                plain: PlainSockets::new(self.plain_slices[index]),
                certificate: self.certificate.clone(),
                handshakes,
                hub: self.hub.clone(),
                directory: self.directory.clone(),
                neighbours: self.neighbours.clone(),
                pulse,
                mailbox: Some(sender.clone()),
                test_hooks: std::env::var_os("IRONCAST_TEST_HOOKS").is_some(),
            },
            sealer,
        );
        let driver = DriverConfig {
            receive_buffers: limits.receive_buffers,
            slabs: limits.slabs,
            paths: limits.paths_max,
            portion_bytes: limits.portion_bytes,
            turn_hold_us: limits.turn_hold_us,
            busy_poll: limits.busy_poll,
            transmit: match limits.transmit {
                Transmit::IoUring => ironcast_driver::Transmit::IoUring,
                Transmit::Sendmmsg => ironcast_driver::Transmit::Sendmmsg,
                Transmit::Xdp => ironcast_driver::Transmit::Xdp,
            },
            streams: StreamLimits {
                connections: limits.tcp_connections_max,
                per_address: limits.tcp_connections_per_address_max,
                waiting_bytes: limits.tcp_waiting_bytes_max,
                ..StreamLimits::default()
            },
            without: self.without,
            exchange: self.exchange.clone(),
            number: worker,
            hop_ring_bytes: limits.hop_ring_bytes,
            ..DriverConfig::default()
        };
        self.directory.set(worker, Some(sender));
        let shared = self.shared.as_ref().map(|shared| shared.of_worker(index)).transpose()?;
        ironcast_driver::run(&driver, engine, receiver, shared.unwrap_or_default())?;
        Ok(())
    }

    /// Worker `index`'s share of the ports, and how many transports one carries.
    fn ports(&self, index: usize) -> (Ports, (u16, u16)) {
        let (rtc, PortRange { first, last }) = (&self.config.rtc, self.slices[index]);
        let ports = match rtc.single_port {
            Some(port) => Ports::single(port, rtc.single_port_peers_max),
            None => Ports::slice(first, last, rtc.peers_per_port_max),
        };
        (ports, (first, last))
    }
}

/// The handshake threads. A storm of joins is to delay no packet, so they run when a core has nothing
/// else to do, and on the cores of workers only where there are no others.
fn start_handshakes(
    config: &Config,
    certificate: &Certificate,
    allowed: &[u32],
    workers: &[u32],
) -> anyhow::Result<Pool> {
    let settings = PoolConfig {
        threads: config.dataplane.handshake_threads as usize,
        handshakes_max: config.dataplane.handshakes_max as usize,
        handshake: ironcast_handshake::Config {
            handshake_time_max: u64::from(config.rtc.handshake_timeout_s) * SECOND,
            ..ironcast_handshake::Config::default()
        },
        ..PoolConfig::default()
    };
    let others = allowed.iter().filter(|core| !workers.contains(core));
    let others: Vec<usize> = others.map(|core| *core as usize).collect();
    // A core that polls never has nothing else to do.
    let gives_way = !others.is_empty() || !config.dataplane.busy_poll;
    let prepare = move || {
        if !others.is_empty()
            && let Err(error) = ironcast_driver::affinity::restrict_current_thread(&others)
        {
            tracing::warn!(%error, "a handshake thread shares the cores of the workers");
        }
        if gives_way && let Err(error) = ironcast_driver::affinity::give_way() {
            tracing::warn!(%error, "a handshake thread has the rank of the workers");
        }
    };
    Pool::start(settings, certificate.clone(), prepare).context("no handshake threads")
}

/// The ports of each worker, and that they are ours alone.
fn claim_ports(
    config: &Config,
    workers: usize,
    addresses: &[IpAddr],
) -> anyhow::Result<(Vec<PortRange>, PortClaim)> {
    let rtc = &config.rtc;
    for address in &rtc.listen {
        UdpSocket::bind((*address, 0))
            .map_err(|error| anyhow::anyhow!(explain::media_address(*address, &error)))?;
    }
    let single = rtc.single_port.map(|port| PortRange { first: port, last: port });
    let all = single.unwrap_or(rtc.ports);
    let key = if single.is_some() { "rtc.single_port" } else { "rtc.ports" };
    let claim = PortClaim::take(&rtc.listen, all.first, all.last).map_err(|error| {
        anyhow::anyhow!("{key} {all}: {error}. End it, or choose others: --set {key}=...")
    })?;
    let slices = match single {
        Some(single) => vec![single; workers],
        None => slices_of("rtc.ports", all, workers)?,
    };
    for slice in &slices {
        require_a_port(*slice, addresses).map_err(|(address, error)| {
            anyhow::anyhow!(explain::media_port(key, address, &error))
        })?;
    }
    Ok((slices, claim))
}

/// Each worker's part of a range.
fn slices_of(key: &str, all: PortRange, workers: usize) -> anyhow::Result<Vec<PortRange>> {
    let slices: Option<Vec<_>> =
        (0..workers as u32).map(|index| all.slice(index, workers as u32)).collect();
    slices.with_context(|| {
        format!(
            "{key} has {} ports for {workers} workers, and each needs one of its own: widen it, or \
             lower dataplane.workers",
            all.count()
        )
    })
}

/// That a worker will find a port of its slice that nobody else has; else the first one's fault.
fn require_a_port(
    slice: PortRange,
    addresses: &[IpAddr],
) -> Result<(), (SocketAddr, std::io::Error)> {
    let mut first = None;
    for port in slice.first..=slice.last {
        let all = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
        // An address that went away is not the port's fault.
        let fault = all
            .filter_map(|address| Some((address, require_free(address).err()?)))
            .find(|(_, error)| error.kind() != std::io::ErrorKind::AddrNotAvailable);
        match fault {
            None => return Ok(()),
            Some(fault) => first = first.or(Some(fault)),
        }
    }
    first.map_or(Ok(()), Err)
}

fn warn_of_few_files(wanted: u32) -> anyhow::Result<()> {
    let possible = ironcast_driver::paths_max(wanted)?;
    anyhow::ensure!(
        possible >= wanted.min(FEW_PATHS),
        "the limit of open files is too low: raise it (LimitNOFILE, ulimit -n), 1048576 is usual"
    );
    if possible < wanted {
        tracing::warn!(
            wanted,
            possible,
            "the limit of open files (LimitNOFILE, ulimit -n) allows fewer connected sockets than \
             dataplane.paths_max"
        );
    }
    Ok(())
}

/// Before the restart after next: longer while a worker cannot start again.
fn pause_after(pause: Duration, ran: Duration) -> Duration {
    if ran >= RAN_WELL { RESTART_PAUSE } else { (pause * 2).min(RESTART_PAUSE_MAX) }
}

/// Says at the start, not in each worker, that a sealer cannot be had.
fn require_sealer(sealer: ironcast_config::Sealer) -> anyhow::Result<()> {
    if sealer == ironcast_config::Sealer::Software {
        return Ok(());
    }
    #[cfg(feature = "ipsec-mb")]
    return ironcast_driver::ipsec_mb::MultiBufferSealer::new()
        .map(drop)
        .context("dataplane.sealer = \"ipsec-mb\"");
    #[cfg(not(feature = "ipsec-mb"))]
    anyhow::bail!(
        "dataplane.sealer = \"ipsec-mb\": this dataplane was built without it; build with \
         cargo build --release -p ironcast-dataplane --features ipsec-mb, or say \"software\""
    );
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_cannot_start_is_tried_less_and_less_often() {
        let mut pause = RESTART_PAUSE;
        for _ in 0..20 {
            let next = pause_after(pause, Duration::from_millis(5));
            assert!(next > pause || next == RESTART_PAUSE_MAX);
            pause = next;
        }
        assert_eq!(pause, RESTART_PAUSE_MAX);
        assert_eq!(pause_after(pause, RAN_WELL), RESTART_PAUSE);
    }
}
