//! Reads transport-wide feedback about what this side sent
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). Owned by a [`super::Session`].

use std::collections::BTreeMap;

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};

use crate::sequence::unwrap_near;

/// Older ones are forgotten; feedback comes every 100 ms.
const SENT_MAX: usize = 65_536 / 2;

/// What the feedback says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedbackStats {
    /// Messages.
    pub messages: u64,
    /// Numbered packets that were sent.
    pub sent: u64,
    /// Of them reported as received.
    pub received: u64,
    /// Of them reported as lost, by the last word on each.
    pub lost: u64,
    /// Sent before the newest reported one, but never spoken of.
    pub silent: u64,
    /// Reported, but never sent.
    pub invented: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    Received,
    Lost,
}

#[derive(Debug, Default)]
pub(super) struct Feedback {
    sent: BTreeMap<u64, Fate>,
    newest_sent: u64,
    newest_reported: u64,
    stats: FeedbackStats,
}

impl Feedback {
    pub(super) fn sent(&mut self, number: u16) {
        if self.newest_sent == 0 {
            self.newest_sent = 1 << 16 | u64::from(number);
        }
        let index = unwrap_near(self.newest_sent, number);
        self.newest_sent = self.newest_sent.max(index);
        self.sent.insert(index, Fate::Unknown);
        self.stats.sent += 1;
        if self.sent.len() > SENT_MAX {
            self.sent.pop_first();
        }
    }

    pub(super) fn receive(&mut self, message: &TransportLayerCc) {
        self.stats.messages += 1;
        let first = unwrap_near(self.newest_sent, message.base_sequence_number);
        let symbols = message.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                vec![run.packet_status_symbol; usize::from(run.run_length)]
            }
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        for (index, symbol) in (first..).zip(symbols.take(usize::from(message.packet_status_count)))
        {
            let fate = match symbol {
                SymbolTypeTcc::PacketNotReceived => Fate::Lost,
                _ => Fate::Received,
            };
            match self.sent.get_mut(&index) {
                Some(known) if *known != Fate::Received => *known = fate,
                Some(_) => {}
                None if fate == Fate::Received => self.stats.invented += 1,
                None => {}
            }
            self.newest_reported = self.newest_reported.max(index);
        }
    }

    pub(super) fn stats(&self) -> FeedbackStats {
        let mut stats = self.stats.clone();
        for (_, fate) in self.sent.range(..=self.newest_reported) {
            match fate {
                Fate::Unknown => stats.silent += 1,
                Fate::Received => stats.received += 1,
                Fate::Lost => stats.lost += 1,
            }
        }
        stats
    }
}
