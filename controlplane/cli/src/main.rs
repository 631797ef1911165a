//! `ironcast`, the operator's command: reads the arguments and hands over to one file per
//! subcommand. It starts and watches processes, looks at the host, and asks the control plane like
//! every other client; it never moves a packet.

#![forbid(unsafe_code)]

mod capture;
mod child;
mod doctor;
mod drain;
mod look;
mod pages;
mod probe;
mod reload;
mod remote;
mod service;
mod top;
mod up;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use ironcast_config::{Config, Flags};

#[derive(Parser)]
#[command(name = "ironcast", version, about = "Ironcast: a media server for calls of many")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start all of it on this machine and watch over it, until Ctrl-C
    Up(Choice),
    /// Say whether this machine is ready, and what to do where it is not
    Doctor(Choice),
    /// Have the running control plane read its configuration again: certificates, tokens, limits, ...
    Reload(reload::Arguments),
    /// List what there is: workers, routers, transports, participants, producers, consumers
    Ls(look::ls::Arguments),
    /// Show one thing and what hangs below it
    Show(look::show::Arguments),
    /// Show the figures of one thing: bit rates, losses, estimates
    Stats(look::stats::Arguments),
    /// Watch the host on one screen: workers, the busiest routers and transports, delay, drops
    Top(top::Arguments),
    /// Write a transport's packets, in the clear, into a file for Wireshark
    Capture(capture::Arguments),
    /// Close a router, transport, producer or consumer, or send a participant away
    Close(look::close::Arguments),
    /// Take no new rooms, and show how those that are there end
    Drain(drain::Arguments),
    /// Print the configuration: every value with its meaning, defaults as comments
    Config(Choice),
    /// Write man pages and shell completions (used by `deploy/package`)
    #[command(hide = true)]
    Pages {
        /// A folder; `man` and `completions` are made in it.
        folder: PathBuf,
    },
    /// Run one program that ends when this one's parent does (used by `up`)
    #[command(hide = true)]
    Child {
        /// The parent at the time of the start.
        #[arg(long)]
        parent: i32,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
}

/// The same two flags in every Ironcast binary.
#[derive(Args, Debug, Clone)]
struct Choice {
    #[command(flatten)]
    flags: Flags,
}

impl Choice {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(self.flags.load()?)
    }

    /// The same choice as arguments of another Ironcast binary.
    fn arguments(&self) -> Vec<OsString> {
        let file = self.flags.config.iter().flat_map(|file| ["--config".into(), file.into()]);
        let sets = self.flags.set.iter().flat_map(|set| [OsString::from("--set"), set.into()]);
        file.chain(sets).collect()
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Up(choice) => up::run(&choice),
        Command::Doctor(choice) => choice.load().map(|config| doctor::run(&config)),
        Command::Reload(arguments) => remote::ask(reload::run(arguments)),
        Command::Ls(arguments) => remote::ask(look::ls::run(arguments)),
        Command::Show(arguments) => remote::ask(look::show::run(arguments)),
        Command::Stats(arguments) => remote::ask(look::stats::run(arguments)),
        Command::Top(arguments) => remote::ask(top::run(arguments)),
        Command::Capture(arguments) => remote::ask(capture::run(arguments)),
        Command::Close(arguments) => remote::ask(look::close::run(arguments)),
        Command::Drain(arguments) => remote::ask(drain::run(arguments)),
        Command::Config(choice) => choice.load().map(|config| {
            print!("{}", config.to_toml());
            ExitCode::SUCCESS
        }),
        Command::Pages { folder } => pages::write(&folder).map(|()| ExitCode::SUCCESS),
        Command::Child { parent, program } => Err(child::become_child(parent, &program)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}
