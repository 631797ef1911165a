//! [5] One room: who sends, who receives, and the fan-out between them. A subscriber is a consumer
//! of this core; a room that outgrows its core will have subscribers on others (the seam is
//! [`crate::producer::Subscriber`]). Next: [6] `consumer.rs` chooses, when [7] drains its transport.

use ironcast_protocol::Id;

use crate::{key::TransportKey, worker::Worker};

/// One room.
#[derive(Debug)]
pub struct Router {
    /// The caller's id.
    pub id: Id,
    /// Its peers.
    pub transports: Vec<TransportKey>,
}

impl Worker {
    /// First phase of a turn's output: every producer with fresh packets names its subscribers'
    /// transports. Nothing is written yet: [7] then drains transport by transport.
    pub(crate) fn fan_out(&mut self) {
        for &key in &self.fresh_producers {
            let Some(producer) = self.producers.get_mut(key) else {
                continue;
            };
            producer.even_sizes();
            for &subscriber in &producer.subscribers {
                let Some(consumer) = self.consumers.get_mut(subscriber) else {
                    continue;
                };
                if consumer.paused || consumer.queued {
                    continue;
                }
                let Some(transport) = self.transports.get_mut(consumer.transport) else {
                    continue;
                };
                if !transport.is_ready() {
                    continue;
                }
                consumer.queued = true;
                transport.pending.push(subscriber);
                if !transport.queued {
                    transport.queued = true;
                    self.ready_transports.push(consumer.transport);
                }
            }
        }
    }

    /// After the output is written: what was fresh is history.
    pub(crate) fn forget_fresh(&mut self) {
        for key in self.fresh_producers.drain(..) {
            if let Some(producer) = self.producers.get_mut(key) {
                producer.forget_fresh();
            }
        }
    }
}
