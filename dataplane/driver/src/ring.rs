//! The worker's io_uring: its set-up, the meaning of `user_data`, the one way into the kernel and
//! an orderly end. Owned by `Io`, used by the worker's thread alone; touches no socket by itself.
//!
//! Set up with SINGLE_ISSUER and DEFER_TASKRUN: the kernel finishes requests only when this
//! thread asks (GETEVENTS), never in the middle of its work, and TASKRUN_FLAG says without a
//! system call whether asking would bring anything.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use io_uring::{IoUring, squeue, types};
use ironcast_core::{Nanos, SECOND};

use crate::{files, without::Without};

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
/// Submissions of one batch; more are submitted in several.
pub(crate) const ENTRIES: u32 = 1_024;
const COMPLETIONS: u32 = 16_384;
/// How often a refused submit is tried again before the worker gives up.
const SUBMIT_TRIES_MAX: u32 = 1_000;

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct Timeout {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingRegistration {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// What a completion is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Multishot receive of a file slot.
    /// `epoch`: see [`EPOCHS`].
    Receive { slot: u32, generation: u32, epoch: u32 },
    /// A send: index in the list that is submitted.
    Send { index: u32 },
    /// A send that is not tried once more.
    LastTry,
    /// The mailbox was written to.
    Wake,
    /// A connection that something waits for takes more.
    Room { slot: u32, generation: u32 },
    /// Nobody waits for it.
    Other,
}

const RECEIVE: u64 = 1 << 62;
const SEND: u64 = 2 << 62;
const WAKE: u64 = 3 << 62;
/// A kind of wake.
const ROOM: u64 = WAKE | 1 << 61;
const LAST_TRY: u64 = 1;
/// Slots have 24 bits, generations 32.
pub(crate) const SLOTS_MAX: u32 = 1 << 24;
/// All receives are of one epoch. It ends when the kernel has lost completions: what it then says
/// of older ones is void.
pub(crate) const EPOCHS: u32 = 1 << 6;
/// The kernel's limit of registered files (IORING_MAX_FIXED_FILES).
pub(crate) const FILES_MAX: u32 = 1 << 20;
const _: () = assert!(FILES_MAX <= SLOTS_MAX);

impl Operation {
    pub(crate) fn user_data(self) -> u64 {
        match self {
            Self::Receive { slot, generation, epoch } => {
                let epoch = u64::from(epoch % EPOCHS);
                RECEIVE | epoch << 56 | u64::from(slot) << 32 | u64::from(generation)
            }
            Self::Send { index } => SEND | u64::from(index),
            Self::Wake => WAKE,
            Self::Room { slot, generation } => ROOM | u64::from(slot) << 32 | u64::from(generation),
            Self::LastTry => LAST_TRY,
            Self::Other => 0,
        }
    }

    pub(crate) fn parse(user_data: u64) -> Self {
        match user_data & WAKE {
            RECEIVE => Self::Receive {
                slot: (user_data >> 32) as u32 & (SLOTS_MAX - 1),
                generation: user_data as u32,
                epoch: (user_data >> 56) as u32 & (EPOCHS - 1),
            },
            SEND => Self::Send { index: user_data as u32 },
            WAKE if user_data & ROOM == ROOM => Self::Room {
                slot: (user_data >> 32) as u32 & (SLOTS_MAX - 1),
                generation: user_data as u32,
            },
            WAKE => Self::Wake,
            _ if user_data == LAST_TRY => Self::LastTry,
            _ => Self::Other,
        }
    }
}

/// One finished (part of a) request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

pub(crate) struct Ring {
    uring: IoUring,
    /// What `enter` is called with: an index of the registered table, or the descriptor.
    enter_fd: i32,
    enter_flags: u32,
    /// One wait can hold a turn by itself (6.12): older kernels refuse the argument.
    min_wait: bool,
    /// Sockets are entries of the ring's table, not descriptors: see `files`.
    pub(crate) has_file_table: bool,
    /// Taken out of the completion queue, not yet looked at.
    pub(crate) completed: VecDeque<Completion>,
    /// System calls until now.
    pub(crate) enters: u64,
    /// The kernel had no memory for completions and dropped some: whoever waits for one waits in
    /// vain. Set here, acted on by the loop.
    pub(crate) has_lost: bool,
}

impl Ring {
    pub(crate) fn open(without: Without) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(ENTRIES)?;
        let mut ring = Self {
            enter_fd: uring.as_raw_fd(),
            enter_flags: 0,
            min_wait: uring.params().is_feature_min_timeout() && !without.min_wait,
            has_file_table: !without.file_table && files::table_lets_go()?,
            completed: VecDeque::with_capacity(uring.params().cq_entries() as usize),
            uring,
            enters: 0,
            has_lost: false,
        };
        if !without.registered_ring {
            ring.register_itself();
        }
        Ok(ring)
    }

    /// Saves the look-up of the descriptor in each call. Optional: on failure all works without.
    fn register_itself(&mut self) {
        let fd = self.uring.as_raw_fd();
        let mut update = RingRegistration { offset: u32::MAX, reserved: 0, data: fd as u64 };
        // SAFETY: `update` is the struct that this operation reads and writes, once.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, &raw mut update, 1)
        };
        if result == 1 {
            self.enter_fd = update.offset as i32;
            self.enter_flags = ENTER_REGISTERED_RING;
        }
    }

    pub(crate) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.uring.submitter()
    }

    /// A request may keep silent about its success.
    pub(crate) fn skips_successes(&self) -> bool {
        self.uring.params().is_feature_skip_cqe_on_success()
    }

    /// Queues one request, submitting first if the queue is full.
    ///
    /// # Safety
    /// What the entry points to stays valid until the request has completed, or until it was
    /// submitted where the kernel copies it.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.uring.submission().is_full() {
            self.submit()?;
        }
        // SAFETY: passed on from the caller.
        let pushed = unsafe { self.uring.submission().push(entry) };
        pushed.map_err(|_| io::Error::other("the submission queue is full after a submit"))
    }

    /// Hands all queued requests to the kernel. Returns when every one has been taken, so memory
    /// that the kernel copies at submission is free again.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        for _ in 0..SUBMIT_TRIES_MAX {
            let queued = self.uring.submission().len() as u32;
            if queued == 0 {
                return Ok(());
            }
            match self.enter(queued, 0, 0, None) {
                Ok(_) => {}
                // No memory for a request, or completions overflowed: make room, try again.
                Err(error) if self.is_passing(&error) => {
                    self.collect();
                    self.run_deferred()?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the kernel takes no more requests"))
    }

    /// Moves all completions that are ready into `completed`. Makes no system call.
    pub(crate) fn collect(&mut self) {
        for entry in self.uring.completion() {
            self.completed.push_back(Completion {
                user_data: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            });
        }
    }

    /// True when the kernel holds finished work that only an `enter` brings out.
    pub(crate) fn has_deferred(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// True when completions wait to be collected.
    pub(crate) fn has_completed(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// True when something has completed that nobody has looked at. Makes no system call.
    pub(crate) fn has_news(&mut self) -> bool {
        !self.completed.is_empty() || self.is_ready()
    }

    /// True when something waits to be harvested. Makes no system call.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.has_completed() || self.has_deferred()
    }

    /// Lets the kernel finish deferred work (some ten packets a call).
    pub(crate) fn run_deferred(&mut self) -> io::Result<()> {
        match self.enter(0, 0, ENTER_GETEVENTS, None) {
            Err(error) if !self.is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Sleeps until `want` completions are there; after `hold` one is enough; at most for
    /// `timeout`. Whatever the kernel: what it lacks is made up for here, and nowhere else.
    pub(crate) fn wait(&mut self, want: u32, hold: Nanos, timeout: Nanos) -> io::Result<()> {
        let hold_us = (hold.min(timeout) / 1_000) as u32;
        if hold_us == 0 {
            return self.sleep(1, 0, timeout);
        }
        if self.min_wait {
            return self.sleep(want, hold_us, timeout);
        }
        // First the moment, then, if it brought nothing, the rest.
        let hold = hold.min(timeout);
        self.sleep(want, 0, hold)?;
        self.collect();
        if self.completed.is_empty() && timeout > hold {
            return self.sleep(1, 0, timeout - hold);
        }
        Ok(())
    }

    /// One wait in the kernel. `hold_us` is for kernels that have it: others refuse the call.
    fn sleep(&mut self, want: u32, hold_us: u32, timeout: Nanos) -> io::Result<()> {
        let timeout =
            Timeout { seconds: (timeout / SECOND) as i64, nanoseconds: (timeout % SECOND) as i64 };
        let argument = WaitArgument {
            signal_mask: 0,
            signal_mask_bytes: 8,
            min_wait_us: hold_us,
            timeout: ptr::from_ref(&timeout) as u64,
        };
        match self.enter(0, want, ENTER_GETEVENTS, Some(&argument)) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            Err(error) if !self.is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// True for what the next call may do away with.
    fn is_passing(&mut self, error: &io::Error) -> bool {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY | libc::EINTR) => true,
            Some(libc::EBADR) => {
                self.has_lost = true;
                true
            }
            _ => false,
        }
    }

    fn enter(
        &mut self,
        submit: u32,
        want: u32,
        flags: u32,
        argument: Option<&WaitArgument>,
    ) -> io::Result<u32> {
        let (flags, pointer, bytes) = match argument {
            Some(argument) => {
                (flags | ENTER_EXT_ARG, ptr::from_ref(argument), size_of::<WaitArgument>())
            }
            None => (flags, ptr::null(), 0),
        };
        self.enters += 1;
        // SAFETY: the ring lives as long as `self`; the argument (and the timeout it points to)
        // lives for the call and has the size given; queued entries are covered by `push`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                submit,
                want,
                flags | self.enter_flags,
                pointer,
                bytes,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as u32) }
    }

    /// Ends all requests that the kernel has. True: it did.
    pub(crate) fn cancel_all(&mut self) -> bool {
        let timeout = types::Timespec::new().sec(1);
        let all = types::CancelBuilder::any();
        match self.uring.submitter().register_sync_cancel(Some(timeout), all) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        }
    }

    /// Ends all requests and waits until they have. True: the kernel holds no reference to any
    /// memory of ours any more.
    pub(crate) fn shut_down(&mut self) -> bool {
        // Requests that were queued and never submitted are never read: forgotten with the ring.
        let cancelled = self.cancel_all();
        // The last completions; then the sockets close here and now, not by a kernel thread later.
        while self.has_deferred() {
            self.collect();
            self.completed.clear();
            if self.run_deferred().is_err() {
                break;
            }
        }
        let _ = self.uring.submitter().unregister_files();
        cancelled
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.enter_flags & ENTER_REGISTERED_RING != 0 {
            let mut update =
                RingRegistration { offset: self.enter_fd as u32, reserved: 0, data: 0 };
            // SAFETY: `update` is the struct that this operation reads, once.
            unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    self.uring.as_raw_fd(),
                    UNREGISTER_RING_FDS,
                    &raw mut update,
                    1,
                )
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_waits_on_kernels_with_and_without_a_shortest_wait() {
        for min_wait in [false, true] {
            let mut ring = Ring::open(Without { min_wait, ..Without::default() }).unwrap();
            for (hold, timeout) in [(0, 1_000), (900, 1_000), (2_000, 2_000), (2_000, 5_000)] {
                ring.wait(64, hold, timeout).unwrap();
                assert!(ring.completed.is_empty());
            }
            // What is done already ends both of the two waits.
            for _ in 0..2 {
                let entry = io_uring::opcode::Nop::new().build().user_data(7);
                // SAFETY: this request has no memory.
                unsafe { ring.push(&entry) }.unwrap();
            }
            ring.submit().unwrap();
            ring.wait(64, 1_000_000, 3_600 * SECOND).unwrap();
            ring.collect();
            assert_eq!(ring.completed.len(), 2);
        }
    }

    #[test]
    fn user_data_says_what_it_is_about() {
        for operation in [
            Operation::Receive { slot: SLOTS_MAX - 1, generation: u32::MAX, epoch: EPOCHS - 1 },
            Operation::Receive { slot: 0, generation: 0, epoch: 0 },
            Operation::Send { index: 77 },
            Operation::Wake,
            Operation::Room { slot: SLOTS_MAX - 1, generation: u32::MAX },
            Operation::Room { slot: 0, generation: 0 },
            Operation::LastTry,
            Operation::Other,
        ] {
            assert_eq!(Operation::parse(operation.user_data()), operation);
        }
    }
}
