//! What exists, as it was created: the original commands, which worker carries them, and who hangs
//! below whom. Owned by the hub; what changes afterwards is asked of the workers. It is what makes
//! a control plane that comes back know everything again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use ironcast_protocol::{
    Id, WorkerId,
    attic::{Attic, Stored},
    command::Command,
    snapshot::ResourceKind as Kind,
};
use serde::{Serialize, de::DeserializeOwned};

/// A resource's name: ids of different kinds are different names. Parents order before children.
pub type Name = (Kind, Id);

/// One resource.
#[derive(Debug)]
pub struct Entry {
    /// Where it lives.
    pub worker: WorkerId,
    /// The number of the command that made it: what is said about an earlier one of the same name
    /// does not change this one.
    pub made_by: u64,
    /// What it hangs below: consumers below their transport and their producer.
    parents: [Option<Id>; 2],
    /// Kinds have ids of their own, so that two children may have the same.
    children: BTreeSet<Name>,
    /// As created.
    pub create: Stored,
    /// See [`Entry::created`].
    created: Option<Stored>,
    /// Transports: as connected.
    pub connect: Option<Stored>,
}

impl Entry {
    /// Transports: our side, in the shape of its kind.
    #[must_use]
    pub fn created<T: DeserializeOwned>(&self) -> Option<T> {
        self.created.as_ref()?.read().ok()
    }
}

/// The attics of the commands that connect, and of the answers to those that create a transport.
const CONNECTS: usize = KINDS.len();
const CREATED: usize = KINDS.len() + 1;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Registry {
    /// By kind. Boxed: a map's nodes have room for eleven values, and many stay half empty.
    entries: [BTreeMap<Id, Box<Entry>>; KINDS.len()],
    /// Where commands are kept: those that create, by kind, those that connect, and answers.
    attics: [Attic; KINDS.len() + 2],
}

const KINDS: [Kind; 5] =
    [Kind::Router, Kind::Transport, Kind::Producer, Kind::Consumer, Kind::Observer];

impl Registry {
    /// The resource.
    #[must_use]
    pub fn entry(&self, kind: Kind, id: &str) -> Option<&Entry> {
        self.entries[kind as usize].get(id).map(Box::as_ref)
    }

    /// How many there are of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.entries[kind as usize].len()
    }

    fn entry_mut(&mut self, kind: Kind, id: &str) -> Option<&mut Entry> {
        self.entries[kind as usize].get_mut(id).map(Box::as_mut)
    }

    /// The resource, if it is still the one that this command made.
    fn made_by(&mut self, kind: Kind, id: &str, token: u64) -> Option<&mut Entry> {
        self.entry_mut(kind, id).filter(|entry| entry.made_by == token)
    }

    /// The next `count` names after one, with their workers, parents before their children.
    pub fn after(&self, name: Option<&Name>, count: usize) -> Vec<(Name, WorkerId)> {
        let first = name.map_or(Kind::Router, |(kind, _)| *kind);
        let kinds = KINDS.into_iter().skip_while(|kind| *kind < first);
        let all = kinds.flat_map(|kind| {
            let from = match name {
                Some((of, id)) if *of == kind => Bound::Excluded(id.as_str()),
                _ => Bound::Unbounded,
            };
            let rest = self.entries[kind as usize].range::<str, _>((from, Bound::Unbounded));
            rest.map(move |(id, entry)| ((kind, id.clone()), entry.worker))
        });
        all.take(count).collect()
    }

    /// Notes a create command on its way to its worker under the command's number: `None` when its
    /// parent is not there or the id is taken.
    pub fn add(&mut self, command: &Command, token: u64) -> Option<WorkerId> {
        let (kind, id, parents) = match command {
            Command::CreateRouter(create) => (Kind::Router, &create.id, [None, None]),
            Command::CreateWebRtcTransport(create) => {
                let parents = [Some((Kind::Router, &create.router)), None];
                (Kind::Transport, &create.id, parents)
            }
            Command::CreatePlainTransport(create) => {
                let parents = [Some((Kind::Router, &create.router)), None];
                (Kind::Transport, &create.id, parents)
            }
            Command::CreateHop(create) => {
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
            Command::CreateObserver(create) => {
                let parents = [Some((Kind::Router, &create.router)), None];
                (Kind::Observer, &create.id, parents)
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
            Command::CreatePlainTransport(create) => self.store(kind as usize, create),
            Command::CreateHop(create) => self.store(kind as usize, create),
            Command::Produce(create) => self.store(kind as usize, create),
            Command::Consume(create) => self.store(kind as usize, create),
            Command::CreateObserver(create) => self.store(kind as usize, create),
            _ => None,
        }?;
        for (parent_kind, parent) in parents.into_iter().flatten() {
            self.entry_mut(parent_kind, parent)?.children.insert((kind, id.clone()));
        }
        let entry = Entry {
            worker,
            made_by: token,
            parents: parents.map(|parent| parent.map(|(_, id)| id.clone())),
            children: BTreeSet::new(),
            create,
            created: None,
            connect: None,
        };
        self.entries[kind as usize].insert(id.clone(), Box::new(entry));
        Some(worker)
    }

    /// Our side of a transport that this command made.
    pub fn set_created(&mut self, id: &str, token: u64, created: &impl Serialize) {
        let created = self.store(CREATED, created);
        if let Some(entry) = self.made_by(Kind::Transport, id, token) {
            entry.created = created;
        }
    }

    /// A transport that this command made was connected.
    pub fn set_connect(&mut self, id: &str, connect: &impl Serialize, token: u64) {
        let connected = self.store(CONNECTS, connect);
        if let Some(entry) = self.made_by(Kind::Transport, id, token) {
            entry.connect = connected;
        }
    }

    /// What came as a command can be encoded again.
    fn store<T: Serialize>(&mut self, attic: usize, command: &T) -> Option<Stored> {
        self.attics[attic].store(command).ok()
    }

    /// Forgets a resource and all below it, if it is still the one that this command made.
    pub fn remove_made_by(&mut self, kind: Kind, id: &str, token: u64) {
        if self.made_by(kind, id, token).is_some() {
            self.remove(kind, id);
        }
    }

    /// Forgets a resource and all below it.
    pub fn remove(&mut self, kind: Kind, id: &str) {
        let Some(entry) = self.entries[kind as usize].remove(id) else { return };
        let parent_kinds = match kind {
            Kind::Router => [None, None],
            Kind::Transport | Kind::Observer => [Some(Kind::Router), None],
            Kind::Producer => [Some(Kind::Transport), None],
            Kind::Consumer => [Some(Kind::Transport), Some(Kind::Producer)],
        };
        for (parent_kind, parent) in parent_kinds.into_iter().zip(&entry.parents) {
            if let (Some(parent_kind), Some(parent)) = (parent_kind, parent)
                && let Some(parent) = self.entry_mut(parent_kind, parent)
            {
                parent.children.remove(&(kind, id.to_owned()));
            }
        }
        if kind == Kind::Router {
            return self.remove_below(entry.children);
        }
        for (kind, child) in entry.children {
            self.remove(kind, &child);
        }
    }

    /// Forgets all that was in a router. What its resources hang below goes, too (workers refuse a
    /// sent track of another router): nothing is taken out of anything, and each is met once.
    fn remove_below(&mut self, children: BTreeSet<Name>) {
        for (kind, child) in children {
            if let Some(entry) = self.entries[kind as usize].remove(&child)
                && kind == Kind::Transport
            {
                self.remove_below(entry.children);
            }
        }
    }

    /// Forgets everything on a worker; returns its routers.
    pub fn remove_worker(&mut self, worker: WorkerId) -> Vec<Id> {
        let routers: Vec<Id> = self.entries[Kind::Router as usize]
            .iter()
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
        self.entries.iter().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use ironcast_protocol::{
        command::{Consume, CreateRouter, CreateWebRtcTransport, Produce, TransportCreated},
        observer::{CreateObserver, Method},
    };

    use super::*;

    fn router(id: &str) -> Command {
        Command::CreateRouter(CreateRouter {
            id: id.into(),
            worker: 1,
            selection: Default::default(),
            note: vec![1],
        })
    }

    fn transport(id: &str, router: &str) -> Command {
        Command::CreateWebRtcTransport(CreateWebRtcTransport {
            id: id.into(),
            router: router.into(),
            consent_timeout_s: 30,
            disconnected_timeout_s: 0,
            initial_available_outgoing_bitrate_bps: 0,
            candidates: Default::default(),
            note: Vec::new(),
        })
    }

    fn observer(id: &str, router: &str) -> Command {
        Command::CreateObserver(CreateObserver {
            id: id.into(),
            router: router.into(),
            method: Method::ActiveSpeaker { interval_ms: 300 },
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
            assert_eq!(registry.add(&command, 1), Some(1), "{command:?}");
        }
        assert_eq!(registry.add(&transport("a", "r"), 2), None);
        assert_eq!(registry.add(&consume("y", "b", "none"), 3), None);
        registry.remove(Kind::Producer, "x");
        assert_eq!(registry.len(), 3);
        registry.add(&produce("x", "a"), 4);
        registry.add(&consume("c", "b", "x"), 5);
        registry.add(&observer("b", "r"), 6);
        registry.remove(Kind::Observer, "b");
        registry.remove(Kind::Transport, "b");
        assert!(registry.entry(Kind::Consumer, "c").is_none());
        assert!(registry.entry(Kind::Producer, "x").is_some());
        registry.add(&observer("a", "r"), 7);
        assert_eq!(registry.remove_worker(1), ["r"]);
        assert_eq!(registry.len(), 0);
    }

    /// Ids of different kinds are different names, below one parent too.
    #[test]
    fn a_child_goes_with_its_parent_although_another_of_its_id_has_gone_before() {
        let mut registry = Registry::default();
        for command in [router("r"), transport("t", "r"), produce("x", "t"), consume("y", "t", "x")]
        {
            assert_eq!(registry.add(&command, 1), Some(1), "{command:?}");
        }
        registry.add(&produce("y", "t"), 2);
        registry.remove(Kind::Producer, "y");
        registry.remove(Kind::Transport, "t");
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn the_command_comes_back_as_it_was() {
        let mut registry = Registry::default();
        registry.add(&router("r"), 1);
        let create: CreateRouter =
            registry.entry(Kind::Router, "r").unwrap().create.read().unwrap();
        assert_eq!(Command::CreateRouter(create), router("r"));
    }

    #[test]
    fn what_is_said_about_an_earlier_one_does_not_change_a_later_one_of_its_name() {
        let mut registry = Registry::default();
        registry.add(&router("r"), 1);
        registry.add(&transport("t", "r"), 2);
        registry.remove(Kind::Transport, "t");
        registry.add(&transport("t", "r"), 3);
        let created = TransportCreated {
            ice_parameters: ironcast_protocol::command::IceParameters {
                username_fragment: "u".into(),
                password: "p".into(),
            },
            ice_candidates: Vec::new(),
            dtls_fingerprints: Vec::new(),
        };
        registry.set_created("t", 2, &created);
        registry.remove_made_by(Kind::Transport, "t", 2);
        let said = |registry: &Registry| registry.entry(Kind::Transport, "t").unwrap().created();
        assert_eq!(said(&registry), None::<TransportCreated>);
        registry.set_created("t", 3, &created);
        assert_eq!(said(&registry), Some(created));
        registry.remove_made_by(Kind::Transport, "t", 3);
        assert!(registry.entry(Kind::Transport, "t").is_none());
    }

    #[test]
    fn a_walk_in_portions_names_each_once_and_parents_first() {
        let mut registry = Registry::default();
        for room in 0..5 {
            registry.add(&router(&format!("r{room}")), 1);
            registry.add(&transport(&format!("t{room}"), &format!("r{room}")), 1);
            registry.add(&produce(&format!("p{room}"), &format!("t{room}")), 1);
            registry
                .add(&consume(&format!("p{room}"), &format!("t{room}"), &format!("p{room}")), 1);
        }
        for count in [1, 3, 4, 100] {
            let mut names: Vec<Name> = Vec::new();
            loop {
                let next = registry.after(names.last(), count);
                if next.is_empty() {
                    break;
                }
                names.extend(next.into_iter().map(|(name, _)| name));
            }
            assert_eq!(names.len(), 20);
            assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        }
    }
}
