//! The flags that all programs share, and the three programs that take nothing else: their help,
//! man pages and completions say the same.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};

use crate::{Config, ConfigError};

/// Which configuration is meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// The configuration file [default: what IRONCAST_CONFIG names, else ironcast.toml here, else
    /// /etc/ironcast/ironcast.toml]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Set one value, over the file and the environment; may be repeated: --set
    /// rtc.ports=40000-49999
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl Flags {
    /// Reads the file, the environment and these.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load_for_process(self.config.as_deref(), &self.set)
    }
}

/// A program that runs in the background.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    /// Its name.
    pub name: &'static str,
    about: &'static str,
}

/// Moves packets.
pub const DATAPLANE: Daemon =
    Daemon { name: "ironcast-dataplane", about: "The process of Ironcast that moves packets" };
/// Takes commands.
pub const CONTROLPLANE: Daemon = Daemon {
    name: "ironcast-controlplane",
    about: "The process of Ironcast that takes commands and tells the dataplane what to do",
};
/// Rooms and the page.
pub const SIGNALING: Daemon = Daemon {
    name: "ironcast-signaling",
    about: "The reference signaling service of Ironcast, and its page",
};
/// All of them.
pub const DAEMONS: [Daemon; 3] = [DATAPLANE, CONTROLPLANE, SIGNALING];

#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

impl Daemon {
    /// Its command line.
    #[must_use]
    pub fn command(&self) -> clap::Command {
        Arguments::command().name(self.name).bin_name(self.name).about(self.about)
    }

    /// The flags that this process was started with. Ends it where they are wrong, or ask for help.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let matches = self.command().get_matches();
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).flags
    }
}
