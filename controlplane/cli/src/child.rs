//! The short life between `up` and a service: a process that asks the kernel to be ended with its
//! parent, then becomes the service. So a killed `ironcast up` leaves nothing behind, and no
//! unsafe code runs between fork and exec. Called by `main` only.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use anyhow::anyhow;
use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};

/// Becomes `program`. Returns only if that failed.
pub(crate) fn become_child(parent: i32, program: &[OsString]) -> anyhow::Error {
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return anyhow!("the kernel refuses to end this process with its parent: {error}");
    }
    // The parent may have died before the line above: then nobody would ever end us.
    if getppid().as_raw() != parent {
        return anyhow!("the parent is gone");
    }
    let Some((program, arguments)) = program.split_first() else {
        return anyhow!("no program");
    };
    let error = Command::new(program).args(arguments).exec();
    anyhow!("{} cannot be started: {error}", program.to_string_lossy())
}
