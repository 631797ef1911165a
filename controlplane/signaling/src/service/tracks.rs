//! Producers and consumers: what a participant sends, and what he receives of others.

use std::future::Future;
use std::sync::Arc;

use ironcast_api::{AppData, Id};
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::{Service, Thing};
use crate::events::Direction;
use crate::failure::Failure;
use crate::media::{MediaResult, NewConsumer, NewProducer};
use crate::payload::{
    Consume, ConsumerOnly, PreferredLayers, Produce, ProducerOnly, StopProducing, parse,
};
use crate::rooms::{Producer, Seat, fresh_id};

/// Highest layer that a codec can have; above it is a mistake of the caller.
const LAYER_MAX: u8 = 7;

/// A consumer that may be made.
struct Wanted {
    seat: Seat,
    /// Who sends what it receives.
    owner: Seat,
    app_data: AppData,
    new: NewConsumer,
}

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
        let mut making = self.making(Thing::Producer, &new.id);
        making.answered(self.ask(|| self.media.produce(new.clone())).await)?;
        let producer = Producer::new(
            &new.id,
            &seat.participant_id,
            wanted.kind,
            wanted.paused,
            wanted.app_data,
        );
        {
            let mut rooms = self.rooms();
            rooms.add_producer(&seat, &new.id, producer.clone())?;
            self.tell_new_producer(&mut rooms, &seat, &new.id, &producer);
        }
        making.keep();
        Ok(json!({ "id": new.id, "producerId": new.id }))
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
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
        paused: bool,
    ) -> Result<Value, Failure> {
        let wanted: ProducerOnly = parse(payload)?;
        let id = wanted.producer_id;
        let seat = self.own_producer(socket, &id)?;
        self.ask(|| self.media.pause_producer(id.clone(), paused)).await?;
        let mut rooms = self.rooms();
        if rooms.set_paused(&seat, &id, paused)? {
            self.tell_paused(&mut rooms, &seat, &id, paused);
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
            self.tell_closed(&mut rooms, &seat, &closed);
            closed
        };
        for id in ids {
            self.free(Thing::Producer, id);
        }
        Ok(json!({ "stopped": true }))
    }

    pub(super) fn list_producers(&self, socket: Sid) -> Result<Value, Failure> {
        let rooms = self.rooms();
        let seat = rooms.seat(socket)?;
        let producers = rooms.producers_for(&seat.room_id, &seat.participant_id);
        Ok(json!({ "producers": producers }))
    }

    /// Several at once are one call at the media server: that is how a join comes.
    pub(super) async fn consume_all(
        self: &Arc<Self>,
        socket: Sid,
        payloads: Vec<Value>,
    ) -> Vec<Result<Value, Failure>> {
        let mut wanted = Vec::new();
        let prepared: Vec<_> = payloads
            .into_iter()
            .map(|payload| {
                let prepared = self.prepare_consume(socket, payload, wanted.len())?;
                wanted.push(prepared.new.clone());
                Ok(prepared)
            })
            .collect();
        let making: Vec<_> =
            wanted.iter().map(|new| self.making(Thing::Consumer, &new.id)).collect();
        let answers = self.ask_all(|| self.media.consume_all(wanted.clone()), making.len()).await;
        let mut answers = making.into_iter().zip(answers);
        let finish = |prepared: Result<Wanted, Failure>| {
            let prepared = prepared?;
            let (mut making, answer) = answers.next().expect("one for each that was asked for");
            let made = making.answered(answer)?;
            // If its owner left meanwhile, the consumer went with his transports.
            let Wanted { seat, owner, app_data, new } = prepared;
            self.rooms().add_consumer(&seat, &new.id, &new.producer_id)?;
            making.keep();
            Ok(json!({
                "id": new.id,
                "producerId": new.producer_id,
                "participantId": owner.participant_id,
                "kind": made.kind,
                "rtpParameters": made.rtp_parameters,
                "type": made.kind_of_stream,
                "producerPaused": made.producer_paused,
                "appData": app_data,
            }))
        };
        prepared.into_iter().map(finish).collect()
    }

    /// Looks whether a consumer may be made; `before` it come others of the same message.
    fn prepare_consume(
        &self,
        socket: Sid,
        payload: Value,
        before: usize,
    ) -> Result<Wanted, Failure> {
        let wanted: Consume = parse(payload)?;
        let producer_id = wanted.producer_id;
        let rooms = self.rooms();
        let seat = rooms.seat(socket)?;
        let participant = rooms.participant(&seat)?;
        if participant.consumers.len() + before >= self.settings.consumers_per_participant_max {
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
        let rtp_capabilities = wanted.rtp_capabilities.or_else(|| participant.capabilities.clone());
        let app_data = producer.app_data.clone();
        let new = NewConsumer { id: fresh_id(), transport_id, producer_id, rtp_capabilities };
        Ok(Wanted { seat, owner, app_data, new })
    }

    /// Asks for several things in one call; when all of it failed, as for one thing.
    async fn ask_all<T, F, A>(&self, request: F, count: usize) -> Vec<MediaResult<T>>
    where
        F: Fn() -> A,
        A: Future<Output = Vec<MediaResult<T>>>,
    {
        if count == 0 {
            return Vec::new();
        }
        let asked = self.ask(|| async {
            let mut answers = request().await;
            let is_lost =
                |answer: &MediaResult<T>| matches!(answer, Err(error) if error.is_temporary());
            if answers.iter().all(is_lost)
                && let Some(Err(error)) = answers.pop()
            {
                return Err(error);
            }
            Ok(answers)
        });
        asked.await.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
    }

    pub(super) async fn resume_consumers(
        &self,
        socket: Sid,
        payloads: Vec<Value>,
    ) -> Vec<Result<Value, Failure>> {
        let mut ids = Vec::new();
        let prepared: Vec<Result<(), Failure>> = payloads
            .into_iter()
            .map(|payload| {
                let wanted: ConsumerOnly = parse(payload)?;
                self.own_consumer(socket, &wanted.consumer_id)?;
                ids.push(wanted.consumer_id);
                Ok(())
            })
            .collect();
        let answers = self.ask_all(|| self.media.resume_consumers(ids.clone()), ids.len()).await;
        let mut answers = answers.into_iter();
        let finish = |prepared: Result<(), Failure>| {
            prepared?;
            answers.next().expect("one for each that was asked for")?;
            Ok(json!({}))
        };
        prepared.into_iter().map(finish).collect()
    }

    pub(super) async fn pause_consumer(
        &self,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: ConsumerOnly = parse(payload)?;
        let id = wanted.consumer_id;
        self.own_consumer(socket, &id)?;
        self.ask(|| self.media.pause_consumer(id.clone(), true)).await?;
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
