//! `ironcast-dataplane`: the process that moves packets. Reads its configuration, checks the kernel,
//! starts one worker a core, the hub and the control socket, and waits for a signal.
//! README.md beside this folder shows the path of a packet, file by file.
#![forbid(unsafe_code)]

mod addresses;
mod connection;
mod counters;
mod delay;
mod directory;
mod engine;
mod hops;
mod hub;
mod life;
mod messages;
mod neighbours;
mod orders;
mod plain;
mod ports;
mod registry;
mod settings;
mod workers;

use std::{
    sync::{Arc, atomic::AtomicU64, mpsc::channel},
    time::Duration,
};

use anyhow::Context;
use ironcast_config::{Flags, LogFormat, Transmit};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::{
    connection::{Identity, Server},
    counters::Counters,
    hub::Hub,
    life::{Lives, Patience},
    messages::ToHub,
    settings::Settings,
    workers::Workers,
};

/// Gives memory back to the system when a large call has ended; the C library's keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    if let Err(error) = run(&ironcast_config::DATAPLANE.flags()) {
        eprintln!("ironcast-dataplane: {error:#}");
        std::process::exit(1);
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    let config = flags.load()?;
    let filter = EnvFilter::try_new(&config.log.level).context("log.level is not understood")?;
    let counters = Arc::<Counters>::default();
    let log = ironcast_log::start(filter, config.log.format == LogFormat::Json, Level::TRACE);
    let lines = log.counts.clone();
    counters
        .add_reader(move |tell| lines.all().iter().for_each(|(name, count)| tell(name, *count)));
    let settings = Arc::new(Settings::new(&config, Arc::clone(&log.set_filter)));
    let without = ironcast_driver::Without::from_environment()?;
    ironcast_driver::probe::require(without)?;
    if config.dataplane.transmit == Transmit::Xdp {
        ironcast_driver::probe::require_xdp().context("dataplane.transmit = \"xdp\"")?;
    }

    let (hub, inbox) = channel();
    let workers = Workers::prepare(&config, without, hub.clone(), &counters, &settings)?;
    let (lives, first_turns) = Lives::new(workers.cores().len());
    let event_seq = Arc::new(AtomicU64::new(0));
    let identity = Identity { boot_id: boot_id()?, event_seq: event_seq.clone() };
    let socket = config.dataplane_socket();
    let queue_bytes_max = usize::try_from(config.dataplane.control_queue_bytes)?;
    let server = Server { identity, queue_bytes_max, counters: counters.clone(), hub: hub.clone() };
    connection::listen(&socket, server)
        .map_err(|error| anyhow::anyhow!(ironcast_config::explain::socket(&socket, &error)))?;
    let status = format!("{} workers, {} ports", workers.cores().len(), config.rtc.ports);
    let patience = Patience {
        time: Duration::from_secs(config.dataplane.stuck_s.into()),
        ends: config.dataplane.ends_when_stuck,
    };
    life::watch(lives.clone(), first_turns, hub.clone(), counters.clone(), status, patience)?;
    let drain = Duration::from_secs(config.dataplane.drain_s.into());
    stop_on_signal(hub, drain)?;

    let cores = workers.cores();
    let threads = workers.start(lives.clone())?;
    tracing::info!(
        workers = cores.len(),
        socket = %socket.display(),
        ports = %config.rtc.ports,
        "the dataplane runs"
    );
    let test_hooks = std::env::var_os("IRONCAST_TEST_HOOKS").is_some();
    ironcast_notify::give_way_to_media();
    let parts = hub::Parts { cores, event_seq, counters, lives, settings, drain, test_hooks };
    Hub::new(parts).run(&inbox);
    for thread in threads {
        let _ = thread.join();
    }
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Another value for every run: tells a control plane that all state is gone.
fn boot_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// SIGTERM lets the process wait for its rooms for so long, and a second signal ends it then; SIGINT
/// ends it after the current turn. A terminal that goes away (SIGHUP), and signals that nobody has a
/// use for, do not.
fn stop_on_signal(hub: std::sync::mpsc::Sender<ToHub>, drain: Duration) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut ending = signals.forever().filter(|signal| [SIGTERM, SIGINT].contains(signal));
        let mut next = ending.next();
        ironcast_notify::stopping();
        if next == Some(SIGTERM) && !drain.is_zero() {
            let _ = hub.send(ToHub::Drain);
            next = ending.next();
        }
        if next.is_some() {
            let _ = hub.send(ToHub::Stop);
        }
        // One more does not wait for anything.
        if ending.next().is_some() {
            std::process::exit(130);
        }
    })?;
    Ok(())
}
