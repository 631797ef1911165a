//! Is this kernel good enough? Asked once at start: each thing that is missing is named in one
//! sentence with what to do about it.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::{buffers::Buffers, ring::Ring};

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel has none.
    #[error("this kernel has no io_uring: Ironcast needs Linux 6.1 or newer, better 6.13")]
    Absent,
    /// Switched off by the administrator.
    #[error(
        "io_uring is switched off on this host: set the sysctl kernel.io_uring_disabled to 0, or \
         to 1 and run this process with CAP_SYS_ADMIN or in the group kernel.io_uring_group"
    )]
    Disabled,
    /// A seccomp profile or a security module.
    #[error(
        "io_uring is not allowed here ({0}): containers need a seccomp profile that permits \
         io_uring_setup, io_uring_enter and io_uring_register (deploy has one)"
    )]
    Refused(io::Error),
    /// Locked memory.
    #[error(
        "io_uring gets no memory ({0}): raise the memory limit of the service or container, or \
         its limit of locked memory (LimitMEMLOCK)"
    )]
    Memory(io::Error),
    /// Too old.
    #[error("this kernel's io_uring lacks {0}: Ironcast needs Linux 6.1 or newer, better 6.13")]
    Missing(&'static str),
}

/// Checks everything that the driver uses.
///
/// # Errors
/// The first thing that is missing.
pub fn require() -> Result<(), ProbeError> {
    drop(IoUring::new(4).map_err(|error| refusal(error, sysctl()))?);
    let ring = Ring::open().map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => ProbeError::Missing("DEFER_TASKRUN"),
        _ => refusal(error, sysctl()),
    })?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|_| ProbeError::Missing("the probe of operations"))?;
    let needed = [
        (opcode::RecvMsgMulti::CODE, "multishot receive"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::Send::CODE, "send"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::AsyncCancel::CODE, "cancellation"),
        // The newest operation of 6.1: stands for multishot, a flag that cannot be asked for.
        (opcode::SendMsgZc::CODE, "the operations of 6.1"),
    ];
    for (code, name) in needed {
        if !probe.is_supported(code) {
            return Err(ProbeError::Missing(name));
        }
    }
    if !ring.skips_successes() {
        return Err(ProbeError::Missing("silent completions"));
    }
    let tables = ring.submitter().register_files_sparse(16);
    tables.map_err(|_| ProbeError::Missing("sparse tables of registered files"))?;
    let mut buffers = Buffers::new(16, 4096).map_err(ProbeError::Memory)?;
    buffers
        .register(&ring.submitter())
        .map_err(|_| ProbeError::Missing("rings of provided buffers"))?;
    // The ring goes before the memory that it knows.
    drop(ring);
    Ok(())
}

fn sysctl() -> String {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default()
}

/// Why a ring cannot be made at all; `disabled` is the sysctl's value.
fn refusal(error: io::Error, disabled: String) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => ProbeError::Absent,
        Some(libc::EPERM) if matches!(disabled.trim(), "1" | "2") => ProbeError::Disabled,
        Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => ProbeError::Memory(error),
        _ => ProbeError::Refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_good_enough() {
        require().unwrap();
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let text = |code, sysctl: &str| {
            refusal(io::Error::from_raw_os_error(code), sysctl.to_owned()).to_string()
        };
        assert!(text(libc::ENOSYS, "").contains("6.1"));
        assert!(text(libc::EPERM, "2\n").contains("kernel.io_uring_disabled"));
        assert!(text(libc::EPERM, "0\n").contains("seccomp"));
        assert!(text(libc::ENOMEM, "0\n").contains("LimitMEMLOCK"));
    }
}
