//! Transports and consumers are made together: all messages of a join are one call at the media
//! server. Each is looked at as if those before it were done already, and each has its own answer.
//! A transport replaces the one that its participant had the same way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ironcast_api::{AppData, Id, RtpCapabilities};
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::making::Making;
use super::{Service, Thing};
use crate::access::check_action;
use crate::events::{Action, Direction};
use crate::failure::Failure;
use crate::hosts::HostId;
use crate::media::{Made, MediaError, MediaResult, New, NewConsumer, NewTransport};
use crate::payload::{Consume, CreateTransport, DirectionName, parse};
use crate::rooms::{Seat, fresh_id};

/// Something that may be made.
enum Wanted {
    Transport {
        seat: Seat,
        direction: Direction,
        capabilities: Option<RtpCapabilities>,
    },
    Consumer {
        seat: Seat,
        transport_id: Id,
        producer_id: Id,
        /// Who sends what it receives.
        owner: Seat,
        app_data: AppData,
    },
}

/// What the messages until now ask for.
#[derive(Default)]
struct Asked {
    new: Vec<New>,
    /// The media host of the room that all of it is in.
    host: HostId,
    /// The newest transport each way.
    transports: BTreeMap<Direction, Id>,
    /// What the receiving one of these is made for.
    capabilities: Option<RtpCapabilities>,
    consumers: usize,
}

impl Service {
    pub(super) async fn make_all(
        self: &Arc<Self>,
        socket: Sid,
        messages: Vec<(Action, Value)>,
    ) -> Vec<Result<Value, Failure>> {
        let mut asked = Asked::default();
        let prepared: Vec<Result<Wanted, Failure>> = messages
            .into_iter()
            .map(|(action, payload)| match action {
                Action::CreateTransport(direction) => {
                    self.prepare_transport(socket, direction, payload, &mut asked)
                }
                _ => self.prepare_consume(socket, payload, &mut asked),
            })
            .collect();
        let (new, host) = (asked.new, asked.host);
        if new.is_empty() {
            return prepared.into_iter().map(|refused| refused.map(|_| json!({}))).collect();
        }
        let making = new.iter().map(|new| match new {
            New::Transport(new) => self.making(host, Thing::Transport, &new.id),
            New::Consumer(new) => self.making(host, Thing::Consumer, &new.id),
        });
        let making: Vec<_> = making.collect();
        let answers = self.ask_all(host, new.len(), |media| media.make_all(new.clone())).await;
        let mut answers = new.into_iter().zip(making).zip(answers);
        let mut failed = HashMap::new();
        let finish = |prepared: Result<Wanted, Failure>| {
            let wanted = prepared?;
            let ((new, making), answer) = answers.next().expect("one for each that was asked for");
            self.finish(wanted, new.id(), making, answer, &mut failed)
        };
        prepared.into_iter().map(finish).collect()
    }

    fn prepare_transport(
        &self,
        socket: Sid,
        direction: Option<Direction>,
        payload: Value,
        asked: &mut Asked,
    ) -> Result<Wanted, Failure> {
        let wanted: CreateTransport = parse(payload)?;
        let named = wanted.direction.map(|name| match name {
            DirectionName::Send => Direction::Send,
            DirectionName::Recv => Direction::Receive,
        });
        let direction =
            direction.or(named).ok_or_else(|| Failure::invalid("missing field `direction`"))?;
        check_action(self.role(socket), Action::CreateTransport(Some(direction)))?;
        let seat = self.rooms.seat(socket)?;
        let (router, said) = {
            let mut room = seat.room.lock();
            room.has_server()?;
            let participant = room.participant_mut(&seat)?;
            if wanted.rtp_capabilities.is_some() {
                participant.capabilities = wanted.rtp_capabilities;
            }
            let said = participant.capabilities.clone();
            (Arc::clone(&room.router), said)
        };
        asked.host = router.host;
        let note = self.transport_note(&seat, direction)?;
        let capabilities = said.filter(|_| direction == Direction::Receive);
        let id = fresh_id();
        asked.transports.insert(direction, id.clone());
        if direction == Direction::Receive {
            asked.capabilities.clone_from(&capabilities);
        }
        asked.new.push(New::Transport(NewTransport {
            id,
            router_id: router.id.clone(),
            session: seat.session.clone(),
            rtp_capabilities: capabilities.clone(),
            note,
        }));
        Ok(Wanted::Transport { seat, direction, capabilities })
    }

    fn prepare_consume(
        &self,
        socket: Sid,
        payload: Value,
        asked: &mut Asked,
    ) -> Result<Wanted, Failure> {
        let wanted: Consume = parse(payload)?;
        let producer_id = wanted.producer_id;
        let seat = self.rooms.seat(socket)?;
        let room = seat.room.lock();
        let participant = room.participant(&seat)?;
        let on_new = asked.transports.get(&Direction::Receive);
        // With a new transport go the consumers of the old one.
        let there = if on_new.is_some() { 0 } else { participant.consumers.len() };
        if there + asked.consumers >= self.settings.consumers_per_participant_max {
            return Err(Failure::no_capacity("you receive as many tracks as allowed"));
        }
        let owner =
            room.owner(&producer_id).ok_or_else(|| Failure::not_found("producer", &producer_id))?;
        let producer = room
            .participant(&owner)?
            .producers
            .get(&producer_id)
            .ok_or_else(|| Failure::not_found("producer", &producer_id))?;
        let transport_id = match (&wanted.transport_id, on_new) {
            (None, Some(new)) => new.clone(),
            (named, _) => room.transport(&seat, named.as_ref(), Some(Direction::Receive))?,
        };
        // Those of the transport need not be said again for each consumer: they are long.
        let of_transport = if on_new.is_some() {
            &asked.capabilities
        } else {
            &participant.transport_capabilities
        };
        let rtp_capabilities = wanted
            .rtp_capabilities
            .or_else(|| participant.capabilities.clone())
            .filter(|said| Some(said) != of_transport.as_ref());
        let app_data = producer.app_data.clone();
        asked.host = room.router.host;
        drop(room);
        asked.consumers += 1;
        asked.new.push(New::Consumer(NewConsumer {
            id: fresh_id(),
            transport_id: transport_id.clone(),
            producer_id: producer_id.clone(),
            rtp_capabilities,
        }));
        Ok(Wanted::Consumer { seat, transport_id, producer_id, owner, app_data })
    }

    /// Remembers what was made, and gives the answer to its message.
    fn finish(
        self: &Arc<Self>,
        wanted: Wanted,
        id: &Id,
        mut making: Making,
        answer: MediaResult<Made>,
        failed: &mut HashMap<Id, MediaError>,
    ) -> Result<Value, Failure> {
        let answer = making.answered(answer);
        match (wanted, answer) {
            (Wanted::Transport { .. }, Err(error)) => {
                failed.insert(id.clone(), error.clone());
                Err(error.into())
            }
            (Wanted::Consumer { transport_id, .. }, Err(error)) => {
                // The consumers of a transport that was not made failed for the same reason.
                Err(failed.get(&transport_id).cloned().unwrap_or(error).into())
            }
            (Wanted::Transport { seat, direction, capabilities }, Ok(Made::Transport(made))) => {
                self.keep_transport(&seat, direction, capabilities, id)?;
                making.keep();
                Ok(made)
            }
            (
                Wanted::Consumer { seat, transport_id, producer_id, owner, app_data },
                Ok(Made::Consumer(made)),
            ) => {
                // If its owner left meanwhile, the consumer went with his transports.
                seat.room.lock().add_consumer(&seat, &transport_id, id, &producer_id)?;
                making.keep();
                Ok(json!({
                    "id": id,
                    "producerId": producer_id,
                    "participantId": owner.participant_id,
                    "kind": made.kind,
                    "rtpParameters": made.rtp_parameters,
                    "type": made.kind_of_stream,
                    "producerPaused": made.producer_paused,
                    "appData": app_data,
                }))
            }
            (_, Ok(_)) => Err(Failure::new("internal", "the media server made something else")),
        }
    }

    fn keep_transport(
        self: &Arc<Self>,
        seat: &Seat,
        direction: Direction,
        capabilities: Option<RtpCapabilities>,
        id: &Id,
    ) -> Result<(), Failure> {
        let (host, replaced) = {
            let mut room = seat.room.lock();
            let dropped = match room.participant(seat) {
                Ok(participant) if participant.transports.contains_key(&direction) => {
                    room.drop_carried(seat, direction)
                }
                _ => Vec::new(),
            };
            self.tell_closed(&mut room, seat, &dropped);
            if direction == Direction::Receive {
                room.participant_mut(seat)?.transport_capabilities = capabilities;
            }
            let replaced = room.add_transport(seat, direction, id)?;
            self.record_participant(&room, seat);
            (room.router.host, replaced)
        };
        if let Some(replaced) = replaced {
            self.free(host, Thing::Transport, replaced);
        }
        Ok(())
    }
}
