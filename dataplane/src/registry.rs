//! What exists, as it was created: the original commands, which worker carries them, and who hangs
//! below whom. Owned by the hub; what changes afterwards is asked of the workers. It is what makes
//! a control plane that comes back know everything again.

use std::collections::{BTreeMap, BTreeSet};

use ironcast_protocol::{
    Id, WorkerId,
    attic::{Attic, Stored},
    command::{Command, ConnectTransport, TransportCreated},
};
use serde::Serialize;

/// What kind of resource an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A room.
    Router,
    /// A peer.
    Transport,
    /// A received track.
    Producer,
    /// A sent track.
    Consumer,
}

/// One resource.
#[derive(Debug)]
pub struct Entry {
    /// Where it lives.
    pub worker: WorkerId,
    /// What it hangs below: consumers below their transport and their producer.
    parents: [Option<Id>; 2],
    children: BTreeSet<Id>,
    /// As created.
    pub create: Stored,
    /// See [`Entry::created`].
    created: Option<Stored>,
    /// Transports: as connected.
    pub connect: Option<Stored>,
}

impl Entry {
    /// Transports: our side.
    #[must_use]
    pub fn created(&self) -> Option<TransportCreated> {
        self.created.as_ref()?.read().ok()
    }
}

/// The attics of the commands that connect, and of the answers to those that create a transport.
const CONNECTS: usize = 4;
const CREATED: usize = 5;

/// See the file's head. Ids of different kinds are different names.
#[derive(Debug, Default)]
pub struct Registry {
    /// Boxed: a map's nodes have room for eleven values, and many stay half empty.
    entries: BTreeMap<(u8, Id), Box<Entry>>,
    /// Where commands are kept: those that create, by kind, those that connect, and answers.
    attics: [Attic; 6],
}

impl Registry {
    /// The resource.
    #[must_use]
    pub fn entry(&self, kind: Kind, id: &str) -> Option<&Entry> {
        self.entries.get(&(kind as u8, id.to_owned())).map(Box::as_ref)
    }

    fn entry_mut(&mut self, kind: Kind, id: &str) -> Option<&mut Entry> {
        self.entries.get_mut(&(kind as u8, id.to_owned())).map(Box::as_mut)
    }

    /// All of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Id, &Entry)> {
        let all = self.entries.range((kind as u8, Id::new())..(kind as u8 + 1, Id::new()));
        all.map(|((_, id), entry)| (id, entry.as_ref()))
    }

    /// Notes a create command on its way to its worker: `None` when its parent is not there or the
    /// id is taken.
    pub fn add(&mut self, command: &Command) -> Option<WorkerId> {
        let (kind, id, parents) = match command {
            Command::CreateRouter(create) => (Kind::Router, &create.id, [None, None]),
            Command::CreateWebRtcTransport(create) => {
                let parents = [Some((Kind::Router, &create.router)), None];
                (Kind::Transport, &create.id, parents)
            }
            Command::Produce(create) => {
                let parents = [Some((Kind::Transport, &create.transport)), None];
                (Kind::Producer, &create.id, parents)
            }
            Command::Consume(create) => {
                let parents = [
                    Some((Kind::Transport, &create.transport)),
                    Some((Kind::Producer, &create.producer)),
                ];
                (Kind::Consumer, &create.id, parents)
            }
            _ => return None,
        };
        let worker = match (command, parents[0]) {
            (Command::CreateRouter(create), _) => create.worker,
            (_, Some((kind, parent))) => self.entry(kind, parent)?.worker,
            _ => return None,
        };
        if self.entry(kind, id).is_some() {
            return None;
        }
        for (parent_kind, parent) in parents.into_iter().flatten() {
            self.entry(parent_kind, parent)?;
        }
        let create = match command {
            Command::CreateRouter(create) => self.store(kind as usize, create),
            Command::CreateWebRtcTransport(create) => self.store(kind as usize, create),
            Command::Produce(create) => self.store(kind as usize, create),
            Command::Consume(create) => self.store(kind as usize, create),
            _ => None,
        }?;
        for (parent_kind, parent) in parents.into_iter().flatten() {
            self.entry_mut(parent_kind, parent)?.children.insert(id.clone());
        }
        let entry = Entry {
            worker,
            parents: parents.map(|parent| parent.map(|(_, id)| id.clone())),
            children: BTreeSet::new(),
            create,
            created: None,
            connect: None,
        };
        self.entries.insert((kind as u8, id.clone()), Box::new(entry));
        Some(worker)
    }

    /// Our side of a new transport, or its new credentials.
    pub fn set_created(&mut self, id: &str, created: &TransportCreated) {
        let created = self.store(CREATED, created);
        if let Some(entry) = self.entry_mut(Kind::Transport, id) {
            entry.created = created;
        }
    }

    /// A transport was connected.
    pub fn set_connect(&mut self, connect: &ConnectTransport) {
        let connected = self.store(CONNECTS, connect);
        if let Some(entry) = self.entry_mut(Kind::Transport, &connect.id) {
            entry.connect = connected;
        }
    }

    /// What came as a command can be encoded again.
    fn store<T: Serialize>(&mut self, attic: usize, command: &T) -> Option<Stored> {
        self.attics[attic].store(command).ok()
    }

    /// Forgets a resource and all below it.
    pub fn remove(&mut self, kind: Kind, id: &str) {
        let Some(entry) = self.entries.remove(&(kind as u8, id.to_owned())) else { return };
        let parent_kinds = match kind {
            Kind::Router => [None, None],
            Kind::Transport => [Some(Kind::Router), None],
            Kind::Producer => [Some(Kind::Transport), None],
            Kind::Consumer => [Some(Kind::Transport), Some(Kind::Producer)],
        };
        for (parent_kind, parent) in parent_kinds.into_iter().zip(&entry.parents) {
            if let (Some(parent_kind), Some(parent)) = (parent_kind, parent)
                && let Some(parent) = self.entry_mut(parent_kind, parent)
            {
                parent.children.remove(id);
            }
        }
        for child in entry.children {
            match kind {
                Kind::Router => self.remove(Kind::Transport, &child),
                Kind::Producer => self.remove(Kind::Consumer, &child),
                Kind::Transport => {
                    self.remove_child_of(&child, id);
                }
                Kind::Consumer => {}
            }
        }
    }

    /// A transport's child is a producer or a consumer; both may have the same id.
    fn remove_child_of(&mut self, child: &str, transport: &str) {
        for kind in [Kind::Producer, Kind::Consumer] {
            let ours = self
                .entry(kind, child)
                .is_some_and(|entry| entry.parents[0].as_deref() == Some(transport));
            if ours {
                self.remove(kind, child);
            }
        }
    }

    /// The room that a resource is in.
    #[must_use]
    pub fn router_of(&self, kind: Kind, id: &str) -> Option<Id> {
        let parent = || self.entry(kind, id)?.parents[0].clone();
        match kind {
            Kind::Router => Some(id.to_owned()),
            Kind::Transport => parent(),
            Kind::Producer | Kind::Consumer => self.router_of(Kind::Transport, &parent()?),
        }
    }

    /// Forgets everything on a worker; returns its routers.
    pub fn remove_worker(&mut self, worker: WorkerId) -> Vec<Id> {
        let routers: Vec<Id> = self
            .of_kind(Kind::Router)
            .filter(|(_, entry)| entry.worker == worker)
            .map(|(id, _)| id.clone())
            .collect();
        for router in &routers {
            self.remove(Kind::Router, router);
        }
        routers
    }

    /// Resources now.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use ironcast_protocol::command::{Consume, CreateRouter, CreateWebRtcTransport, Produce};

    use super::*;

    fn router(id: &str) -> Command {
        Command::CreateRouter(CreateRouter { id: id.into(), worker: 1, note: vec![1] })
    }

    fn transport(id: &str, router: &str) -> Command {
        Command::CreateWebRtcTransport(CreateWebRtcTransport {
            id: id.into(),
            router: router.into(),
            consent_timeout_s: 30,
            disconnected_timeout_s: 0,
            initial_available_outgoing_bitrate_bps: 0,
            note: Vec::new(),
        })
    }

    fn produce(id: &str, transport: &str) -> Command {
        Command::Produce(Produce {
            id: id.into(),
            transport: transport.into(),
            kind: ironcast_protocol::media::MediaKind::Audio,
            rtp_parameters: Default::default(),
            rtp_mapping: Default::default(),
            paused: false,
            key_frame_request_delay_ms: 0,
            note: Vec::new(),
        })
    }

    fn consume(id: &str, transport: &str, producer: &str) -> Command {
        Command::Consume(Consume {
            id: id.into(),
            transport: transport.into(),
            producer: producer.into(),
            rtp_parameters: Default::default(),
            rtp_type: ironcast_protocol::media::RtpType::Simple,
            paused: false,
            preferred_layers: None,
            ignore_dtx: false,
            note: Vec::new(),
        })
    }

    #[test]
    fn what_hangs_below_goes_with_it() {
        let mut registry = Registry::default();
        for command in [
            router("r"),
            transport("a", "r"),
            transport("b", "r"),
            produce("x", "a"),
            consume("x", "b", "x"),
        ] {
            assert_eq!(registry.add(&command), Some(1), "{command:?}");
        }
        assert_eq!(registry.add(&transport("a", "r")), None);
        assert_eq!(registry.add(&consume("y", "b", "none")), None);
        registry.remove(Kind::Producer, "x");
        assert_eq!(registry.len(), 3);
        registry.add(&produce("x", "a"));
        registry.add(&consume("c", "b", "x"));
        registry.remove(Kind::Transport, "b");
        assert!(registry.entry(Kind::Consumer, "c").is_none());
        assert!(registry.entry(Kind::Producer, "x").is_some());
        assert_eq!(registry.remove_worker(1), ["r"]);
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn the_command_comes_back_as_it_was() {
        let mut registry = Registry::default();
        registry.add(&router("r"));
        let create: CreateRouter =
            registry.entry(Kind::Router, "r").unwrap().create.read().unwrap();
        assert_eq!(Command::CreateRouter(create), router("r"));
    }
}
