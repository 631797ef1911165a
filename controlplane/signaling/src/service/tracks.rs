//! Producers and consumers: what a participant sends, and what he receives of others.

use std::sync::Arc;

use ironcast_api::Id;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::events::Direction;
use crate::failure::Failure;
use crate::media::{NewConsumer, NewProducer};
use crate::payload::{
    Consume, ConsumerOnly, PreferredLayers, Produce, ProducerOnly, StopProducing, parse,
};
use crate::rooms::{Producer, Seat, fresh_id};

/// Highest layer that a codec can have; above it is a mistake of the caller.
const LAYER_MAX: u8 = 7;

impl Service {
    pub(super) async fn produce(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: Produce = parse(payload)?;
        let (seat, transport_id) = {
            let rooms = self.rooms();
            let seat = rooms.seat(socket)?;
            let count = rooms.participant(&seat)?.producers.len();
            if count >= self.settings.producers_per_participant_max {
                return Err(Failure::no_capacity("you send as many tracks as allowed"));
            }
            let id = rooms.transport(&seat, wanted.transport_id.as_ref(), Some(Direction::Send))?;
            (seat, id)
        };
        let new = NewProducer {
            id: fresh_id(),
            transport_id,
            kind: wanted.kind,
            rtp_parameters: wanted.rtp_parameters,
            paused: wanted.paused,
            app_data: wanted.app_data.clone(),
        };
        self.ask(|| self.media.produce(new.clone())).await?;
        let producer =
            Producer { kind: wanted.kind, paused: wanted.paused, app_data: wanted.app_data };
        let remembered = {
            let mut rooms = self.rooms();
            let remembered = rooms.add_producer(&seat, &new.id, producer.clone());
            if remembered.is_ok() {
                self.tell_new_producer(&rooms, &seat, &new.id, &producer);
            }
            remembered
        };
        if let Err(failure) = remembered {
            self.free_producer(new.id);
            return Err(failure);
        }
        Ok(json!({ "id": new.id, "producerId": new.id }))
    }

    fn free_producer(self: &Arc<Self>, id: Id) {
        self.clean_up("producer", move |media| {
            let id = id.clone();
            async move { media.delete_producer(id).await }
        });
    }

    fn own_producer(&self, socket: Sid, id: &Id) -> Result<Seat, Failure> {
        let rooms = self.rooms();
        let seat = rooms.seat(socket)?;
        if rooms.participant(&seat)?.producers.contains_key(id) {
            Ok(seat)
        } else {
            Err(rooms.not_mine(&seat, "producer", id))
        }
    }

    fn own_consumer(&self, socket: Sid, id: &Id) -> Result<Seat, Failure> {
        let rooms = self.rooms();
        let seat = rooms.seat(socket)?;
        if rooms.participant(&seat)?.consumers.contains_key(id) {
            Ok(seat)
        } else {
            Err(rooms.not_mine(&seat, "consumer", id))
        }
    }

    pub(super) async fn pause_producer(
        &self,
        socket: Sid,
        payload: Value,
        paused: bool,
    ) -> Result<Value, Failure> {
        let wanted: ProducerOnly = parse(payload)?;
        let id = wanted.producer_id;
        let seat = self.own_producer(socket, &id)?;
        self.ask(|| self.media.pause_producer(id.clone(), paused)).await?;
        let mut rooms = self.rooms();
        if let Some(producer) = rooms.participant_mut(&seat)?.producers.get_mut(&id) {
            producer.paused = paused;
            self.tell_paused(&rooms, &seat, &id, paused);
        }
        Ok(json!({}))
    }

    pub(super) fn stop_producing(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: StopProducing = parse(payload)?;
        let ids = {
            let mut rooms = self.rooms();
            let seat = rooms.seat(socket)?;
            let participant = rooms.participant(&seat)?;
            let ids = match wanted.producer_ids {
                Some(ids) => {
                    if let Some(id) = ids.iter().find(|id| !participant.producers.contains_key(*id))
                    {
                        return Err(rooms.not_mine(&seat, "producer", id));
                    }
                    ids
                }
                None => participant.producers.keys().cloned().collect(),
            };
            let closed: Vec<Id> =
                ids.into_iter().filter(|id| rooms.remove_producer(&seat, id)).collect();
            self.tell_closed(&rooms, &seat, &closed);
            closed
        };
        for id in ids {
            self.free_producer(id);
        }
        Ok(json!({ "stopped": true }))
    }

    pub(super) fn list_producers(&self, socket: Sid) -> Result<Value, Failure> {
        let rooms = self.rooms();
        let seat = rooms.seat(socket)?;
        let producers = rooms.producers_for(&seat.room_id, &seat.participant_id);
        Ok(json!({ "producers": producers }))
    }

    pub(super) async fn consume(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: Consume = parse(payload)?;
        let producer_id = wanted.producer_id;
        let (seat, owner, transport_id, app_data, capabilities) = {
            let rooms = self.rooms();
            let seat = rooms.seat(socket)?;
            let participant = rooms.participant(&seat)?;
            if participant.consumers.len() >= self.settings.consumers_per_participant_max {
                return Err(Failure::no_capacity("you receive as many tracks as allowed"));
            }
            let owner = rooms
                .owner(&producer_id)
                .filter(|owner| owner.room_id == seat.room_id)
                .cloned()
                .ok_or_else(|| Failure::not_found("producer", &producer_id))?;
            let producer = rooms
                .participant(&owner)?
                .producers
                .get(&producer_id)
                .ok_or_else(|| Failure::not_found("producer", &producer_id))?;
            let transport_id =
                rooms.transport(&seat, wanted.transport_id.as_ref(), Some(Direction::Receive))?;
            let capabilities = wanted.rtp_capabilities.or_else(|| participant.capabilities.clone());
            (seat, owner, transport_id, producer.app_data.clone(), capabilities)
        };
        let new = NewConsumer {
            id: fresh_id(),
            transport_id,
            producer_id: producer_id.clone(),
            rtp_capabilities: capabilities,
        };
        let made = self.ask(|| self.media.consume(new.clone())).await?;
        // If its owner left meanwhile, the consumer went with his transports.
        self.rooms().add_consumer(&seat, &new.id, &producer_id)?;
        Ok(json!({
            "id": new.id,
            "producerId": producer_id,
            "participantId": owner.participant_id,
            "kind": made.kind,
            "rtpParameters": made.rtp_parameters,
            "type": made.kind_of_stream,
            "producerPaused": made.producer_paused,
            "appData": app_data,
        }))
    }

    pub(super) async fn pause_consumer(
        &self,
        socket: Sid,
        payload: Value,
        paused: bool,
    ) -> Result<Value, Failure> {
        let wanted: ConsumerOnly = parse(payload)?;
        let id = wanted.consumer_id;
        self.own_consumer(socket, &id)?;
        self.ask(|| self.media.pause_consumer(id.clone(), paused)).await?;
        Ok(json!({}))
    }

    pub(super) async fn prefer_layers(
        &self,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: PreferredLayers = parse(payload)?;
        let highest = wanted.spatial_layer.max(wanted.temporal_layer.unwrap_or(0));
        if highest > LAYER_MAX {
            return Err(Failure::invalid(format!("layers count from 0 to {LAYER_MAX}")));
        }
        let id = wanted.consumer_id;
        self.own_consumer(socket, &id)?;
        let (spatial, temporal) = (wanted.spatial_layer, wanted.temporal_layer);
        self.ask(|| self.media.prefer_layers(id.clone(), spatial, temporal)).await?;
        Ok(json!({}))
    }

    pub(super) async fn request_key_frame(
        &self,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: ConsumerOnly = parse(payload)?;
        let id = wanted.consumer_id;
        self.own_consumer(socket, &id)?;
        self.ask(|| self.media.request_key_frame(id.clone())).await?;
        Ok(json!({}))
    }
}
