//! Behaviour of the core on a simulated network: one module per behaviour, several seeds each.
#[path = "all/bindings.rs"]
mod bindings;
#[path = "all/capture.rs"]
mod capture;
#[path = "all/closing.rs"]
mod closing;
#[path = "all/crowds.rs"]
mod crowds;
#[path = "all/early.rs"]
mod early;
#[path = "all/exhausted.rs"]
mod exhausted;
#[path = "all/forwarding.rs"]
mod forwarding;
#[path = "all/heard.rs"]
mod heard;
#[path = "all/hostile.rs"]
mod hostile;
#[path = "all/ice.rs"]
mod ice;
#[path = "all/key_frames.rs"]
mod key_frames;
#[path = "all/layers.rs"]
mod layers;
#[path = "all/loss.rs"]
mod loss;
#[path = "all/observers.rs"]
mod observers;
#[path = "all/pipes.rs"]
mod pipes;
#[path = "all/red.rs"]
mod red;
#[path = "all/reports.rs"]
mod reports;
#[path = "all/restart.rs"]
mod restart;
#[path = "all/spreading.rs"]
mod spreading;
#[path = "all/streams.rs"]
mod streams;
#[path = "all/taps.rs"]
mod taps;
#[path = "all/thin.rs"]
mod thin;
#[path = "all/timeline.rs"]
mod timeline;
#[path = "all/traces.rs"]
mod traces;
#[path = "all/watched.rs"]
mod watched;
#[path = "all/week.rs"]
mod week;
