//! Is this kernel good enough? Asked once at start: each thing that is missing is named in one
//! sentence with what to do about it.

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Switched off by the administrator.
    #[error("io_uring is switched off on this host: set the sysctl kernel.io_uring_disabled to 0")]
    Disabled,
    /// A seccomp profile, or a kernel without it.
    #[error(
        "io_uring is not allowed here ({0}): containers need a seccomp profile that permits it \
         (deploy/seccomp.json), and the kernel must be 6.1 or newer"
    )]
    Refused(io::Error),
    /// Too old.
    #[error("this kernel's io_uring lacks {0}: Ironcast needs Linux 6.1 or newer, better 6.13")]
    Missing(&'static str),
}

/// Checks everything that the driver uses.
///
/// # Errors
/// The first thing that is missing.
pub fn require() -> Result<(), ProbeError> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    if disabled.is_ok_and(|value| value.trim() == "2") {
        return Err(ProbeError::Disabled);
    }
    IoUring::new(4).map_err(ProbeError::Refused)?;
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(4)
        .map_err(|_: io::Error| ProbeError::Missing("DEFER_TASKRUN"))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|_| ProbeError::Missing("the probe of operations"))?;
    let needed = [
        (opcode::RecvMsgMulti::CODE, "multishot receive"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::Send::CODE, "send"),
        (opcode::AsyncCancel::CODE, "cancellation"),
        // The newest operation of 6.1: stands for the flags that cannot be asked for.
        (opcode::SendMsgZc::CODE, "the operations of 6.1"),
    ];
    for (code, name) in needed {
        if !probe.is_supported(code) {
            return Err(ProbeError::Missing(name));
        }
    }
    if !ring.params().is_feature_skip_cqe_on_success() {
        return Err(ProbeError::Missing("silent completions"));
    }
    Ok(())
}
