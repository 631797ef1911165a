//! Transports and consumers are made together: all messages of a join are one call at the media
//! server. Each is looked at as if those before it were done already, and each has its own answer.
//! A transport replaces the one that its participant had the same way. What comes from another of the
//! room's hosts is piped first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::join_all;
use ironcast_api::{AppData, Id, RtpCapabilities};
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::making::Making;
use super::piping::{Passage, not_yet};
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
        /// From the sender's router, if that is another one.
        passage: Option<Passage>,
    },
}

/// What the messages until now ask for.
#[derive(Default)]
struct Asked {
    new: Vec<New>,
    /// The media host of who asks.
    host: HostId,
    /// The newest transport each way.
    transports: BTreeMap<Direction, Id>,
    /// What the receiving one of these is made for.
    capabilities: Option<RtpCapabilities>,
    consumers: usize,
}

impl New {
    /// Whether it is a transport for which the media host has no room.
    fn is_refused_for_room(&self, answer: &MediaResult<Made>) -> bool {
        let is_transport = matches!(self, Self::Transport(_));
        is_transport
            && matches!(answer, Err(MediaError::Refused { code, .. }) if code == "no_capacity")
    }
}

impl Service {
    pub(super) async fn make_all(
        self: &Arc<Self>,
        socket: Sid,
        messages: Vec<(Action, Value)>,
    ) -> Vec<Result<Value, Failure>> {
        // Whose host takes nobody, and who has nothing there, is at another one then.
        for _ in 1..self.hosts.count() {
            let (answers, is_full) = self.try_to_make_all(socket, messages.clone()).await;
            if !is_full || !self.move_elsewhere(socket).await {
                return answers;
            }
        }
        self.try_to_make_all(socket, messages).await.0
    }

    /// Gives also whether the media host has refused a transport because it is full.
    async fn try_to_make_all(
        self: &Arc<Self>,
        socket: Sid,
        messages: Vec<(Action, Value)>,
    ) -> (Vec<Result<Value, Failure>>, bool) {
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
        let (host, mut new) = (asked.host, asked.new.into_iter());
        let prepared = prepared.into_iter().map(|prepared| {
            prepared.map(|wanted| (wanted, new.next().expect("one for each that is wanted")))
        });
        // Each waits for its own track, and all of them at once.
        let prepared = join_all(prepared.map(|prepared| self.pass(prepared))).await;
        let new: Vec<New> = prepared.iter().flatten().map(|(_, new)| new.clone()).collect();
        let making = new.iter().map(|new| match new {
            New::Transport(new) => self.making(host, Thing::Transport, &new.id),
            New::Consumer(new) => self.making(host, Thing::Consumer, &new.id),
        });
        let making: Vec<_> = making.collect();
        let answers = match new.is_empty() {
            true => Vec::new(),
            false => self.ask_all(host, new.len(), |media| media.make_all(new.clone())).await,
        };
        let mut answers = making.into_iter().zip(answers);
        let (mut failed, mut is_full) = (HashMap::new(), false);
        let finish = |prepared: Result<(Wanted, New), Failure>| {
            let (wanted, new) = prepared?;
            let (making, answer) = answers.next().expect("one for each that was asked for");
            is_full |= new.is_refused_for_room(&answer);
            self.finish(wanted, new.id(), making, answer, &mut failed)
        };
        let answers = prepared.into_iter().map(finish).collect();
        (answers, is_full)
    }

    /// A consumer's track is at the consumer's router, or will not be.
    async fn pass(
        self: &Arc<Self>,
        prepared: Result<(Wanted, New), Failure>,
    ) -> Result<(Wanted, New), Failure> {
        let (wanted, mut new) = prepared?;
        if let Wanted::Consumer { seat, producer_id, passage: Some(passage), .. } = &wanted
            && let New::Consumer(new) = &mut new
        {
            new.producer_id = self.piped(&seat.room, producer_id, passage).await?;
        }
        Ok((wanted, new))
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
            (Arc::clone(room.router_at(&seat)), said)
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
        let (from, to) = (room.router_at(&owner), room.router_at(&seat));
        let is_piped = from.id != to.id;
        let passage = is_piped.then(|| Passage { from: Arc::clone(from), to: Arc::clone(to) });
        asked.host = to.host;
        drop(room);
        asked.consumers += 1;
        asked.new.push(New::Consumer(NewConsumer {
            id: fresh_id(),
            transport_id: transport_id.clone(),
            producer_id: producer_id.clone(),
            rtp_capabilities,
        }));
        Ok(Wanted::Consumer { seat, transport_id, producer_id, owner, app_data, passage })
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
            (
                Wanted::Consumer { seat, producer_id, passage: Some(passage), .. },
                Err(MediaError::Refused { code, .. }),
            ) if code == "not_found" => {
                // It was there: then it is piped again, unless it has ended.
                let mut room = seat.room.lock();
                room.forget_pipe(&producer_id, &passage.to.id);
                let is_there = room.owner(&producer_id).is_some();
                let ended = || Failure::not_found("producer", &producer_id);
                Err(if is_there { not_yet() } else { ended() })
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
                Wanted::Consumer { seat, transport_id, producer_id, owner, app_data, .. },
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
                    "score": made.score,
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
            (room.router_at(seat).host, replaced)
        };
        if let Some(replaced) = replaced {
            self.free(host, Thing::Transport, replaced);
        }
        Ok(())
    }
}
