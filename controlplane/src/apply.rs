//! What the dataplane reports by itself, applied to the state and told on as the API's events.
//! Called by `attach` for every event, in order. An event about something that is already gone is
//! nothing to tell.

use std::{collections::BTreeMap, sync::Arc};

use ironcast_api::{
    Id,
    events::{
        ConsumerExhausted, ConsumerLayersChange, ConsumerScoreEvent, EventData,
        ObserverDominantSpeaker, ObserverSilence, ObserverVolume, ObserverVolumes,
        ProducerExhausted, ProducerLayersUnwatched, ProducerScoreEvent,
        ProducerVideoOrientationChange, RouterClosedReason, TransportDtlsStateChange,
        TransportIceSelectedTupleChange, TransportIceStateChange, TransportRtcpTupleChange,
        TransportTupleChange, WorkerEvent,
    },
};
use ironcast_protocol::{Event, WorkerId};

use crate::{
    convert,
    engine::State,
    events::Audience,
    registry::{Transport, consumer_event, producer_event, spread},
    routes::traces,
};

/// Applies one event.
pub fn apply(state: &mut State, event: Event) {
    match event {
        Event::WorkerDied { worker, routers, reason } => {
            tracing::error!(worker, routers = routers.len(), reason, "a worker died");
            let mut homes = Vec::new();
            for (id, workers) in routers.iter().filter_map(|name| spread::parse(name)) {
                match workers[..] {
                    [] => homes.push(id),
                    // Rooms that live elsewhere lose what they had there.
                    [there, ..] => state.registry.lose_branch(&id, there, &mut state.events),
                }
            }
            worker_died(state, worker, homes, reason);
        }
        Event::WorkerRestarted { worker } => {
            state.workers.set_running(worker);
            let worker_id = convert::worker_id(worker);
            let reason = "started again".to_owned();
            let event = WorkerEvent { worker_id, router_ids: Vec::new(), reason };
            state.events.publish(None, EventData::WorkerRestarted(event));
        }
        Event::TransportClosed { transport, reason } => {
            let Ok(id) = Id::new(transport) else { return };
            let reason = convert::close_reason(reason);
            state.registry.close_transport(&id, reason, &mut state.events);
        }
        Event::IceStateChange { transport, state: ice_state } => {
            let ice_state = convert::ice_state(ice_state);
            on_transport(state, &transport, |transport| {
                transport.info.webrtc_mut()?.ice_state = ice_state;
                let (transport_id, participant_id) = names(transport);
                let event = TransportIceStateChange { transport_id, participant_id, ice_state };
                Some(EventData::TransportIceStateChange(event))
            });
        }
        Event::IceSelectedTupleChange { transport, tuple } => {
            on_transport(state, &transport, |transport| {
                let ice_selected_tuple = convert::tuple(tuple);
                transport.info.webrtc_mut()?.ice_selected_tuple = Some(ice_selected_tuple.clone());
                let (transport_id, participant_id) = names(transport);
                Some(EventData::TransportIceSelectedTupleChange(TransportIceSelectedTupleChange {
                    transport_id,
                    participant_id,
                    ice_selected_tuple,
                }))
            });
        }
        Event::PlainTupleChange { transport, tuple, is_rtcp } => {
            on_transport(state, &transport, |transport| {
                let tuple = convert::tuple(tuple);
                // A pipe's peer does not move.
                let link = transport.info.plain_mut()?;
                let (transport_id, participant_id);
                if is_rtcp {
                    link.rtcp_tuple = Some(tuple.clone());
                    (transport_id, participant_id) = names(transport);
                    let event = TransportRtcpTupleChange {
                        transport_id,
                        participant_id,
                        rtcp_tuple: tuple,
                    };
                    Some(EventData::TransportRtcpTupleChange(event))
                } else {
                    link.tuple = tuple.clone();
                    (transport_id, participant_id) = names(transport);
                    let event = TransportTupleChange { transport_id, participant_id, tuple };
                    Some(EventData::TransportTupleChange(event))
                }
            });
        }
        Event::DtlsStateChange { transport, state: dtls_state, srtp_profile, reason } => {
            let dtls_state = convert::dtls_state(dtls_state);
            on_transport(state, &transport, |transport| {
                transport.info.webrtc_mut()?.dtls_state = dtls_state;
                transport.srtp_profile = srtp_profile.or_else(|| transport.srtp_profile.take());
                let (transport_id, participant_id) = names(transport);
                let reason = reason.map(convert::dtls_failure);
                let event =
                    TransportDtlsStateChange { transport_id, participant_id, dtls_state, reason };
                Some(EventData::TransportDtlsStateChange(event))
            });
        }
        other => apply_to_stream(state, other),
    }
}

/// Events about producers and consumers.
fn apply_to_stream(state: &mut State, event: Event) {
    match event {
        Event::ProducerScore { producer, scores } => {
            let Some(producer) = state.registry.producers.get_mut(producer.as_str()) else {
                return;
            };
            let score = convert::producer_scores(&scores);
            producer.info.score.clone_from(&score);
            let event = ProducerScoreEvent { producer: producer_event(&producer.info), score };
            let router_id = producer.info.router_id.clone();
            state.events.publish(Some(&router_id), EventData::ProducerScore(event));
        }
        Event::ProducerLayersUnwatched { producer, encodings } => {
            let Some(producer) = state.registry.producers.get_mut(producer.as_str()) else {
                return;
            };
            let encodings: Vec<u32> = encodings.into_iter().map(u32::from).collect();
            producer.info.layers_unwatched.clone_from(&encodings);
            let router_id = producer.info.router_id.clone();
            let producer = producer_event(&producer.info);
            let event = ProducerLayersUnwatched { producer, encodings };
            state.events.publish(Some(&router_id), EventData::ProducerLayersUnwatched(event));
        }
        Event::VideoOrientationChange { producer, camera, flip, rotation } => {
            let Some(producer) = state.registry.producers.get(producer.as_str()) else { return };
            let router_id = producer.info.router_id.clone();
            let producer = producer_event(&producer.info);
            let event = ProducerVideoOrientationChange { producer, camera, flip, rotation };
            let event = EventData::ProducerVideoOrientationChange(event);
            state.events.publish(Some(&router_id), event);
        }
        Event::ConsumerScore { consumer, score } => {
            let Some(consumer) = state.registry.consumers.get_mut(consumer.as_str()) else {
                return;
            };
            let score = convert::consumer_score(&score);
            consumer.info.score = score.clone();
            let event = ConsumerScoreEvent { consumer: consumer_event(&consumer.info), score };
            let router_id = consumer.info.router_id.clone();
            state.events.publish(Some(&router_id), EventData::ConsumerScore(event));
        }
        Event::ConsumerLayersChange { consumer, layers, reason } => {
            let Some(consumer) = state.registry.consumers.get_mut(consumer.as_str()) else {
                return;
            };
            let layers = layers.map(convert::api_layers);
            consumer.info.current_layers = layers;
            let reason = convert::layers_reason(reason);
            let event =
                ConsumerLayersChange { consumer: consumer_event(&consumer.info), layers, reason };
            let router_id = consumer.info.router_id.clone();
            state.events.publish(Some(&router_id), EventData::ConsumerLayersChange(event));
        }
        Event::ObserverVolumes { .. }
        | Event::ObserverSilence { .. }
        | Event::DominantSpeaker { .. } => apply_observed(state, event),
        other => apply_exhausted(state, other),
    }
}

/// What an observer tells. A producer that has gone meanwhile speaks no more.
fn apply_observed(state: &mut State, event: Event) {
    let registry = &state.registry;
    let found = |id: &str| registry.observers.get(id).map(|observer| &observer.info);
    let speaker = |id: &str| {
        // Of one on another worker its mirror is heard.
        let info = &registry.producers.get(spread::own_id(id))?.info;
        Some((info.id.clone(), info.participant_id.clone()))
    };
    let told = match event {
        Event::ObserverVolumes { observer, volumes } => found(&observer).map(|info| {
            let volumes = volumes.into_iter().filter_map(|one| {
                let (producer_id, participant_id) = speaker(&one.producer)?;
                Some(ObserverVolume { producer_id, participant_id, volume: one.volume })
            });
            let (observer_id, volumes) = (info.id.clone(), volumes.collect());
            (info, EventData::ObserverVolumes(ObserverVolumes { observer_id, volumes }))
        }),
        Event::ObserverSilence { observer } => found(&observer).map(|info| {
            let event = ObserverSilence { observer_id: info.id.clone() };
            (info, EventData::ObserverSilence(event))
        }),
        Event::DominantSpeaker { observer, producer } => {
            found(&observer).zip(speaker(&producer)).map(|(info, speaker)| {
                let (producer_id, participant_id) = speaker;
                let observer_id = info.id.clone();
                let event = ObserverDominantSpeaker { observer_id, producer_id, participant_id };
                (info, EventData::ObserverDominantSpeaker(event))
            })
        }
        _ => None,
    };
    if let Some((router_id, data)) = told.map(|(info, data)| (info.router_id.clone(), data)) {
        state.events.publish(Some(&router_id), data);
    }
}

/// A stream that ends because its packet numbers do.
fn apply_exhausted(state: &mut State, event: Event) {
    match event {
        Event::ProducerExhausted { producer, encoding_idx } => {
            tracing::warn!(producer, encoding_idx, "a received stream has used up its numbers");
            let Some(producer) = state.registry.producers.get(producer.as_str()) else { return };
            let router_id = producer.info.router_id.clone();
            let producer = producer_event(&producer.info);
            let event = ProducerExhausted { producer, encoding_idx: encoding_idx.into() };
            state.events.publish(Some(&router_id), EventData::ProducerExhausted(event));
        }
        Event::ConsumerExhausted { consumer, stream } => {
            tracing::warn!(consumer, ?stream, "a sent stream has used up its numbers");
            let Some(consumer) = state.registry.consumers.get(consumer.as_str()) else { return };
            let router_id = consumer.info.router_id.clone();
            let (consumer, stream) = (consumer_event(&consumer.info), convert::sent_stream(stream));
            let event = ConsumerExhausted { consumer, stream };
            state.events.publish(Some(&router_id), EventData::ConsumerExhausted(event));
        }
        Event::Trace(traced) => traces::tell(state, traced),
        _ => tracing::debug!("an event that this version does not know was ignored"),
    }
}

/// What a transport is told to have changed; `change` gives no event for one of another kind.
fn on_transport(
    state: &mut State,
    id: &str,
    change: impl FnOnce(&mut Transport) -> Option<EventData>,
) {
    let Some(transport) = state.registry.transports.get_mut(id) else { return };
    let router_id = transport.info.router_id.clone();
    if let Some(event) = change(transport) {
        state.events.publish(Some(&router_id), event);
    }
}

fn names(transport: &Transport) -> (Id, Option<Id>) {
    (transport.info.id.clone(), transport.info.participant_id.clone())
}

/// Tells that a worker and its routers are gone, and forgets them.
pub fn worker_died(state: &mut State, worker: WorkerId, routers: Vec<Id>, reason: String) {
    // One that cannot be started again is dead still, perhaps for another reason.
    if !state.workers.set_ended(worker, &reason) && routers.is_empty() {
        return;
    }
    let worker_id = convert::worker_id(worker);
    // Admins are told of all routers, everybody else of his own.
    let mut own: BTreeMap<Arc<str>, Vec<Id>> = BTreeMap::new();
    for id in &routers {
        let owner = state.registry.routers.get(id).and_then(|router| router.owner.clone());
        if let Some(owner) = owner {
            own.entry(owner).or_default().push(id.clone());
        }
    }
    let event = WorkerEvent {
        worker_id: worker_id.clone(),
        router_ids: routers.clone(),
        reason: reason.clone(),
    };
    state.events.publish_for(Audience::Admins, EventData::WorkerDied(event));
    for (owner, router_ids) in own {
        let event =
            WorkerEvent { worker_id: worker_id.clone(), router_ids, reason: reason.clone() };
        state.events.publish_for(Audience::Part(owner), EventData::WorkerDied(event));
    }
    for router in routers {
        state.registry.close_router(&router, RouterClosedReason::WorkerDied, &mut state.events);
    }
}
