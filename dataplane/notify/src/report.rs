//! The life of a process on tokio as the service manager sees it.

use std::{pin::pin, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};

/// What a process depends on may be away: after this time it is ready all the same, and says so.
const PATIENCE: Duration = Duration::from_secs(10);
/// Signs of life within the watchdog's time.
const SIGNS: u32 = 4;

/// Says ready when `complete` has ended (or does not end for too long), then alive as long as
/// `sign` ends: it has to go through what could get stuck. Never returns.
pub async fn report<S: Future<Output = ()>>(
    complete: impl Future<Output = ()>,
    (with, without): (&str, &str),
    mut sign: impl FnMut() -> S,
) -> std::convert::Infallible {
    let mut complete = pin!(complete);
    let is_complete = timeout(PATIENCE, &mut complete).await.is_ok();
    crate::ready(if is_complete { with } else { without });
    let watch = async {
        let Some(time) = crate::watchdog() else { std::future::pending().await };
        let mut tick = interval(time / SIGNS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            sign().await;
            crate::alive();
        }
    };
    let later = async {
        if !is_complete {
            complete.await;
            crate::status(with);
        }
        std::future::pending().await
    };
    tokio::select! {
        never = watch => never,
        never = later => never,
    }
}
