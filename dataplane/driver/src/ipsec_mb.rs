//! Sealing of many packets side by side, by Intel's IPsec-MB library: the other [`Sealer`] than the
//! core's own, behind the feature `ipsec-mb`. Called by the core once for some transports of a turn.
//! Owns the library's manager and the schedules of the keys, made again when a key changes and wiped
//! when it goes; never decides what is sealed: what it cannot take, or is slower at, goes to
//! [`SoftwareSealer`].
//!
//! Nanoseconds a packet on Zen 3 (the library's AVX2 code), 64 transports with 10 packets each, the
//! least of ten runs of the bench `sealers`:
//!
//! ```text
//!                            160 B: software, library    1,200 B: software, library
//! AES_CM_128_HMAC_SHA1_80            524        197               1,204        621
//! AEAD_AES_128_GCM                   153        106                 302        355 (not used)
//! AEAD_AES_256_GCM                   158        110                 326        400 (not used)
//! ```

use std::{
    ptr::{self, NonNull},
    slice,
};

use ironcast_core::{
    batch::Slab,
    srtp::{KeySource, SealJob, SealKey, Sealer, SessionKeys, SoftwareSealer, Suite},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Packets that the library gets at once; more than it has lanes for, and still in the cache.
const TASKS_MAX: usize = 64;
/// Payload of the largest packet that goes to the library with GCM. It begins faster than ring's code
/// and goes on slower: on Zen 3 they are even near 900 bytes.
const GCM_BYTES_MAX: usize = 600;
/// Bytes of a fixed RTP header: what is shorter is no packet.
const HEADER_BYTES_MIN: usize = 12;

/// Kinds of `shim.c`.
const CM_SHA1: u32 = 0;
const GCM_128: u32 = 1;
const GCM_256: u32 = 2;

/// The library's own structure; only C looks inside.
#[repr(C)]
struct Manager {
    _opaque: [u8; 0],
}

/// `struct expanded` of `shim.c`, which asserts that it is not larger.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
struct Schedule([u8; 1024]);

/// `struct task` of `shim.c`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Task {
    key: *const Schedule,
    packet: *mut u8,
    header_len: u32,
    payload_len: u32,
    tag_len: u32,
    kind: u32,
    iv: [u8; 16],
    roc: [u8; 4],
}

// SAFETY: the declarations repeat the definitions in `shim.c`.
unsafe extern "C" {
    fn ironcast_imb_open() -> *mut Manager;
    fn ironcast_imb_close(manager: *mut Manager);
    fn ironcast_imb_expand(
        manager: *mut Manager,
        kind: u32,
        raw: *const u8,
        auth: *const u8,
        out: *mut Schedule,
    );
    fn ironcast_imb_seal(manager: *mut Manager, tasks: *const Task, count: u32) -> i32;
}

/// The library cannot be used on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the IPsec-MB library does not run on this processor: it has no AES instructions")]
pub struct UnusableError;

/// What was made from a session key, and the key, by which a change is seen.
struct Prepared {
    suite: Suite,
    raw: Raw,
    schedule: Box<Schedule>,
}

#[derive(PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
struct Raw {
    key: [u8; 32],
    auth: [u8; 20],
}

impl Raw {
    fn of(keys: &SessionKeys<'_>) -> Self {
        let mut raw = Self { key: [0; 32], auth: *keys.auth };
        raw.key[..keys.key.len()].copy_from_slice(keys.key);
        raw
    }
}

/// See the file's head. One for each worker; it stays on the worker's thread.
pub struct MultiBufferSealer {
    manager: NonNull<Manager>,
    /// By the transports of the jobs.
    prepared: Vec<Option<Prepared>>,
    /// The entry that was looked at last, whether its key is still there.
    swept: usize,
    tasks: Vec<Task>,
    /// Slab and offset of each task's packet.
    places: Vec<(u32, u32)>,
    /// Where each slab begins.
    slabs: Vec<*mut u8>,
}

impl MultiBufferSealer {
    /// Starts the library.
    ///
    /// # Errors
    /// [`UnusableError`].
    pub fn new() -> Result<Self, UnusableError> {
        // SAFETY: takes nothing, and gives a manager that nobody else has, or null.
        let manager = NonNull::new(unsafe { ironcast_imb_open() }).ok_or(UnusableError)?;
        Ok(Self {
            manager,
            prepared: Vec::new(),
            swept: 0,
            tasks: Vec::with_capacity(TASKS_MAX),
            places: Vec::with_capacity(TASKS_MAX),
            slabs: Vec::new(),
        })
    }

    /// Makes the schedule of a key, unless the one that is here was made from the same bytes.
    fn prepare(&mut self, number: u32, key: &SealKey) {
        let keys = key.session_keys();
        let raw = Raw::of(&keys);
        let at = number as usize;
        if self.prepared.len() <= at {
            self.prepared.resize_with(at + 1, || None);
        }
        let entry = &mut self.prepared[at];
        if entry.as_ref().is_some_and(|old| old.suite == keys.suite && old.raw == raw) {
            return;
        }
        let mut schedule = Box::new(Schedule([0; 1024]));
        // SAFETY: the manager lives; `raw.key` has 32 bytes, `raw.auth` 20, at least what the kind
        // reads; `schedule` is as large and aligned as `struct expanded`.
        unsafe {
            ironcast_imb_expand(
                self.manager.as_ptr(),
                kind(keys.suite),
                raw.key.as_ptr(),
                raw.auth.as_ptr(),
                &raw mut *schedule,
            );
        }
        *entry = Some(Prepared { suite: keys.suite, raw, schedule });
    }

    /// The task of a job whose key is prepared, its packet not yet named; `None` for what the
    /// software has to look at: it is wrong in some way, without a payload, or faster there.
    fn task<K: KeySource + ?Sized>(&self, keys: &K, job: &SealJob, slabs: &[Slab]) -> Option<Task> {
        let key = keys.seal_key(job.transport)?;
        let prepared = self.prepared.get(job.transport as usize)?.as_ref()?;
        let packet = slabs.get(job.slab as usize)?.bytes.get(job.offset as usize..)?;
        let (header_len, payload_len) = (usize::from(job.header_len), usize::from(job.payload_len));
        let tag_len = prepared.suite.rtp_tag_len();
        let whole = packet.len() >= header_len + payload_len + tag_len;
        let faster = !prepared.suite.is_gcm() || payload_len <= GCM_BYTES_MAX;
        if !whole || header_len < HEADER_BYTES_MIN || payload_len == 0 || !faster {
            return None;
        }
        Some(Task {
            key: &raw const *prepared.schedule,
            packet: ptr::null_mut(),
            header_len: header_len as u32,
            payload_len: payload_len as u32,
            tag_len: tag_len as u32,
            kind: kind(prepared.suite),
            iv: key.rtp_iv(packet, job.index),
            roc: job.index.roc().to_be_bytes(),
        })
    }

    /// At most [`TASKS_MAX`] jobs.
    fn seal_some<K: KeySource + ?Sized>(
        &mut self,
        keys: &K,
        jobs: &[SealJob],
        slabs: &mut [Slab],
    ) -> usize {
        let (mut failed, mut prepared) = (0, None);
        self.tasks.clear();
        self.places.clear();
        for job in jobs {
            if prepared != Some(job.transport)
                && let Some(key) = keys.seal_key(job.transport)
            {
                self.prepare(job.transport, key);
                prepared = Some(job.transport);
            }
            if let Some(task) = self.task(keys, job, slabs) {
                self.tasks.push(task);
                self.places.push((job.slab, job.offset));
            } else {
                failed += SoftwareSealer.seal(keys, slice::from_ref(job), slabs);
            }
        }
        // From here on nobody borrows a slab until the library is done with the pointers.
        self.slabs.clear();
        self.slabs.extend(slabs.iter_mut().map(|slab| slab.bytes.as_mut_ptr()));
        for (task, (slab, offset)) in self.tasks.iter_mut().zip(&self.places) {
            task.packet = self.slabs[*slab as usize].wrapping_add(*offset as usize);
        }
        // SAFETY: there are `tasks.len()` tasks, at most `TASKS_MAX`. Each one's key points to a
        // schedule in `prepared` that was made for its kind, and its packet to as many bytes of a
        // slab as its three lengths say (`task` looked), which `slabs` lends to us alone.
        let sealed = unsafe {
            let count = self.tasks.len() as u32;
            ironcast_imb_seal(self.manager.as_ptr(), self.tasks.as_ptr(), count)
        };
        if sealed != 0 {
            failed += self.tasks.len();
            self.wipe(slabs);
        }
        failed
    }

    /// The library refused: nothing may leave in the clear.
    fn wipe(&self, slabs: &mut [Slab]) {
        for (task, (slab, offset)) in self.tasks.iter().zip(&self.places) {
            let len = (task.header_len + task.payload_len + task.tag_len) as usize;
            slabs[*slab as usize].bytes[*offset as usize..][..len].fill(0);
        }
    }

    /// Looks at one entry at a time, so that a key that is gone does not stay for long.
    fn sweep<K: KeySource + ?Sized>(&mut self, keys: &K) {
        self.swept = (self.swept + 1) % self.prepared.len().max(1);
        if keys.seal_key(self.swept as u32).is_none()
            && let Some(entry) = self.prepared.get_mut(self.swept)
        {
            *entry = None;
        }
    }
}

impl Sealer for MultiBufferSealer {
    const JOBS_WANTED: usize = TASKS_MAX;

    fn seal<K: KeySource + ?Sized>(
        &mut self,
        keys: &K,
        jobs: &[SealJob],
        slabs: &mut [Slab],
    ) -> usize {
        self.sweep(keys);
        jobs.chunks(TASKS_MAX).map(|some| self.seal_some(keys, some, slabs)).sum()
    }
}

impl Drop for MultiBufferSealer {
    fn drop(&mut self) {
        // SAFETY: the manager came from `ironcast_imb_open`, and this is its last use.
        unsafe { ironcast_imb_close(self.manager.as_ptr()) }
    }
}

fn kind(suite: Suite) -> u32 {
    match suite {
        Suite::AeadAes128Gcm => GCM_128,
        Suite::AeadAes256Gcm => GCM_256,
        Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => CM_SHA1,
    }
}
