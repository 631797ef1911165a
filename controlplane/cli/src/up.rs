//! `ironcast up`: the three processes on one machine, from the first progress line to the last
//! socket removed. Owns the order of start and end; `service` owns each process.

use std::{
    fs::{self, File},
    io::{IsTerminal, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use ironcast_config::{Config, Door};
use tokio::{
    process::Child,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    Choice, doctor,
    probe::{Probe, require_media_ports, require_port},
    service::{self, Service, Stop},
};

/// A first start makes certificates and binds thousands of ports; on a busy machine that takes
/// seconds, never a minute.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long a port may be taken, and how often that is looked at.
const PORTS_PATIENCE: Duration = Duration::from_secs(2);
const PORTS_LOOK: Duration = Duration::from_millis(50);

/// Starts everything, watches over it, and returns when it is told to end and has.
pub(crate) fn run(choice: &Choice) -> anyhow::Result<ExitCode> {
    let config = choice.load()?;
    let lock = Lock::take(config.state_dir())?;
    check_ports(&config)?;
    if let Some(warning) = doctor::few_files(&config) {
        println!("  ! {warning}");
    }
    let services = services(&config, choice)?;
    // One thread: the kernel ends the children when the thread that started them ends, so that
    // thread must be the process's own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(run_all(&config, services));
    remove_sockets(&config);
    drop(lock);
    outcome
}

async fn run_all(config: &Config, services: Vec<Service>) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut running: Vec<Running> = Vec::new();
    let had_terminal = has_terminal();
    let hangups = watch::Sender::new(());
    let mut told_to_end = async || {
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Stop::AtOnce,
                _ = terminate.recv() => return Stop::Patiently,
                _ = hangup.recv() => {}
            }
            if had_terminal && !has_terminal() {
                // It was closed.
                return Stop::AtOnce;
            }
            println!("The configuration is read again; the logs say what was changed.");
            hangups.send_replace(());
        }
    };
    let starting = start_and_stay(config, services, &mut running, &hangups);
    let (stop, outcome) = tokio::select! {
        stop = told_to_end() => (stop, Ok(())),
        outcome = starting => (Stop::AtOnce, outcome),
    };
    if std::io::stdout().is_terminal() {
        println!();
    }
    // The packets' process waits for its rooms while the others still serve them.
    if stop == Stop::Patiently && config.dataplane.drain_s > 0 && !running.is_empty() {
        println!("Waits for rooms to end, {} s at most.", config.dataplane.drain_s);
        let dataplane = running.remove(0);
        dataplane.stop.send(Stop::Patiently).ok();
        let Running { stop, mut task } = dataplane;
        tokio::select! {
            _ = &mut task => {}
            _ = told_to_end() => {
                stop.send(Stop::AtOnce).ok();
                task.await.ok();
            }
        }
    }
    // Signaling first, so that it can still say goodbye; the packets' process last.
    while let Some(service) = running.pop() {
        service.end().await;
    }
    println!("Ironcast has ended.");
    outcome.map(|()| ExitCode::SUCCESS)
}

/// One that was closed is none any more.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal()
}

/// Returns only when the start failed.
async fn start_and_stay(
    config: &Config,
    services: Vec<Service>,
    running: &mut Vec<Running>,
    hangups: &watch::Sender<()>,
) -> anyhow::Result<()> {
    let since = Instant::now();
    for service in services {
        let progress = Progress::begin(service.name);
        let mut child = service.start()?;
        let ready = service.wait_until_ready(&mut child, START_PATIENCE).await;
        if let Err(reason) = ready {
            progress.fail();
            service::end(&mut child).await;
            let tail = service.log_tail(20);
            bail!("{} {}. Its log says:\n\n{tail}", service.name, reason.describe());
        }
        progress.done();
        running.push(Running::new(service, child, hangups.subscribe()));
    }
    println!("{}", welcome(config, since.elapsed()));
    std::future::pending().await
}

/// A supervised service and how to stop it.
struct Running {
    stop: watch::Sender<Stop>,
    task: JoinHandle<()>,
}

impl Running {
    fn new(service: Service, child: Child, hangups: watch::Receiver<()>) -> Self {
        let (stop, stopped) = watch::channel(Stop::Not);
        Self { stop, task: tokio::spawn(service.supervise(child, stopped, hangups)) }
    }

    async fn end(self) {
        // Both fail only if the task is gone, and then its child is too.
        self.stop.send(Stop::AtOnce).ok();
        self.task.await.ok();
    }
}

fn services(config: &Config, choice: &Choice) -> anyhow::Result<Vec<Service>> {
    let own = std::env::current_exe().context("this program's own path")?;
    let folder = own.parent().unwrap_or_else(|| Path::new("."));
    let page = if config.signaling_tls() {
        Probe::Port(local(config.signaling.listen))
    } else {
        Probe::Http(local(config.signaling.listen), "/health")
    };
    let all = [
        ("dataplane", Probe::Socket(config.dataplane_socket())),
        ("controlplane", Probe::Http(local(config.control.ops), "/ready")),
        ("signaling", page),
    ];
    let mut services = Vec::new();
    for (name, probe) in all {
        let program = folder.join(format!("ironcast-{name}"));
        if !service::exists(&program) {
            bail!(
                "{} is not there. The four programs belong into one folder; `cargo build --release` \
                 or `deploy/run` makes them all.",
                program.display()
            );
        }
        let log = config.state_dir().join(format!("{name}.log"));
        // A log tells of one run: an old one would answer today's question wrongly.
        File::create(&log).with_context(|| format!("{}", log.display()))?;
        services.push(Service { name, program, arguments: choice.arguments(), log, probe });
    }
    Ok(services)
}

/// Where a server that listens on a wildcard address is reached.
fn local(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, v6.port()).into()
        }
        other => other,
    }
}

/// Ports of what was killed a moment ago are free a little later than its process is gone.
fn check_ports(config: &Config) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match look_at_ports(config) {
            Err(_) if begun.elapsed() < PORTS_PATIENCE => std::thread::sleep(PORTS_LOOK),
            outcome => return outcome,
        }
    }
}

fn look_at_ports(config: &Config) -> anyhow::Result<()> {
    for (key, address) in doctor::doors(config) {
        require_port(key, address).map_err(anyhow::Error::msg)?;
    }
    require_media_ports(config).map_err(anyhow::Error::msg)
}

/// One `ironcast up` for each state directory. The kernel lets go of the lock when we end, however.
struct Lock {
    path: PathBuf,
    /// The folder was not there before.
    is_in_new_folder: bool,
    _file: File,
}

impl Lock {
    fn take(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join("up.lock");
        let is_in_new_folder = !state_dir.exists();
        let open = || {
            fs::create_dir_all(state_dir)?;
            File::options().create(true).truncate(false).read(true).write(true).open(&path)
        };
        let mut file = open().map_err(|error| {
            anyhow::anyhow!(
                "the state directory {} cannot be written to: {error}. Choose another: \
                 --set control.state_dir=...",
                state_dir.display()
            )
        })?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            bail!(
                "Ironcast is already running here (process {}). End it, or choose another folder: \
                 --set control.state_dir=./.run2",
                holder.trim()
            );
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { path, is_in_new_folder, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Gone already is as good.
        fs::remove_file(&self.path).ok();
        // A start that was refused leaves nothing; where there is something in it, it stays.
        if let (true, Some(folder)) = (self.is_in_new_folder, self.path.parent()) {
            fs::remove_dir(folder).ok();
        }
    }
}

/// What a process that had to be killed could not remove itself.
fn remove_sockets(config: &Config) {
    let mut sockets = vec![config.dataplane_socket()];
    if let Some(Door::Unix(path)) = &config.control.plain {
        sockets.push(path.clone());
    }
    for socket in sockets {
        // Gone already is what we want.
        fs::remove_file(socket).ok();
    }
}

/// A line that moves on a terminal, and one plain line elsewhere.
struct Progress {
    name: &'static str,
    bar: Option<ProgressBar>,
    since: Instant,
}

impl Progress {
    fn begin(name: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("  {spinner} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_message(format!("{name} is starting"));
            bar.enable_steady_tick(Duration::from_millis(80));
            bar
        });
        Self { name, bar, since: Instant::now() }
    }

    fn done(self) {
        self.close('\u{2713}', "ready");
    }

    fn fail(self) {
        self.close('\u{2717}', "failed");
    }

    fn close(self, sign: char, word: &str) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        println!(
            "  {sign} {:<13} {word} after {:.1} s",
            self.name,
            self.since.elapsed().as_secs_f32()
        );
    }
}

fn welcome(config: &Config, took: Duration) -> String {
    let lines = [
        format!("Ironcast is ready ({:.1} s)", took.as_secs_f32()),
        String::new(),
        format!("Open in two tabs   {}", config.page_url()),
        format!("Control API        {}", config.control_url()),
        format!("Logs               {}/*.log", config.state_dir().display()),
        String::new(),
        "Ctrl-C ends it".to_owned(),
    ];
    boxed(&lines)
}

fn boxed(lines: &[String]) -> String {
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let edge = "\u{2500}".repeat(width + 4);
    let mut text = format!("\n\u{256d}{edge}\u{256e}\n");
    for line in lines {
        let gap = " ".repeat(width - line.chars().count());
        text.push_str(&format!("\u{2502}  {line}{gap}  \u{2502}\n"));
    }
    text.push_str(&format!("\u{2570}{edge}\u{256f}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_that_cannot_be_written_to_is_told_with_advice() {
        // A file stands where a folder would have to be made: refused to everybody, root too.
        let place = Path::new("/proc/version/state");
        let text = Lock::take(place).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(text.contains("/proc/version/state"), "{text}");
        assert!(text.contains("--set control.state_dir="), "{text}");
    }
}
