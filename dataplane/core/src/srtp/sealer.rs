//! The seam where packets are sealed, many at once: an implementation that works on many packets
//! side by side needs a list. Called for some transports of a turn at a time, after their packets
//! were written in the clear and before the batch leaves the core.

use super::SealKey;
use crate::{batch::Slab, numbers::PacketIndex};

/// One RTP packet in a slab, in the clear, with room for its tag behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealJob {
    /// Whose packet it is, as the [`KeySource`] numbers them: the transport's index.
    pub transport: u32,
    /// Index in the slabs.
    pub slab: u32,
    /// First byte of the packet.
    pub offset: u32,
    /// Bytes of the header with CSRCs and extensions.
    pub header_len: u16,
    /// Bytes of the payload with padding.
    pub payload_len: u16,
    /// Never twice with other bytes.
    pub index: PacketIndex,
}

/// Where a sealer finds the keys of the jobs.
pub trait KeySource {
    /// What seals the packets of that transport; `None` when it is gone.
    fn seal_key(&self, transport: u32) -> Option<&SealKey>;
}

impl KeySource for [SealKey] {
    fn seal_key(&self, transport: u32) -> Option<&SealKey> {
        self.get(transport as usize)
    }
}

/// Seals a turn's packets.
pub trait Sealer {
    /// How many jobs it wants at once, at least; a turn's last ones may be fewer. One by one is best
    /// sealed soon, while packet and key are in the nearest cache.
    const JOBS_WANTED: usize;

    /// Seals the packets of all jobs in place. Returns how many could not be sealed (a key or a
    /// slab that is not there, no room): their bytes are zeros then, so that nothing leaves in the
    /// clear, and the receiver discards them.
    fn seal<K: KeySource + ?Sized>(
        &mut self,
        keys: &K,
        jobs: &[SealJob],
        slabs: &mut [Slab],
    ) -> usize;
}

/// One packet after the other, by aws-lc.
#[derive(Debug, Clone, Copy, Default)]
pub struct SoftwareSealer;

impl Sealer for SoftwareSealer {
    const JOBS_WANTED: usize = 1;

    fn seal<K: KeySource + ?Sized>(
        &mut self,
        keys: &K,
        jobs: &[SealJob],
        slabs: &mut [Slab],
    ) -> usize {
        let mut failed = 0;
        for job in jobs {
            let slab = slabs.get_mut(job.slab as usize);
            let Some(packet) = slab.and_then(|slab| slab.bytes.get_mut(job.offset as usize..))
            else {
                failed += 1;
                continue;
            };
            let (header_len, payload_len) = (job.header_len.into(), job.payload_len.into());
            let sealed = keys
                .seal_key(job.transport)
                .map_or(0, |key| key.seal_rtp(packet, header_len, payload_len, job.index));
            if sealed == 0 {
                failed += 1;
                let len = packet.len().min(header_len + payload_len);
                packet[..len].fill(0);
            }
        }
        failed
    }
}
