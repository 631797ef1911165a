//! The life of a process on tokio as the service manager sees it.

use tokio::time::{MissedTickBehavior, interval};

/// Signs of life within the watchdog's time.
const SIGNS: u32 = 4;

/// Says ready at once: it is called when the doors are open. What the process depends on may come
/// later (`complete` ends then): the two lines for people are for then and for before. Says alive as
/// long as `sign` ends, which has to go through what could get stuck. Never returns.
pub async fn report<S: Future<Output = ()>>(
    complete: impl Future<Output = ()>,
    (with, without): (&str, &str),
    mut sign: impl FnMut() -> S,
) -> std::convert::Infallible {
    crate::ready(without);
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
        complete.await;
        crate::status(with);
        std::future::pending().await
    };
    tokio::select! {
        never = watch => never,
        never = later => never,
    }
}
