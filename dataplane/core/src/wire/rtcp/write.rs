//! Writes RTCP packets one after the other into a fixed buffer. A packet that does not fit leaves
//! the buffer as it was: the caller sends what is there and begins anew.

use super::{
    DlrrReport, EXTENDED_REPORT, FORMAT_APPLICATION, FORMAT_FIR, FORMAT_NACK, FORMAT_PAUSE_RESUME,
    FORMAT_PLI, FORMAT_TWCC, GOODBYE, PAUSE, PAYLOAD_FEEDBACK, Pause, RECEIVER_REPORT, REMB_NAME,
    RESUME, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo, TRANSPORT_FEEDBACK,
    XR_DLRR, XR_RECEIVER_REFERENCE_TIME,
};
use crate::wire::{
    twcc,
    writer::{Full, Writer},
};

/// RC and SC have five bits.
const COUNT_MAX: usize = 31;

/// Appends packets to a compound.
///
/// ```
/// use ironcast_core::wire::rtcp::{self, CompoundWriter, Packet};
///
/// let mut buffer = [0; 100];
/// let mut compound = CompoundWriter::new(&mut buffer);
/// compound.receiver_report(1, &[])?;
/// compound.picture_loss(1, 2)?;
/// let len = compound.len();
/// assert_eq!(rtcp::packets(&buffer[..len]).count(), 2);
/// # Ok::<(), ironcast_core::wire::Full>(())
/// ```
#[derive(Debug)]
pub struct CompoundWriter<'a>(Writer<'a>, usize);

impl<'a> CompoundWriter<'a> {
    /// Begins an empty compound that may fill the whole buffer.
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> Self {
        let capacity = buffer.len();
        Self(Writer::new(buffer), capacity)
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Bytes that are free.
    #[must_use]
    pub fn room(&self) -> usize {
        self.1 - self.0.len()
    }

    /// One packet: header, what `body` writes, length. Taken back when it does not fit.
    fn packet<T>(
        &mut self,
        packet_type: u8,
        count: u8,
        body: impl FnOnce(&mut Writer<'a>) -> Result<T, Full>,
    ) -> Result<T, Full> {
        let start = self.0.len();
        let writer = &mut self.0;
        let write = || {
            writer.u8(0x80 | count & 0x1f)?;
            writer.u8(packet_type)?;
            writer.u16(0)?;
            let result = body(writer)?;
            let words = (writer.len() - start) / 4 - 1;
            writer.set_u16(start + 2, u16::try_from(words).map_err(|_| Full)?);
            Ok(result)
        };
        let result = write();
        if result.is_err() {
            self.0.truncate(start);
        }
        result
    }

    /// SR with up to 31 report blocks; further ones follow in receiver reports of the same SSRC.
    ///
    /// # Errors
    /// [`Full`].
    pub fn sender_report(
        &mut self,
        info: &SenderInfo,
        reports: &[ReportBlock],
    ) -> Result<(), Full> {
        let start = self.0.len();
        let (first, more) = reports.split_at(reports.len().min(COUNT_MAX));
        self.packet(SENDER_REPORT, first.len() as u8, |w| {
            w.u32(info.ssrc)?;
            w.u64(info.ntp)?;
            w.u32(info.rtp_timestamp)?;
            w.u32(info.packet_count)?;
            w.u32(info.octet_count)?;
            first.iter().try_for_each(|report| put_report(w, report))
        })?;
        let result = more.chunks(COUNT_MAX).try_for_each(|some| self.one_report(info.ssrc, some));
        self.keep(start, result)
    }

    /// RR; several if there are more than 31 report blocks.
    ///
    /// # Errors
    /// [`Full`].
    pub fn receiver_report(&mut self, ssrc: u32, reports: &[ReportBlock]) -> Result<(), Full> {
        if reports.is_empty() {
            return self.one_report(ssrc, &[]);
        }
        let start = self.0.len();
        let result = reports.chunks(COUNT_MAX).try_for_each(|some| self.one_report(ssrc, some));
        self.keep(start, result)
    }

    fn one_report(&mut self, ssrc: u32, reports: &[ReportBlock]) -> Result<(), Full> {
        self.packet(RECEIVER_REPORT, reports.len() as u8, |w| {
            w.u32(ssrc)?;
            reports.iter().try_for_each(|report| put_report(w, report))
        })
    }

    fn keep(&mut self, start: usize, result: Result<(), Full>) -> Result<(), Full> {
        if result.is_err() {
            self.0.truncate(start);
        }
        result
    }

    /// SDES with one CNAME of at most 255 bytes.
    ///
    /// # Errors
    /// [`Full`], also for a longer name.
    pub fn cname(&mut self, ssrc: u32, cname: &str) -> Result<(), Full> {
        let len = u8::try_from(cname.len()).map_err(|_| Full)?;
        self.packet(SOURCE_DESCRIPTION, 1, |w| {
            w.u32(ssrc)?;
            w.put(&[1, len])?;
            w.put(cname.as_bytes())?;
            // At least one zero ends the items.
            w.u8(0)?;
            w.pad_to_word()
        })
    }

    /// BYE of up to 31 streams.
    ///
    /// # Errors
    /// [`Full`], also for more streams.
    pub fn goodbye(&mut self, ssrcs: &[u32]) -> Result<(), Full> {
        if ssrcs.len() > COUNT_MAX {
            return Err(Full);
        }
        self.packet(GOODBYE, ssrcs.len() as u8, |w| ssrcs.iter().try_for_each(|&s| w.u32(s)))
    }

    /// Generic NACK. Numbers in ascending order (modulo 2^16) take the least space: one pair for
    /// up to 17 of them. An empty list writes nothing.
    ///
    /// # Errors
    /// [`Full`].
    pub fn nack(&mut self, sender: u32, media: u32, sequences: &[u16]) -> Result<(), Full> {
        if sequences.is_empty() {
            return Ok(());
        }
        self.packet(TRANSPORT_FEEDBACK, FORMAT_NACK, |w| {
            w.u32(sender)?;
            w.u32(media)?;
            let mut rest = sequences;
            while let Some((&first, after)) = rest.split_first() {
                let mut mask = 0u16;
                rest = after;
                while let Some((&next, after)) = rest.split_first() {
                    let distance = next.wrapping_sub(first);
                    if !(1..=16).contains(&distance) {
                        break;
                    }
                    mask |= 1 << (distance - 1);
                    rest = after;
                }
                w.u16(first)?;
                w.u16(mask)?;
            }
            Ok(())
        })
    }

    /// PAUSE and RESUME of streams (RFC 7728 section 8). An empty list writes nothing.
    ///
    /// # Errors
    /// [`Full`].
    pub fn pause_resume(&mut self, sender: u32, requests: &[Pause]) -> Result<(), Full> {
        if requests.is_empty() {
            return Ok(());
        }
        self.packet(TRANSPORT_FEEDBACK, FORMAT_PAUSE_RESUME, |w| {
            w.u32(sender)?;
            w.u32(0)?;
            requests.iter().try_for_each(|request| {
                w.u32(request.ssrc)?;
                w.u8((if request.is_paused { PAUSE } else { RESUME }) << 4)?;
                w.u8(0)?;
                w.u16(request.number)
            })
        })
    }

    /// PLI.
    ///
    /// # Errors
    /// [`Full`].
    pub fn picture_loss(&mut self, sender: u32, media: u32) -> Result<(), Full> {
        self.packet(PAYLOAD_FEEDBACK, FORMAT_PLI, |w| {
            w.u32(sender)?;
            w.u32(media)
        })
    }

    /// FIR: streams with numbers that grow with each new request (RFC 5104 section 4.3.1.1).
    ///
    /// # Errors
    /// [`Full`].
    pub fn full_intra(&mut self, sender: u32, entries: &[(u32, u8)]) -> Result<(), Full> {
        self.packet(PAYLOAD_FEEDBACK, FORMAT_FIR, |w| {
            w.u32(sender)?;
            w.u32(0)?;
            entries.iter().try_for_each(|&(ssrc, number)| {
                w.u32(ssrc)?;
                w.u32(u32::from(number) << 24)
            })
        })
    }

    /// REMB for up to 255 streams; the bitrate is rounded down to 18 significant bits.
    ///
    /// # Errors
    /// [`Full`], also for more streams.
    pub fn maximum_bitrate(
        &mut self,
        sender: u32,
        bitrate_bps: u64,
        ssrcs: &[u32],
    ) -> Result<(), Full> {
        let count = u8::try_from(ssrcs.len()).map_err(|_| Full)?;
        let exponent = (u64::BITS - bitrate_bps.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate_bps >> exponent) as u32;
        self.packet(PAYLOAD_FEEDBACK, FORMAT_APPLICATION, |w| {
            w.u32(sender)?;
            w.u32(0)?;
            w.put(REMB_NAME)?;
            w.u8(count)?;
            w.u24(exponent << 18 | mantissa)?;
            ssrcs.iter().try_for_each(|&ssrc| w.u32(ssrc))
        })
    }

    /// XR with a receiver reference time.
    ///
    /// # Errors
    /// [`Full`].
    pub fn reference_time(&mut self, ssrc: u32, ntp: u64) -> Result<(), Full> {
        self.packet(EXTENDED_REPORT, 0, |w| {
            w.u32(ssrc)?;
            w.put(&[XR_RECEIVER_REFERENCE_TIME, 0, 0, 2])?;
            w.u64(ntp)
        })
    }

    /// XR with a DLRR block: the answer to receiver reference times.
    ///
    /// # Errors
    /// [`Full`].
    pub fn dlrr(&mut self, ssrc: u32, reports: &[DlrrReport]) -> Result<(), Full> {
        let words = u16::try_from(reports.len() * 3).map_err(|_| Full)?;
        self.packet(EXTENDED_REPORT, 0, |w| {
            w.u32(ssrc)?;
            w.u16(u16::from(XR_DLRR) << 8)?;
            w.u16(words)?;
            reports.iter().try_for_each(|report| {
                w.u32(report.ssrc)?;
                w.u32(report.last_reference_time)?;
                w.u32(report.delay)
            })
        })
    }

    /// Transport-wide feedback about as many leading `statuses` as fit: see `wire::twcc` for what
    /// they mean. Returns how many were written.
    ///
    /// # Errors
    /// [`Full`] when not even the first ones fit.
    pub fn transport_feedback(
        &mut self,
        sender: u32,
        media: u32,
        head: twcc::Head,
        statuses: &[Option<i16>],
    ) -> Result<usize, Full> {
        let start = self.0.len();
        // Header and SSRCs before it, padding up to 32 bits after it.
        let room = (self.room() & !3).checked_sub(12).ok_or(Full)?;
        let (count, padded) = self.packet(TRANSPORT_FEEDBACK, FORMAT_TWCC, |w| {
            w.u32(sender)?;
            w.u32(media)?;
            let count = twcc::write(w, room, head, statuses)?;
            let padding = w.len().next_multiple_of(4) - w.len();
            w.pad_to_word()?;
            if padding > 0
                && let Some(last) = w.written_mut().last_mut()
            {
                *last = padding as u8;
            }
            Ok((count, padding > 0))
        })?;
        if padded && let Some(first) = self.0.written_mut().get_mut(start) {
            *first |= 0x20;
        }
        Ok(count)
    }
}

fn put_report(w: &mut Writer<'_>, report: &ReportBlock) -> Result<(), Full> {
    w.u32(report.ssrc)?;
    w.u8(report.fraction_lost)?;
    w.u24(report.cumulative_lost.cast_unsigned())?;
    w.u32(report.highest_sequence)?;
    w.u32(report.jitter)?;
    w.u32(report.last_sender_report)?;
    w.u32(report.delay)
}
