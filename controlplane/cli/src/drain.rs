//! `ironcast drain`: takes a host out of service and shows how its rooms end.

use std::{
    io::IsTerminal as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ironcast_api::{DrainRequest, DrainStatus};

use crate::remote::{EXIT_CODES, Failure, Reach, Remote};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Close what is left after this time, such as 90s, 10m or 2h; without it rooms end by themselves
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// Return at once instead of showing how it goes; the host drains on
    #[arg(long)]
    no_wait: bool,
    /// Take new rooms again
    #[arg(long, conflicts_with_all = ["deadline", "no_wait"])]
    cancel: bool,
    /// Only say how far it is
    #[arg(long, conflicts_with_all = ["deadline", "no_wait", "cancel"])]
    status: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let remote = arguments.reach.connect()?;
    let client = &remote.client;
    let status = if arguments.cancel {
        client.undrain().await
    } else if arguments.status {
        client.drain_status().await
    } else {
        let deadline_s = arguments.deadline.map(whole_seconds);
        client.drain(&DrainRequest { deadline_s }).await
    };
    let status = status.map_err(|error| remote.failure(error))?;
    let is_followed = !(arguments.cancel || arguments.status || arguments.no_wait);
    let status = if is_followed && !status.drained {
        follow(&remote, status, arguments.json).await?
    } else {
        status
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&status).unwrap_or_default());
    } else {
        println!("{}", line(&status, now_ms()));
    }
    Ok(())
}

/// Rooms get no less than what was said: half a second is not none.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// Shows how it goes until nothing is left. Ctrl-C ends the showing only.
async fn follow(remote: &Remote, begun: DrainStatus, quiet: bool) -> Result<DrainStatus, Failure> {
    let on_terminal = std::io::stderr().is_terminal() && !quiet;
    let bar = ProgressBar::new(begun.routers.into());
    if on_terminal {
        let style = ProgressStyle::with_template("  {bar:24} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        eprintln!(
            "Draining; Ctrl-C stops showing it, `ironcast drain --cancel` takes rooms again."
        );
    } else {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let mut most = begun.routers;
    let mut said = String::new();
    let mut status = begun;
    loop {
        most = most.max(status.routers);
        let text = line(&status, now_ms());
        bar.set_length(most.into());
        bar.set_position((most - status.routers).into());
        bar.set_message(text.clone());
        // In a log, only what changes.
        let left = format!("{} {}", status.routers, status.participants);
        if !on_terminal && !quiet && left != said {
            eprintln!("{text}");
            said = left;
        }
        if status.drained || !status.draining {
            bar.finish_and_clear();
            return Ok(status);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => {
                bar.finish_and_clear();
                return Ok(status);
            }
        }
        status = match remote.client.drain_status().await {
            Ok(status) => status,
            // The control plane may be replaced meanwhile, and the dataplane may have been told to
            // end: then it ends when it is drained.
            Err(error) if status.ends_dataplane && error.is_temporary() => {
                bar.finish_and_clear();
                return Ok(DrainStatus { drained: true, routers: 0, ..status });
            }
            Err(error) => return Err(remote.failure(error)),
        };
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// One line about how far it is.
fn line(status: &DrainStatus, now_ms: u64) -> String {
    let count = |count: u32, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    if !status.draining {
        return format!("Takes new rooms; {} now.", count(status.routers, "room"));
    }
    if status.drained {
        return "Drained: no room is left.".to_owned();
    }
    let (rooms, people) =
        (count(status.routers, "room"), count(status.participants, "participant"));
    let until = match status.deadline {
        None => "no deadline".to_owned(),
        Some(deadline) if deadline <= now_ms => "closing them now".to_owned(),
        Some(deadline) => {
            let left = Duration::from_secs((deadline - now_ms).div_ceil(1_000));
            format!("closed in {}", humantime::format_duration(left))
        }
    };
    format!("Draining: {rooms} with {people} left, {until}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_no_sooner_than_asked() {
        for (ms, seconds) in [(0, 0), (1, 1), (300, 1), (1_000, 1), (1_001, 2), (90_000, 90)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms}");
        }
    }

    #[test]
    fn one_line_says_how_far_it_is() {
        let status = DrainStatus { routers: 3, participants: 1, ..DrainStatus::default() };
        assert_eq!(line(&status, 0), "Takes new rooms; 3 rooms now.");
        let status = DrainStatus { draining: true, deadline: Some(95_000), ..status };
        let said = line(&status, 5_000);
        assert_eq!(said, "Draining: 3 rooms with 1 participant left, closed in 1m 30s.");
        let status = DrainStatus { drained: true, routers: 0, ..status };
        assert_eq!(line(&status, 5_000), "Drained: no room is left.");
    }
}
