//! What every scenario does before and while it measures: the topology, said loudly where it is only
//! loopback, and the progress bar. Called by the scenarios.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::topology::Topology;

/// Options of the topology.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Stage {
    /// Only loopback, although namespaces could be made.
    #[arg(long)]
    pub(crate) loopback: bool,
    /// Switches UDP segmentation of the devices off, as on a network card without it.
    #[arg(long)]
    pub(crate) no_segmentation: bool,
}

impl Stage {
    /// Sets it up.
    pub(crate) fn build(&self) -> Topology {
        let topology = Topology::new(self.loopback, !self.no_segmentation);
        if let Some(why) = &topology.fallback {
            eprintln!(
                "\n*** LOOPBACK, no network namespaces: {why}\n\
                 *** The receivers' work in the kernel is charged to whoever sends, and \
                 segmentation is not seen: compare only within this run.\n"
            );
        }
        topology
    }
}

/// A bar of so many steps.
pub(crate) fn progress(steps: usize) -> Result<ProgressBar> {
    let bar = ProgressBar::new(steps as u64).with_style(ProgressStyle::with_template(
        "{bar:30} {percent:>3} % {elapsed} of about {eta} left: {msg}",
    )?);
    bar.enable_steady_tick(Duration::from_millis(250));
    Ok(bar)
}
