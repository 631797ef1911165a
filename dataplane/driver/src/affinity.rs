//! Which processors a worker may run on. Called once per worker at start, never later.
//!
//! What counts is the mask of the process, not the machine: a container's cpuset is honoured.

use std::io;

/// Why a worker could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum AffinityError {
    /// The processor is not in the mask.
    #[error(
        "processor {cpu} is not among those this process may use ({allowed:?}): name one of these, \
         or widen the cpuset of the service or container"
    )]
    NotAllowed {
        /// The one asked for.
        cpu: usize,
        /// The mask.
        allowed: Vec<usize>,
    },
    /// The kernel refused.
    #[error(
        "cannot {what}: {source}; a seccomp profile must allow sched_setaffinity and \
         sched_getaffinity, or leave the pinning of workers out of the configuration"
    )]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// The processors that this thread may run on, in ascending order.
pub fn allowed_cpus() -> Result<Vec<usize>, AffinityError> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is as large as said, and pid 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if result != 0 {
        let source = io::Error::last_os_error();
        return Err(AffinityError::Refused { what: "read the processor mask", source });
    }
    Ok((0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Lets the calling thread's short waits end on time: by default the kernel may add 50 us.
pub fn wake_on_time() {
    const SLACK_NS: libc::c_ulong = 1_000;
    // SAFETY: this operation takes a number and touches no memory of ours. A refusal is no harm.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) };
}

/// Lets the calling thread run soon after it is woken, although others are in the middle of their
/// time: who asks for shorter slices is let in before who has longer ones (Linux 6.12; older kernels
/// know no such wish). It gets no more time by that.
pub fn run_soon() {
    const SLICE_NS: u64 = 100_000;
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attributes) as libc::c_uint;
    // SAFETY: the kernel writes at most `size` bytes; 0 is the calling thread.
    let asked = unsafe {
        libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0 as libc::c_uint)
    };
    if asked != 0 {
        return;
    }
    attributes.sched_runtime = SLICE_NS;
    // SAFETY: the kernel reads as many bytes as the structure says that it has. A refusal is no harm.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0 as libc::c_uint) };
}

/// Pins the calling thread to one processor.
pub fn pin_current_thread(cpu: usize) -> Result<(), AffinityError> {
    restrict_current_thread(&[cpu])
}

/// Lets the calling thread run on these processors only.
pub fn restrict_current_thread(cpus: &[usize]) -> Result<(), AffinityError> {
    let allowed = allowed_cpus()?;
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        if !allowed.contains(&cpu) {
            return Err(AffinityError::NotAllowed { cpu, allowed });
        }
        // SAFETY: `cpu` came from a mask, so it is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is as large as said, and pid 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        let source = io::Error::last_os_error();
        return Err(AffinityError::Refused { what: "choose a thread's processors", source });
    }
    Ok(())
}

/// Lets every other thread run before the calling one: the scheduling class for what a processor
/// does when it has nothing else to do, or the lowest priority where that class is refused.
///
/// # Errors
/// Both were refused.
pub fn give_way() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure is valid for the call, and pid 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } == 0 {
        return Ok(());
    }
    const LOWEST: libc::c_int = 19;
    // SAFETY: numbers only; 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LOWEST) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_and_a_foreign_processor_is_refused_with_advice() {
        std::thread::spawn(|| {
            let allowed = allowed_cpus().unwrap();
            let last = *allowed.last().unwrap();
            pin_current_thread(last).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
            let error = pin_current_thread(last + 1).unwrap_err().to_string();
            assert!(error.contains("cpuset"), "{error}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_runs_soon_keeps_its_class_and_priority() {
        std::thread::spawn(|| {
            let now = || {
                // SAFETY: numbers only; 0 is the calling thread.
                unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) }
            };
            let before = now();
            run_soon();
            assert_eq!(now(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_gives_way_and_keeps_to_its_processors() {
        std::thread::spawn(|| {
            let allowed = allowed_cpus().unwrap();
            restrict_current_thread(&allowed).unwrap();
            assert_eq!(allowed_cpus().unwrap(), allowed);
            give_way().unwrap();
            // SAFETY: numbers only; 0 is the calling thread.
            let (class, nice) =
                unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) };
            assert!(class == libc::SCHED_IDLE || nice == 19, "{class} {nice}");
        })
        .join()
        .unwrap();
    }
}
