//! Behaviour of the core on a simulated network: one module per behaviour, several seeds each.
#[path = "all/forwarding.rs"]
mod forwarding;
