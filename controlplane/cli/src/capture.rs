//! `ironcast capture`: the packets of a transport in a running call, in the clear, into a file for
//! Wireshark.

use std::{
    fs::File,
    io::{IsTerminal as _, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    look::things::Kind,
    remote::{EXIT_CODES, Failure, Reach},
};

/// How often it says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(250);

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The transport: its id, or the beginning of it
    #[arg(long, short, value_name = "ID")]
    transport: String,
    /// The file to write (pcapng); `-` for standard output: `ironcast capture -t ID -o - | tshark -r -`
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// How long, such as 30s or 10m; Ctrl-C ends it before
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Also what RTP carries, not its headers alone (scope admin). RTCP always comes whole
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let remote = arguments.reach.connect()?;
    let id = remote.find(Kind::Transports, &arguments.transport, None).await?.id;
    let seconds = u32::try_from(arguments.time.as_secs().max(1)).unwrap_or(u32::MAX);
    let capture = remote.client.capture(&id, arguments.payload, seconds).await;
    let mut capture = capture.map_err(|error| remote.failure(error))?;
    // Only now: where there is nothing to capture, no file is written over.
    let mut file = open(&arguments.output)?;
    let bar = bar();
    let (begun, mut bytes) = (Instant::now(), 0);
    loop {
        let piece = tokio::select! {
            piece = capture.next() => piece.map_err(|error| remote.failure(error))?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(piece) = piece else { break };
        file.write_all(&piece)?;
        bytes += piece.len() as u64;
        let elapsed = humantime::format_duration(Duration::from_secs(begun.elapsed().as_secs()));
        bar.set_message(format!("{} in {elapsed}", indicatif::HumanBytes(bytes)));
    }
    file.flush()?;
    bar.finish_and_clear();
    eprintln!(
        "{} of transport {id} in {}",
        indicatif::HumanBytes(bytes),
        arguments.output.display()
    );
    Ok(())
}

fn open(path: &PathBuf) -> Result<Box<dyn Write>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = File::create(path).with_context(|| format!("{} cannot be made", path.display()));
    Ok(Box::new(file.map_err(Failure::Other)?))
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("  {spinner} {msg}; Ctrl-C ends it");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.enable_steady_tick(SAY_EVERY);
    bar
}
