//! The states of what is on a worker that does not answer: each as it was made, because what has changed
//! since only the worker knows. A control plane that attaches meanwhile knows by this what exists;
//! whatever it asks of that worker is refused, and it takes the state anew when the worker moves.

use std::collections::BTreeSet;

use ironcast_core::{figures::ResourceState, link::webrtc::ice::Credentials, producer};
use ironcast_protocol::{
    command::{ConnectTransport, Consume, ConsumerScore, DtlsRole, Produce, TransportCreated},
    hop::HopEnd,
    observer::ObserverState,
    plain::PlainTransportCreated,
    snapshot::{ConsumerState, ProducerState, ResourceKind as Kind, TransportState},
};

use super::{Hub, Then};
use crate::{
    messages::States,
    registry::{Entry, Name},
};

impl Hub {
    /// Of those that are there: not of those whose creation has not been answered.
    pub(super) fn presumed(&self, names: &[Name]) -> States {
        let creations = self.pending.values().filter_map(|pending| match &pending.then {
            Then::Create(kind, id) => Some((*kind, id.as_str())),
            _ => None,
        });
        let unmade: BTreeSet<_> = creations.collect();
        let made = names.iter().filter(|(kind, id)| !unmade.contains(&(*kind, id)));
        made.filter_map(|name| {
            let state = as_made(name.0, self.registry.entry(name.0, &name.1)?)?;
            Some((name.clone(), state))
        })
        .collect()
    }
}

fn as_made(kind: Kind, entry: &Entry) -> Option<ResourceState> {
    Some(match kind {
        Kind::Router => ResourceState::Router,
        Kind::Transport => transport(entry)?,
        Kind::Producer => {
            let create: Produce = entry.create.read().ok()?;
            ResourceState::Producer(ProducerState {
                rtp_type: producer::rtp_type(&create.rtp_parameters.encodings),
                paused: create.paused,
                scores: Vec::new(),
                unwatched: Vec::new(),
            })
        }
        Kind::Consumer => {
            let create: Consume = entry.create.read().ok()?;
            ResourceState::Consumer(ConsumerState {
                paused: create.paused,
                producer_paused: false,
                priority: 1,
                score: ConsumerScore::default(),
                preferred_layers: create.preferred_layers,
                current_layers: None,
            })
        }
        Kind::Observer => ResourceState::Observer(ObserverState::default()),
    })
}

/// Which kind of transport it is, its answer tells.
fn transport(entry: &Entry) -> Option<ResourceState> {
    let connect = || entry.connect.as_ref()?.read::<ConnectTransport>().ok();
    let mut state = TransportState::default();
    if let Some(created) = entry.created::<TransportCreated>() {
        state.dtls_local_role = connect().map(|connect| match connect.role {
            DtlsRole::Server => DtlsRole::Client,
            DtlsRole::Client | DtlsRole::Auto => DtlsRole::Server,
        });
        let ours = created.ice_parameters;
        let credentials =
            Credentials { username_fragment: ours.username_fragment, password: ours.password };
        return Some(ResourceState::WebRtcTransport(state, credentials));
    }
    if entry.created::<PlainTransportCreated>().is_some() {
        return Some(ResourceState::PlainTransport(state));
    }
    entry.created::<HopEnd>().map(|_| ResourceState::Hop)
}
