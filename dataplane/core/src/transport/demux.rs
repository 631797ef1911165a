//! Which stream a packet belongs to (RFC 8843 section 9.2, RFC 8852). Owns the tables of one peer:
//! SSRC, then RID (or repaired RID) with MID, then MID, then payload type. What is learned from a
//! header is remembered only after the packet's tag was verified, and up to a limit.

use crate::{Discard, key::ProducerKey, producer::Producer};

/// SSRCs of one peer.
const SSRCS_MAX: usize = 256;

/// A received stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRef {
    /// Its producer.
    pub producer: ProducerKey,
    /// Index of the stream in it.
    pub stream: u8,
    /// Its retransmissions.
    pub rtx: bool,
}

/// What a header says about its stream, beside the SSRC.
#[derive(Debug, Clone, Copy, Default)]
pub struct Labels<'a> {
    /// MID extension.
    pub mid: Option<&'a str>,
    /// RID extension.
    pub rid: Option<&'a str>,
    /// Repaired RID extension.
    pub repaired_rid: Option<&'a str>,
    /// Payload type.
    pub payload_type: u8,
}

#[derive(Debug)]
struct Entry {
    producer: ProducerKey,
    mid: Option<String>,
    rids: Vec<Option<String>>,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Demux {
    ssrcs: Vec<(u32, StreamRef)>,
    producers: Vec<Entry>,
}

impl Demux {
    /// The stream of an SSRC. A handful of entries: a scan beats a tree.
    #[must_use]
    pub fn by_ssrc(&self, ssrc: u32) -> Option<StreamRef> {
        self.ssrcs.iter().find(|(known, _)| *known == ssrc).map(|(_, stream)| *stream)
    }

    /// Any SSRC that the peer sends with.
    #[must_use]
    pub fn any_ssrc(&self) -> Option<u32> {
        self.ssrcs.first().map(|(ssrc, _)| *ssrc)
    }

    /// The stream that a header's labels name.
    #[must_use]
    pub fn by_labels(&self, labels: &Labels<'_>) -> Option<StreamRef> {
        let rid = labels.repaired_rid.or(labels.rid);
        let candidates = || {
            self.producers.iter().filter(|entry| {
                labels.mid.is_none_or(|mid| entry.mid.as_deref().is_none_or(|own| own == mid))
            })
        };
        if let Some(rid) = rid {
            let found = candidates().find_map(|entry| {
                let stream = entry.rids.iter().position(|own| own.as_deref() == Some(rid))?;
                Some((entry, stream as u8))
            });
            let (entry, stream) = found?;
            let rtx = labels.repaired_rid.is_some()
                || entry.rtx_payload_type == Some(labels.payload_type);
            return Some(StreamRef { producer: entry.producer, stream, rtx });
        }
        // Without a RID only a producer of one stream can be meant; without a MID only one that is
        // alone with its payload type.
        let mut fitting = candidates().filter(|entry| {
            let ours = entry.payload_type == labels.payload_type
                || entry.rtx_payload_type == Some(labels.payload_type);
            entry.rids.len() == 1 && ours && (labels.mid.is_none() || entry.mid.is_some())
        });
        let entry = fitting.next()?;
        if labels.mid.is_none() && fitting.next().is_some() {
            return None;
        }
        let rtx = entry.rtx_payload_type == Some(labels.payload_type);
        Some(StreamRef { producer: entry.producer, stream: 0, rtx })
    }

    /// Remembers an SSRC.
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn learn(&mut self, ssrc: u32, stream: StreamRef) -> Result<(), Discard> {
        if self.ssrcs.len() >= SSRCS_MAX {
            return Err(Discard::LimitReached);
        }
        self.ssrcs.push((ssrc, stream));
        Ok(())
    }

    /// Adds a producer with the SSRCs that its parameters name.
    ///
    /// # Errors
    /// A sentence, when an SSRC, or MID and RID, is taken.
    pub fn add(&mut self, key: ProducerKey, producer: &Producer) -> Result<(), String> {
        for stream in &producer.streams {
            for ssrc in [stream.ssrc, stream.rtx_ssrc].into_iter().flatten() {
                if self.by_ssrc(ssrc).is_some() {
                    return Err(format!("SSRC {ssrc} is in use on this transport"));
                }
            }
            if stream.ssrc.is_none() && stream.rid.is_none() && producer.mid.is_none() {
                return Err("an encoding needs an ssrc, a rid, or a mid".into());
            }
        }
        let rids: Vec<_> = producer.streams.iter().map(|stream| stream.rid.clone()).collect();
        let taken = self.producers.iter().any(|entry| {
            let same_rid = entry.rids.iter().flatten().any(|rid| rids.contains(&Some(rid.clone())));
            entry.mid == producer.mid && (producer.mid.is_some() || same_rid)
        });
        if taken {
            return Err("this MID (or RID without MID) is in use on this transport".into());
        }
        let new: Vec<_> = producer
            .streams
            .iter()
            .enumerate()
            .flat_map(|(index, s)| [(s.ssrc, false), (s.rtx_ssrc, true)].map(|p| (index, p)))
            .filter_map(|(index, (ssrc, rtx))| {
                Some((ssrc?, StreamRef { producer: key, stream: index as u8, rtx }))
            })
            .collect();
        if self.ssrcs.len() + new.len() > SSRCS_MAX {
            return Err(format!("more than {SSRCS_MAX} SSRCs on one transport"));
        }
        self.ssrcs.extend(new);
        self.producers.push(Entry {
            producer: key,
            mid: producer.mid.clone(),
            rids,
            payload_type: producer.payload_type,
            rtx_payload_type: producer.rtx_payload_type,
        });
        Ok(())
    }

    /// Forgets a producer.
    pub fn remove(&mut self, key: ProducerKey) {
        self.ssrcs.retain(|(_, stream)| stream.producer != key);
        self.producers.retain(|entry| entry.producer != key);
    }
}
