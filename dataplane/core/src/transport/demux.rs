//! Which stream a packet belongs to (RFC 9143 section 9.2, RFC 8852). Owns the tables of one peer:
//! SSRC, then RID (or repaired RID) with MID, then MID, then payload type. Each producer's labels are
//! read by its own ids of header extensions. What teaches a binding has the payload type of the
//! stream, or of its retransmissions; it is remembered only after the packet's tag was verified, and
//! up to a limit.

use crate::{
    Discard,
    key::ProducerKey,
    producer::Producer,
    wire::extension::{ExtensionKind, parse_identifier},
};

/// SSRCs of one peer. The other end of a pipe has as many as its producers name: it has all tracks of
/// a room, and is no stranger.
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

/// A stream that a packet of an unknown SSRC fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub stream: StreamRef,
    /// MID or RID name it; else it is the only one with that payload type.
    pub is_named: bool,
}

#[derive(Debug)]
struct Entry {
    producer: ProducerKey,
    mid: Option<String>,
    rids: Vec<Option<String>>,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
    red_payload_type: Option<u8>,
    /// Ids of the extensions that carry MID, RID and repaired RID.
    label_ids: [Option<u8>; 3],
    /// Id of the extension that carries the transport-wide number.
    number_id: Option<u8>,
}

/// How well one producer fits.
enum Fit {
    /// Its labels say so.
    Named(StreamRef),
    /// There are no labels, and it has that payload type.
    ByType(StreamRef),
    /// The labels are its own, the payload type is not.
    OtherType,
    /// There are no labels, and it has several streams with that payload type.
    OneOfSeveral,
    No,
}

impl Entry {
    fn has_type(&self, payload_type: u8) -> bool {
        let others = [self.rtx_payload_type, self.red_payload_type];
        payload_type == self.payload_type || others.contains(&Some(payload_type))
    }

    fn fit<'a>(&self, payload_type: u8, value: impl Fn(u8) -> Option<&'a [u8]>) -> Fit {
        let [mid, rid, repaired] =
            self.label_ids.map(|id| id.and_then(&value).and_then(parse_identifier));
        let same_mid = mid.is_some() && mid == self.mid.as_deref();
        if mid.is_some() && self.mid.is_some() && !same_mid {
            return Fit::No;
        }
        let rtx = self.rtx_payload_type == Some(payload_type);
        let is_media =
            payload_type == self.payload_type || self.red_payload_type == Some(payload_type);
        let stream = match repaired.or(rid) {
            Some(rid) => self.rids.iter().position(|own| own.as_deref() == Some(rid)),
            // Without a RID only a producer of one stream can be meant.
            None if self.rids.len() == 1 => (same_mid || mid.is_none()).then_some(0),
            None if mid.is_none() && (rtx || is_media) => {
                return Fit::OneOfSeveral;
            }
            None => None,
        };
        let Some(stream) = stream else {
            return Fit::No;
        };
        let is_named = same_mid || rid.is_some() || repaired.is_some();
        if !rtx && (!is_media || repaired.is_some()) {
            return if is_named { Fit::OtherType } else { Fit::No };
        }
        let stream = StreamRef { producer: self.producer, stream: stream as u8, rtx };
        if is_named { Fit::Named(stream) } else { Fit::ByType(stream) }
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Demux {
    /// In order.
    ssrcs: Vec<(u32, StreamRef)>,
    /// Those of them that no parameters name.
    learned: Vec<u32>,
    /// Those of retransmissions that have ended, or whose media goes on under another SSRC.
    ended_repairs: Vec<u32>,
    producers: Vec<Entry>,
    is_pipe: bool,
}

impl Demux {
    /// Of the other end of a pipe, or of a peer.
    #[must_use]
    pub fn new(is_pipe: bool) -> Self {
        Self { is_pipe, ..Self::default() }
    }

    fn place(&self, ssrc: u32) -> Result<usize, usize> {
        self.ssrcs.binary_search_by_key(&ssrc, |(known, _)| *known)
    }

    /// The stream of an SSRC.
    #[must_use]
    pub fn by_ssrc(&self, ssrc: u32) -> Option<StreamRef> {
        self.place(ssrc).ok().map(|at| self.ssrcs[at].1)
    }

    fn insert(&mut self, ssrc: u32, stream: StreamRef) {
        match self.place(ssrc) {
            Ok(at) => self.ssrcs[at].1 = stream,
            Err(at) => self.ssrcs.insert(at, (ssrc, stream)),
        }
    }

    /// The stream of an SSRC that was learned from a header.
    #[must_use]
    pub fn learned(&self, ssrc: u32) -> Option<StreamRef> {
        self.by_ssrc(ssrc).filter(|_| self.learned.contains(&ssrc))
    }

    /// Any SSRC that the peer sends media with.
    #[must_use]
    pub fn any_ssrc(&self) -> Option<u32> {
        self.ssrcs.iter().find(|(_, stream)| !stream.rtx).map(|(ssrc, _)| *ssrc)
    }

    /// The stream of a packet whose SSRC is unknown; `value` reads its header extensions.
    ///
    /// # Errors
    /// `RtpUnknownStream` where none or several fit, `RtpUnknownPayloadType` where only that is wrong.
    pub fn by_labels<'a>(
        &self,
        payload_type: u8,
        value: impl Fn(u8) -> Option<&'a [u8]>,
    ) -> Result<Found, Discard> {
        let (mut named, mut by_type) = (Vec::new(), Vec::new());
        let (mut other_type, mut several) = (false, false);
        for entry in &self.producers {
            match entry.fit(payload_type, &value) {
                Fit::Named(stream) => named.push(stream),
                Fit::ByType(stream) => by_type.push(stream),
                Fit::OtherType => other_type = true,
                Fit::OneOfSeveral => several = true,
                Fit::No => {}
            }
        }
        match (&named[..], &by_type[..]) {
            (&[stream], _) => Ok(Found { stream, is_named: true }),
            (&[], &[stream]) if !other_type && !several => Ok(Found { stream, is_named: false }),
            (&[], _) if other_type => Err(Discard::RtpUnknownPayloadType),
            _ => Err(Discard::RtpUnknownStream),
        }
    }

    /// Whether a packet of that payload type has its transport-wide number in that extension, as the
    /// producers say that have the type; `None` where there is no such producer.
    #[must_use]
    pub fn carries_number(&self, payload_type: u8, id: u8) -> Option<bool> {
        let of_type = || self.producers.iter().filter(|entry| entry.has_type(payload_type));
        of_type().next()?;
        Some(of_type().any(|entry| entry.number_id == Some(id)))
    }

    /// Remembers an SSRC.
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn learn(&mut self, ssrc: u32, stream: StreamRef) -> Result<(), Discard> {
        if self.ssrcs.len() >= SSRCS_MAX {
            return Err(Discard::LimitReached);
        }
        self.insert(ssrc, stream);
        self.learned.push(ssrc);
        Ok(())
    }

    /// An SSRC is nobody's any more.
    pub fn unlearn(&mut self, ssrc: u32) {
        if let Ok(at) = self.place(ssrc) {
            self.ssrcs.remove(at);
        }
        self.learned.retain(|known| *known != ssrc);
        self.ended_repairs.retain(|known| *known != ssrc);
    }

    /// Another SSRC of retransmissions may take the place of this one without a word.
    pub fn end_repairs(&mut self, ssrc: u32) {
        if !self.repairs_have_ended(ssrc) {
            self.ended_repairs.push(ssrc);
        }
    }

    /// True after [`Self::end_repairs`], as long as it is anybody's.
    #[must_use]
    pub fn repairs_have_ended(&self, ssrc: u32) -> bool {
        self.ended_repairs.contains(&ssrc)
    }

    /// Adds a producer with the SSRCs that its parameters name.
    ///
    /// # Errors
    /// A sentence, when an SSRC, or MID and RID, is taken.
    pub fn add(&mut self, key: ProducerKey, producer: &Producer) -> Result<(), String> {
        for stream in &producer.streams {
            for ssrc in [stream.ssrc, stream.rtx_ssrc].into_iter().flatten() {
                if self.by_ssrc(ssrc).is_some() && self.learned(ssrc).is_none() {
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
        let mut named: Vec<_> = new.iter().map(|(ssrc, _)| *ssrc).collect();
        named.sort_unstable();
        if let Some(twice) = named.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("SSRC {} is named twice", twice[0]));
        }
        if self.ssrcs.len() + new.len() > SSRCS_MAX && !self.is_pipe {
            return Err(format!("more than {SSRCS_MAX} SSRCs on one transport"));
        }
        for (ssrc, _) in &new {
            self.unlearn(*ssrc);
        }
        for (ssrc, stream) in new {
            self.insert(ssrc, stream);
        }
        let labels = [ExtensionKind::Mid, ExtensionKind::Rid, ExtensionKind::RepairedRid];
        self.producers.push(Entry {
            producer: key,
            mid: producer.mid.clone(),
            rids,
            payload_type: producer.payload_type,
            rtx_payload_type: producer.rtx_payload_type,
            red_payload_type: producer.red_payload_type,
            label_ids: labels.map(|kind| producer.extensions.id(kind)),
            number_id: producer.extensions.id(ExtensionKind::TransportWideCc),
        });
        Ok(())
    }

    /// Forgets a producer.
    pub fn remove(&mut self, key: ProducerKey) {
        let Self { ssrcs, learned, ended_repairs, .. } = self;
        ssrcs.iter().filter(|(_, of)| of.producer == key).for_each(|(ssrc, _)| {
            learned.retain(|known| known != ssrc);
            ended_repairs.retain(|known| known != ssrc);
        });
        ssrcs.retain(|(_, stream)| stream.producer != key);
        self.producers.retain(|entry| entry.producer != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, mid: Option<&str>, rids: &[Option<&str>], types: (u8, u8)) -> Entry {
        Entry {
            producer: ProducerKey::from(number),
            mid: mid.map(str::to_owned),
            rids: rids.iter().map(|rid| rid.map(str::to_owned)).collect(),
            payload_type: types.0,
            rtx_payload_type: Some(types.1),
            red_payload_type: (types.0 == 111).then_some(63),
            label_ids: [Some(4), Some(10), Some(11)],
            number_id: Some(5),
        }
    }

    fn stream(number: u64, stream: u8, rtx: bool) -> StreamRef {
        StreamRef { producer: ProducerKey::from(number), stream, rtx }
    }

    /// What a packet with that payload type and these extensions is taken for.
    fn find(demux: &Demux, payload_type: u8, labels: &[(u8, &str)]) -> Result<Found, Discard> {
        demux.by_labels(payload_type, |id| {
            labels.iter().find(|(of, _)| *of == id).map(|(_, value)| value.as_bytes())
        })
    }

    #[test]
    fn only_a_stream_whose_labels_and_payload_type_fit_is_found() {
        let camera = entry(1, Some("1"), &[Some("q"), Some("f")], (96, 97));
        let screen = entry(2, Some("2"), &[Some("q")], (96, 97));
        let voice = entry(3, Some("0"), &[None], (111, 0));
        let demux = Demux { producers: vec![camera, screen, voice], ..Demux::default() };
        let named = |stream| Ok(Found { stream, is_named: true });
        let unknown = Err(Discard::RtpUnknownStream);
        let other_type = Err(Discard::RtpUnknownPayloadType);
        for (payload_type, labels, expected) in [
            (96, &[(4, "1"), (10, "f")][..], named(stream(1, 1, false))),
            (97, &[(4, "1"), (11, "f")], named(stream(1, 1, true))),
            (97, &[(4, "1"), (10, "q")], named(stream(1, 0, true))),
            (96, &[(4, "2")], named(stream(2, 0, false))),
            (111, &[(4, "0")], named(stream(3, 0, false))),
            (63, &[(4, "0")], named(stream(3, 0, false))),
            // Media is no repair, and a payload type that nobody announced is nobody's.
            (96, &[(4, "1"), (11, "f")], other_type),
            (33, &[(4, "1"), (10, "f")], other_type),
            (33, &[(4, "0")], other_type),
            // A RID of two, a repaired RID of another, a MID of nobody.
            (96, &[(10, "q")], unknown),
            (97, &[(4, "2"), (11, "f")], unknown),
            (96, &[(4, "9"), (10, "f")], unknown),
            (111, &[(4, "9")], unknown),
            (96, &[(4, "1")], unknown),
            // Without labels: what is alone with its type.
            (111, &[], Ok(Found { stream: stream(3, 0, false), is_named: false })),
            (96, &[], unknown),
            (33, &[], unknown),
        ] {
            assert_eq!(find(&demux, payload_type, labels), expected, "{payload_type} {labels:?}");
        }
    }

    #[test]
    fn a_peer_has_so_many_ssrcs_and_a_pipe_as_many_as_there_are() {
        for (is_pipe, taken) in [(false, SSRCS_MAX as u32), (true, 2_000)] {
            let mut demux = Demux::new(is_pipe);
            let learned = (0..2_000u32).rev().filter(|&ssrc| {
                let stream = stream(u64::from(ssrc), 0, false);
                if is_pipe {
                    demux.insert(ssrc, stream);
                    return true;
                }
                demux.learn(ssrc, stream).is_ok()
            });
            assert_eq!(learned.count() as u32, taken);
            for ssrc in 0..2_000u32 {
                let expected = (ssrc >= 2_000 - taken).then(|| stream(u64::from(ssrc), 0, false));
                assert_eq!(demux.by_ssrc(ssrc), expected);
            }
            demux.unlearn(1_999);
            demux.remove(ProducerKey::from(1_998));
            let left = (0..2_000).filter(|&ssrc| demux.by_ssrc(ssrc).is_some()).count();
            assert_eq!(left as u32, taken - 2);
        }
    }

    /// Two producers that number their extensions differently: each reads by its own ids.
    #[test]
    fn labels_are_read_by_the_producers_own_ids() {
        let mut other = entry(2, Some("2"), &[None], (100, 101));
        other.label_ids = [Some(10), None, None];
        let demux = Demux {
            producers: vec![entry(1, Some("1"), &[None], (96, 97)), other],
            ..Demux::default()
        };
        let named = |stream| Ok(Found { stream, is_named: true });
        assert_eq!(find(&demux, 96, &[(4, "1")]), named(stream(1, 0, false)));
        assert_eq!(find(&demux, 100, &[(10, "2")]), named(stream(2, 0, false)));
    }
}
