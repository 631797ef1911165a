//! Is this kernel good enough? Asked once at start: each thing that is missing is named in one
//! sentence with what to do about it.

use std::io;

use io_uring::{IoUring, Probe, opcode};
use ironcast_core::Nanos;

use crate::{buffers::Buffers, ring::Ring, without::Without, xdp::XdpSocket};

/// Of the waits that are tried.
const MOMENT: Nanos = 1_000;

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
    /// It waits in another way, or a filter of system calls sees to that.
    #[error(
        "io_uring refuses to wait ({0}): Ironcast needs Linux 6.1 or newer; in a container, let \
         its seccomp profile permit all arguments of io_uring_enter (deploy has one)"
    )]
    Wait(io::Error),
}

/// What AF_XDP lacks here.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// A right.
    #[error(
        "AF_XDP wants CAP_NET_RAW: AmbientCapabilities=CAP_NET_RAW in the unit, or setcap \
         cap_net_raw+ep on the binary"
    )]
    Refused,
    /// The kernel was built without.
    #[error("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)")]
    Absent,
    /// Locked memory.
    #[error(
        "AF_XDP gets no memory: raise the limit of locked memory by 4 MiB for each worker and \
         interface (LimitMEMLOCK)"
    )]
    Memory,
    /// Anything else.
    #[error("AF_XDP cannot be used: {0}")]
    Other(io::Error),
}

/// Checks everything that the driver uses, on a ring like those that will run: what the kernel
/// refuses is said now and not in a call.
///
/// # Errors
/// The first thing that is missing.
pub fn require(without: Without) -> Result<(), ProbeError> {
    drop(IoUring::new(4).map_err(|error| refusal(error, sysctl()))?);
    let mut ring = Ring::open(without).map_err(|error| match error.raw_os_error() {
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
    // All ways to wait: for anything, for many, and for many and then for anything.
    for (hold, timeout) in [(0, MOMENT), (MOMENT, MOMENT), (MOMENT, 2 * MOMENT)] {
        ring.wait(2, hold, timeout).map_err(ProbeError::Wait)?;
    }
    // The ring goes before the memory that it knows.
    drop(ring);
    Ok(())
}

/// Checks what [`crate::Transmit::Xdp`] uses beside that.
///
/// # Errors
/// What is missing.
pub fn require_xdp() -> Result<(), XdpError> {
    XdpSocket::probe().map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => XdpError::Refused,
        Some(libc::EAFNOSUPPORT) => XdpError::Absent,
        Some(libc::ENOBUFS | libc::ENOMEM) => XdpError::Memory,
        _ => XdpError::Other(error),
    })
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
        require(Without::default()).unwrap();
        require(Without { min_wait: true, ..Without::default() }).unwrap();
    }

    #[test]
    fn without_the_right_af_xdp_is_refused_in_words() {
        let text = std::thread::spawn(|| {
            require_xdp().unwrap();
            drop_rights();
            require_xdp().unwrap_err().to_string()
        });
        let text = text.join().unwrap();
        assert!(text.contains("CAP_NET_RAW"), "{text}");
    }

    /// The calling thread keeps none of its capabilities.
    fn drop_rights() {
        // `struct __user_cap_header_struct` of version 3, and two of `__user_cap_data_struct`.
        let (header, data) = ([0x2008_0522u32, 0], [0u32; 6]);
        // SAFETY: both are as long as version 3 has them, and only read.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const data) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
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
