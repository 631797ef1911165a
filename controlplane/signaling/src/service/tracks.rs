//! Producers and consumers: what a participant sends, and what he receives of others. (`together`
//! makes the consumers.)

use std::sync::Arc;

use ironcast_api::{AppData, Id};
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::{Service, Thing};
use crate::events::{Action, Direction};
use crate::failure::Failure;
use crate::hosts::HostId;
use crate::media::NewProducer;
use crate::payload::{ConsumerOnly, PreferredLayers, Produce, ProducerOnly, StopProducing, parse};
use crate::rooms::{Producer, Seat, fresh_id};

/// Highest layer that a codec can have; above it is a mistake of the caller.
const LAYER_MAX: u8 = 7;

fn produced(id: &Id) -> Value {
    json!({ "id": id, "producerId": id })
}

impl Service {
    pub(super) async fn produce(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: Produce = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        // Who got no answer in time asks again, perhaps by another socket.
        let turn = Arc::clone(&seat.room.lock().participant(&seat)?.producing);
        let turn = turn.lock_owned().await;
        let mid = wanted.rtp_parameters.mid.clone();
        let (router, transport_id) = {
            let room = seat.room.lock();
            let participant = room.participant(&seat)?;
            // All that he sends is sent on one transport, and goes with it.
            if let Some(id) = participant.track_at(wanted.kind, mid.as_deref()) {
                return Ok(produced(id));
            }
            let count = participant.producers.len();
            if count >= self.settings.producers_per_participant_max {
                return Err(Failure::no_capacity("you send as many tracks as allowed"));
            }
            let id = room.transport(&seat, wanted.transport_id.as_ref(), Some(Direction::Send))?;
            (Arc::clone(room.router_at(&seat)), id)
        };
        let codec = wanted.rtp_parameters.codecs.first();
        let mime = codec.map(|codec| codec.mime_type.clone());
        let new = NewProducer {
            id: fresh_id(),
            router_id: router.id.clone(),
            transport_id,
            kind: wanted.kind,
            rtp_parameters: wanted.rtp_parameters,
            paused: wanted.paused,
            app_data: AppData::default(),
        };
        let new = NewProducer { app_data: self.track_note(&new.id, &wanted.app_data), ..new };
        let host = router.host;
        let mut making = self.making(host, Thing::Producer, &new.id).holding(turn);
        making.answered(self.ask(host, |media| media.produce(new.clone())).await)?;
        let mut producer = Producer::new(
            &new.id,
            &seat.participant_id,
            wanted.kind,
            wanted.paused,
            wanted.app_data,
        );
        (producer.mime, producer.mid) = (mime, mid);
        {
            let mut room = seat.room.lock();
            room.add_producer(&seat, &new.transport_id, &new.id, producer.clone())?;
            self.tell_new_producer(&mut room, &seat, &new.id, &producer);
        }
        making.keep();
        Ok(produced(&new.id))
    }

    fn own_producer(&self, socket: Sid, id: &Id) -> Result<Seat, Failure> {
        let seat = self.rooms.seat(socket)?;
        let room = seat.room.lock();
        if !room.participant(&seat)?.producers.contains_key(id) {
            return Err(room.not_mine(&seat, "producer", id));
        }
        drop(room);
        Ok(seat)
    }

    fn own_consumer(&self, socket: Sid, id: &Id) -> Result<Seat, Failure> {
        let seat = self.rooms.seat(socket)?;
        let room = seat.room.lock();
        if !room.participant(&seat)?.consumers.contains_key(id) {
            return Err(room.not_mine(&seat, "consumer", id));
        }
        drop(room);
        Ok(seat)
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
        let turn = Arc::clone(&seat.room.lock().participant(&seat)?.pausing);
        let _turn = turn.lock().await;
        let host = seat.host();
        self.ask(host, |media| media.pause_producer(id.clone(), paused)).await?;
        let mut room = seat.room.lock();
        if room.set_paused(&seat, &id, paused)? {
            self.tell_paused(&mut room, &seat, &id, paused);
        }
        Ok(json!({}))
    }

    pub(super) fn stop_producing(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: StopProducing = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        let (host, ids) = {
            let mut room = seat.room.lock();
            let participant = room.participant(&seat)?;
            let ids = match wanted.producer_ids {
                Some(ids) => {
                    if let Some(id) = ids.iter().find(|id| !participant.producers.contains_key(*id))
                    {
                        return Err(room.not_mine(&seat, "producer", id));
                    }
                    ids
                }
                None => participant.producers.keys().cloned().collect(),
            };
            let closed: Vec<Id> =
                ids.into_iter().filter(|id| room.remove_producer(&seat, id)).collect();
            self.tell_closed(&mut room, &seat, &closed);
            (room.router_at(&seat).host, closed)
        };
        for id in ids {
            self.free(host, Thing::Producer, id);
        }
        Ok(json!({ "stopped": true }))
    }

    pub(super) fn list_producers(&self, socket: Sid) -> Result<Value, Failure> {
        let seat = self.rooms.seat(socket)?;
        let producers = seat.room.lock().producers_for(&seat.participant_id);
        Ok(json!({ "producers": producers }))
    }

    pub(super) async fn resume_consumers(
        &self,
        socket: Sid,
        asked: Vec<(Action, Value)>,
    ) -> Vec<Result<Value, Failure>> {
        let (mut ids, mut host) = (Vec::new(), HostId::default());
        let prepared: Vec<Result<(), Failure>> = asked
            .into_iter()
            .map(|(_, payload)| {
                let wanted: ConsumerOnly = parse(payload)?;
                // All of them are of one room.
                host = self.own_consumer(socket, &wanted.consumer_id)?.host();
                ids.push(wanted.consumer_id);
                Ok(())
            })
            .collect();
        let answers = if ids.is_empty() {
            Vec::new()
        } else {
            self.ask_all(host, ids.len(), |media| media.resume_consumers(ids.clone())).await
        };
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
        let host = self.own_consumer(socket, &id)?.host();
        self.ask(host, |media| media.pause_consumer(id.clone(), true)).await?;
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
        let host = self.own_consumer(socket, &id)?.host();
        let (spatial, temporal) = (wanted.spatial_layer, wanted.temporal_layer);
        self.ask(host, |media| media.prefer_layers(id.clone(), spatial, temporal)).await?;
        Ok(json!({}))
    }

    pub(super) async fn request_key_frame(
        &self,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: ConsumerOnly = parse(payload)?;
        let id = wanted.consumer_id;
        let host = self.own_consumer(socket, &id)?.host();
        self.ask(host, |media| media.request_key_frame(id.clone())).await?;
        Ok(json!({}))
    }
}
