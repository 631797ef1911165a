//! A dataplane that moves no packet: speaks the protocol over a unix socket, keeps what it is told,
//! and does to its controller what the test wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use ironcast_protocol::{
    Command, CommandError, ErrorCode, Event, FrameKind, Reply,
    capture::{Captured, Packet},
    command::{
        Consumed, ConsumerScore, DtlsFingerprint, DtlsRole, IceCandidate, IceParameters,
        TransportCreated, Tuple,
    },
    event::{DtlsState, IceState, LayersReason},
    frame::{self, Hello, MAGIC, VERSION, Welcome},
    hop::HopEnd,
    media::{MediaKind, RtpType},
    observer::ObserverState,
    plain::{PlainTransportCreated, SrtpParameters},
    snapshot::{
        ConsumerState, ProducerState, Resource, ResourceCounts, SnapshotPart, TransportState,
    },
    stats::{
        ConsumerStats, Hottest, ProcessStats, ProducerStats, StreamStats, TransportStats,
        WorkerStats,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
};

/// What the test can turn.
pub struct Knobs {
    pub boot_id: String,
    pub magic: String,
    pub version: u16,
    pub workers: Vec<WorkerStats>,
    pub process: ProcessStats,
    pub hottest: Hottest,
    /// Names of commands (their variant) that are carried out but never answered.
    pub mute: BTreeSet<&'static str>,
    /// Names of commands that are refused.
    pub refuse: Vec<(&'static str, CommandError)>,
    /// Event put on the wire right behind the answer to a command, before the answer is read.
    pub follow: Vec<(&'static str, Event)>,
    /// Consumers that a snapshot counts but does not carry.
    pub lost_consumers: u64,
    /// What transports carry, bits per second.
    pub bitrates: BTreeMap<String, u64>,
}

struct State {
    knobs: Knobs,
    resources: Vec<Resource>,
    commands: Vec<Command>,
    event_seq: u64,
    ice_restarts: u32,
    controller: Option<(u64, mpsc::UnboundedSender<Vec<u8>>)>,
    connections: u64,
}

/// The fake and its socket.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    attached: watch::Sender<u64>,
    path: PathBuf,
    listening: Arc<Mutex<Option<tokio::task::JoinHandle<()>>>>,
}

impl Fake {
    /// Listens on a socket, with two workers.
    pub fn start(path: &Path) -> Self {
        let worker = |id| WorkerStats {
            id,
            core: id.into(),
            running: true,
            ports: (40_000 + id * 100, 40_099 + id * 100),
            ..WorkerStats::default()
        };
        let knobs = Knobs {
            boot_id: "boot-1".into(),
            magic: MAGIC.into(),
            version: VERSION,
            workers: vec![worker(0), worker(1)],
            process: ProcessStats::default(),
            hottest: Hottest::default(),
            mute: BTreeSet::new(),
            refuse: Vec::new(),
            follow: Vec::new(),
            lost_consumers: 0,
            bitrates: BTreeMap::new(),
        };
        let state = State {
            knobs,
            resources: Vec::new(),
            commands: Vec::new(),
            event_seq: 0,
            ice_restarts: 0,
            controller: None,
            connections: 0,
        };
        let fake = Self {
            state: Arc::new(Mutex::new(state)),
            attached: watch::Sender::new(0),
            path: path.to_owned(),
            listening: Arc::default(),
        };
        fake.listen();
        fake
    }

    /// Opens the socket (again).
    pub fn listen(&self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let fake = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(fake.clone().serve(stream));
            }
        });
        *self.listening.lock().unwrap() = Some(task);
    }

    /// Closes the socket and every connection: the process is gone.
    pub fn vanish(&self) {
        if let Some(task) = self.listening.lock().unwrap().take() {
            task.abort();
        }
        let _ = std::fs::remove_file(&self.path);
        self.drop_connection();
    }

    /// Changes something.
    pub fn turn<T>(&self, change: impl FnOnce(&mut Knobs) -> T) -> T {
        change(&mut self.state.lock().unwrap().knobs)
    }

    /// The controller's connection breaks.
    pub fn drop_connection(&self) {
        self.state.lock().unwrap().controller = None;
    }

    /// Another run: everything is gone.
    pub fn restart(&self, boot_id: &str) {
        let mut state = self.state.lock().unwrap();
        state.knobs.boot_id = boot_id.into();
        state.resources.clear();
        state.event_seq = 0;
        state.controller = None;
    }

    /// Commands so far.
    pub fn commands(&self) -> Vec<Command> {
        self.state.lock().unwrap().commands.clone()
    }

    /// How many commands of a name so far.
    pub fn count(&self, name: &str) -> usize {
        self.commands().iter().filter(|command| name_of(command) == name).count()
    }

    /// Resources of the "dataplane".
    pub fn resources(&self) -> Vec<Resource> {
        self.state.lock().unwrap().resources.clone()
    }

    /// Puts other resources in their place.
    pub fn set_resources(&self, resources: Vec<Resource>) {
        self.state.lock().unwrap().resources = resources;
    }

    /// One more.
    pub fn add(&self, resource: Resource) {
        self.state.lock().unwrap().resources.push(resource);
    }

    /// Reports something, and changes what it says like the real one would.
    pub fn emit(&self, event: Event) {
        let mut state = self.state.lock().unwrap();
        match &event {
            Event::TransportClosed { transport, .. } => state.close(transport),
            Event::WorkerDied { routers, .. } => {
                for router in routers {
                    state.close(router);
                }
            }
            Event::ConsumerScore { consumer, score } => {
                for resource in &mut state.resources {
                    if let Resource::Consumer { create, state } = resource
                        && create.id == *consumer
                    {
                        state.score = score.clone();
                    }
                }
            }
            Event::IceStateChange { transport, state: ice_state } => {
                for resource in &mut state.resources {
                    if let Resource::WebRtcTransport { create, state, .. } = resource
                        && create.id == *transport
                    {
                        state.ice_state = *ice_state;
                    }
                }
            }
            _ => {}
        }
        let bytes = frame::encode_body(&event).unwrap();
        state.send_event(bytes);
    }

    /// An event whose body is anything.
    pub fn emit_raw(&self, body: Vec<u8>) {
        self.state.lock().unwrap().send_event(body);
    }

    /// Bytes that are no frame.
    pub fn send_bytes(&self, bytes: Vec<u8>) {
        if let Some((_, sender)) = &self.state.lock().unwrap().controller {
            let _ = sender.send(bytes);
        }
    }

    /// A frame of any kind.
    pub fn send_frame<T: serde::Serialize>(&self, kind: FrameKind, id: u64, body: &T) {
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, kind, id, body).unwrap();
        self.send_bytes(bytes);
    }

    async fn serve(self, stream: UnixStream) {
        let (mut read, mut write) = stream.into_split();
        let mut buffer = Vec::new();
        let Some(hello) = next(&mut read, &mut buffer).await else { return };
        let hello: Hello = frame::decode_body(&hello.body).expect("a hello");
        assert_eq!(hello.magic, MAGIC);
        let (sender, mut frames) = mpsc::unbounded_channel::<Vec<u8>>();
        let number = {
            let mut state = self.state.lock().unwrap();
            let welcome = Welcome {
                magic: state.knobs.magic.clone(),
                version: state.knobs.version,
                release: "0.0.0-fake".into(),
                boot_id: state.knobs.boot_id.clone(),
                event_seq: state.event_seq,
            };
            let mut bytes = Vec::new();
            frame::write_frame(&mut bytes, FrameKind::Welcome, 0, &welcome).unwrap();
            sender.send(bytes).unwrap();
            state.connections += 1;
            let number = state.connections;
            state.controller = Some((number, sender));
            number
        };
        self.attached.send_replace(number);
        let reading = async {
            while let Some(frame) = next(&mut read, &mut buffer).await {
                if frame.kind == FrameKind::Request {
                    let command = frame::decode_body(&frame.body).expect("a command");
                    self.state.lock().unwrap().execute(frame.id, command);
                }
            }
        };
        let writing = async {
            while let Some(bytes) = frames.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        };
        // Ends when the controller goes away, or when the fake drops its sender.
        tokio::select! {
            () = reading => {}
            () = writing => {}
        }
        let mut state = self.state.lock().unwrap();
        if state.controller.as_ref().is_some_and(|(current, _)| *current == number) {
            state.controller = None;
        }
    }
}

async fn next(
    read: &mut tokio::net::unix::OwnedReadHalf,
    buffer: &mut Vec<u8>,
) -> Option<ironcast_protocol::Frame> {
    loop {
        if let Some(frame) = frame::take_frame(buffer).expect("frames") {
            return Some(frame);
        }
        if read.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

impl State {
    fn send<T: serde::Serialize>(&self, kind: FrameKind, id: u64, body: &T) {
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, kind, id, body).unwrap();
        if let Some((_, sender)) = &self.controller {
            let _ = sender.send(bytes);
        }
    }

    fn send_event(&mut self, body: Vec<u8>) {
        self.event_seq += 1;
        let event = ironcast_protocol::Frame { kind: FrameKind::Event, id: self.event_seq, body };
        let body = frame::encode_body(&event).unwrap();
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend(body);
        if let Some((_, sender)) = &self.controller {
            let _ = sender.send(bytes);
        }
    }

    fn execute(&mut self, id: u64, command: Command) {
        let name = name_of(&command);
        self.commands.push(command.clone());
        let refused = self.knobs.refuse.iter().find(|(refused, _)| *refused == name);
        let result = match refused {
            Some((_, error)) => Err(error.clone()),
            None => self.carry_out(id, command),
        };
        if self.knobs.mute.contains(name) {
            return;
        }
        self.send(FrameKind::Response, id, &result);
        let follow: Vec<Event> = self
            .knobs
            .follow
            .iter()
            .filter(|(after, _)| *after == name)
            .map(|(_, event)| event.clone())
            .collect();
        for event in follow {
            self.send_event(frame::encode_body(&event).unwrap());
        }
    }

    fn carry_out(&mut self, id: u64, command: Command) -> Result<Reply, CommandError> {
        let missing = || CommandError::new(ErrorCode::NotFound, "there is no such resource");
        match command {
            Command::Workers => Ok(Reply::Workers(self.knobs.workers.clone())),
            Command::Hottest(_) => Ok(Reply::Hottest(self.knobs.hottest.clone())),
            Command::Process => Ok(Reply::Process(self.knobs.process.clone())),
            Command::Snapshot => {
                let mut counts = ResourceCounts::default();
                for resources in self.resources.chunks(3) {
                    let part = SnapshotPart { resources: resources.to_vec() };
                    resources.iter().for_each(|one| counts.count(one.kind()));
                    self.send(FrameKind::SnapshotPart, id, &part);
                }
                counts.consumers += self.knobs.lost_consumers;
                Ok(Reply::Snapshot { event_seq: self.event_seq, counts: Some(counts) })
            }
            Command::CreateRouter(create) => {
                self.check_new(&create.id)?;
                let worker = create.worker;
                self.resources.push(Resource::Router { create, worker });
                Ok(Reply::Done)
            }
            Command::CreateWebRtcTransport(create) => {
                self.check_new(&create.id)?;
                self.find(&create.router).ok_or_else(missing)?;
                let created = created(&create.id);
                self.resources.push(Resource::WebRtcTransport {
                    create: Box::new(create),
                    created: Box::new(created.clone()),
                    connect: None,
                    state: TransportState::default(),
                });
                Ok(Reply::TransportCreated(created))
            }
            Command::CreatePlainTransport(create) => {
                self.check_new(&create.id)?;
                self.find(&create.router).ok_or_else(missing)?;
                let ip = create.listen.unwrap_or_else(|| [127, 0, 0, 1].into());
                let port = create.port.unwrap_or(28_000);
                let key = |suite: &String| {
                    let len = if suite == "AEAD_AES_256_GCM" { 44 } else { 30 };
                    SrtpParameters { suite: suite.clone(), key: vec![7; len] }
                };
                let created = PlainTransportCreated {
                    local: (ip, port).into(),
                    rtcp_local: (!create.rtcp_mux).then(|| (ip, port + 1).into()),
                    srtp: create.srtp_suite.as_ref().map(key),
                };
                self.resources.push(Resource::PlainTransport {
                    create: Box::new(create),
                    created: Box::new(created.clone()),
                    connect: None,
                    state: TransportState::default(),
                });
                Ok(Reply::PlainTransportCreated(created))
            }
            Command::CreateHop(create) => {
                self.check_new(&create.id)?;
                let worker = match self.find(&create.router) {
                    Some(Resource::Router { worker, .. }) => *worker,
                    _ => return Err(missing()),
                };
                let created = HopEnd { worker, slot: self.resources.len() as u32, generation: 0 };
                self.resources.push(Resource::Hop { create, created, connect: None });
                Ok(Reply::HopCreated(created))
            }
            Command::Produce(create) => {
                self.check_new(&create.id)?;
                self.find(&create.transport).ok_or_else(missing)?;
                let rtp_type = match create.rtp_parameters.encodings.len() {
                    0 | 1 => RtpType::Simple,
                    _ => RtpType::Simulcast,
                };
                let state = ProducerState {
                    rtp_type,
                    paused: create.paused,
                    scores: vec![],
                    unwatched: vec![],
                };
                self.resources.push(Resource::Producer { create: Box::new(create), state });
                Ok(Reply::Produced { rtp_type })
            }
            Command::Consume(create) => {
                self.check_new(&create.id)?;
                self.find(&create.transport).ok_or_else(missing)?;
                let producer_paused = match self.find(&create.producer) {
                    Some(Resource::Producer { state, .. }) => state.paused,
                    _ => return Err(missing()),
                };
                let score = ConsumerScore { score: 10, producer_score: 0, producer_scores: vec![] };
                let consumed = Consumed {
                    paused: create.paused,
                    producer_paused,
                    score: score.clone(),
                    preferred_layers: create.preferred_layers,
                };
                let state = ConsumerState {
                    paused: create.paused,
                    producer_paused,
                    priority: 1,
                    score,
                    preferred_layers: create.preferred_layers,
                    current_layers: None,
                };
                self.resources.push(Resource::Consumer { create: Box::new(create), state });
                Ok(Reply::Consumed(consumed))
            }
            Command::CreateObserver(create) => {
                self.check_new(&create.id)?;
                self.find(&create.router).ok_or_else(missing)?;
                let state = ObserverState::default();
                self.resources.push(Resource::Observer { create: Box::new(create), state });
                Ok(Reply::Done)
            }
            other => self.change(other),
        }
    }

    /// Commands about something that exists.
    fn change(&mut self, command: Command) -> Result<Reply, CommandError> {
        use ironcast_protocol::Command as C;
        let missing = || CommandError::new(ErrorCode::NotFound, "there is no such resource");
        match command {
            C::CloseRouter(named)
            | C::CloseTransport(named)
            | C::CloseProducer(named)
            | C::CloseConsumer(named)
            | C::CloseObserver(named) => {
                self.find(&named.id).ok_or_else(missing)?;
                self.close(&named.id);
            }
            C::ConnectTransport(command) => {
                let Some(Resource::WebRtcTransport { connect, state, .. }) =
                    self.find_mut(&command.id)
                else {
                    return Err(missing());
                };
                if connect.is_some() {
                    return Err(CommandError::new(ErrorCode::WrongState, "connected already"));
                }
                let local_role = match command.role {
                    DtlsRole::Server => DtlsRole::Client,
                    _ => DtlsRole::Server,
                };
                state.dtls_local_role = Some(local_role);
                *connect = Some(command);
                return Ok(Reply::Connected { local_role });
            }
            C::ConnectPlainTransport(command) => {
                let Some(Resource::PlainTransport { created, connect, state, .. }) =
                    self.find_mut(&command.id)
                else {
                    return Err(missing());
                };
                if command.remote.is_some_and(|to| !to.ip().is_loopback()) {
                    return Err(CommandError::new(ErrorCode::Forbidden, "not allowed"));
                }
                if connect.is_some() {
                    return Err(CommandError::new(ErrorCode::WrongState, "connected already"));
                }
                state.tuple = command.remote.map(|remote| Tuple {
                    local: created.local,
                    remote,
                    protocol: Default::default(),
                });
                *connect = Some(command);
                return Ok(Reply::PlainTransportConnected((**created).clone()));
            }
            C::ConnectHop(command) => {
                let far = command.far;
                let ends = |one: &Resource| matches!(one, Resource::Hop { created, .. } if *created == far);
                assert!(self.resources.iter().any(ends), "there is no such end");
                match self.find_mut(&command.id) {
                    Some(Resource::Hop { connect, .. }) => *connect = Some(command),
                    _ => return Err(missing()),
                }
            }
            C::RestartIce(named) => {
                self.ice_restarts += 1;
                let number = self.ice_restarts;
                let Some(Resource::WebRtcTransport { created, .. }) = self.find_mut(&named.id)
                else {
                    return Err(missing());
                };
                created.ice_parameters.username_fragment = format!("restart{number}");
                return Ok(Reply::IceRestarted(created.ice_parameters.clone()));
            }
            C::SetTransportBitrates(set) => {
                let Some(Resource::WebRtcTransport { state, .. }) = self.find_mut(&set.id) else {
                    return Err(missing());
                };
                let apply = |limit: &mut u32, new: Option<u32>| *limit = new.unwrap_or(*limit);
                apply(&mut state.max_incoming_bps, set.max_incoming_bps);
                apply(&mut state.max_outgoing_bps, set.max_outgoing_bps);
                apply(&mut state.min_outgoing_bps, set.min_outgoing_bps);
            }
            C::PauseProducer(named) => self.pause_producer(&named.id, true)?,
            C::ResumeProducer(named) => self.pause_producer(&named.id, false)?,
            C::PauseConsumer(named) => self.consumer(&named.id)?.paused = true,
            C::ResumeConsumer(named) => self.consumer(&named.id)?.paused = false,
            C::SetPreferredLayers(set) => {
                self.consumer(&set.id)?.preferred_layers = Some(set.layers);
            }
            C::SetPriority(set) => self.consumer(&set.id)?.priority = set.priority,
            C::RequestKeyFrame(named) => drop(self.consumer(&named.id)?),
            C::ObserveProducer(observe) => {
                self.find(&observe.producer).ok_or_else(missing)?;
                self.observer(&observe.id)?.producers.push(observe.producer);
            }
            C::UnobserveProducer(observe) => {
                self.observer(&observe.id)?.producers.retain(|one| *one != observe.producer);
            }
            C::PauseObserver(named) => self.observer(&named.id)?.paused = true,
            C::ResumeObserver(named) => self.observer(&named.id)?.paused = false,
            C::SetSettings(_) => {}
            C::SetTrace(set) => {
                self.find(&set.id).ok_or_else(missing)?;
            }
            C::TransportStats(named) => {
                let mut stats = transport_stats();
                if let Some(bps) = self.knobs.bitrates.get(&named.id) {
                    (stats.send_bitrate, stats.recv_bitrate) = (*bps, 0);
                }
                return Ok(Reply::TransportStats(Box::new(stats)));
            }
            C::TakeCapture(take) => {
                self.find(&take.id).ok_or_else(missing)?;
                return Ok(Reply::Captured(captured()));
            }
            C::ProducerStats(_) => {
                let stats =
                    ProducerStats { stream: stream_stats(), bitrate_by_layer: Default::default() };
                return Ok(Reply::ProducerStats(vec![stats]));
            }
            C::ConsumerStats(_) => {
                let stats = ConsumerStats {
                    outbound: stream_stats(),
                    inbound: Some(stream_stats()),
                    layers_reason: Some(LayersReason::Bandwidth),
                    others: Vec::new(),
                };
                return Ok(Reply::ConsumerStats(Box::new(stats)));
            }
            C::Dump(named) => {
                let resource = self.find(&named.id).cloned().ok_or_else(missing)?;
                return Ok(Reply::Resource(Box::new(resource)));
            }
            _ => return Err(CommandError::new(ErrorCode::UnknownCommand, "not here")),
        }
        Ok(Reply::Done)
    }

    fn pause_producer(&mut self, id: &str, is_paused: bool) -> Result<(), CommandError> {
        let Some(Resource::Producer { state, .. }) = self.find_mut(id) else {
            return Err(CommandError::new(ErrorCode::NotFound, "there is no such producer"));
        };
        state.paused = is_paused;
        for resource in &mut self.resources {
            if let Resource::Consumer { create, state } = resource
                && create.producer == id
            {
                state.producer_paused = is_paused;
            }
        }
        Ok(())
    }

    fn consumer(&mut self, id: &str) -> Result<&mut ConsumerState, CommandError> {
        match self.find_mut(id) {
            Some(Resource::Consumer { state, .. }) => Ok(state),
            _ => Err(CommandError::new(ErrorCode::NotFound, "there is no such consumer")),
        }
    }

    fn observer(&mut self, id: &str) -> Result<&mut ObserverState, CommandError> {
        match self.find_mut(id) {
            Some(Resource::Observer { state, .. }) => Ok(state),
            _ => Err(CommandError::new(ErrorCode::NotFound, "there is no such observer")),
        }
    }

    fn check_new(&self, id: &str) -> Result<(), CommandError> {
        match self.find(id) {
            None => Ok(()),
            Some(_) => Err(CommandError::new(ErrorCode::AlreadyExists, "the id is taken")),
        }
    }

    fn find(&self, id: &str) -> Option<&Resource> {
        self.resources.iter().find(|one| id_of(one) == id)
    }

    fn find_mut(&mut self, id: &str) -> Option<&mut Resource> {
        self.resources.iter_mut().find(|one| id_of(one) == id)
    }

    /// Closes a resource and all below it.
    fn close(&mut self, id: &str) {
        let mut gone: BTreeSet<String> = [id.to_owned()].into();
        // Parents come before their children.
        self.resources.retain(|one| {
            let parents = match one {
                Resource::Router { .. } => vec![],
                Resource::WebRtcTransport { create, .. } => vec![&create.router],
                Resource::PlainTransport { create, .. } => vec![&create.router],
                Resource::Hop { create, .. } => vec![&create.router],
                Resource::Producer { create, .. } => vec![&create.transport],
                Resource::Consumer { create, .. } => vec![&create.transport, &create.producer],
                Resource::Observer { create, .. } => vec![&create.router],
            };
            let is_gone =
                gone.contains(id_of(one)) || parents.iter().any(|parent| gone.contains(*parent));
            if is_gone {
                gone.insert(id_of(one).to_owned());
            }
            !is_gone
        });
        for resource in &mut self.resources {
            if let Resource::Observer { state, .. } = resource {
                state.producers.retain(|one| !gone.contains(one));
            }
        }
    }
}

/// The command's variant.
pub fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Workers => "Workers",
        Command::Snapshot => "Snapshot",
        Command::CreateRouter(_) => "CreateRouter",
        Command::CloseRouter(_) => "CloseRouter",
        Command::CreateWebRtcTransport(_) => "CreateWebRtcTransport",
        Command::ConnectTransport(_) => "ConnectTransport",
        Command::CreatePlainTransport(_) => "CreatePlainTransport",
        Command::ConnectPlainTransport(_) => "ConnectPlainTransport",
        Command::CreateHop(_) => "CreateHop",
        Command::ConnectHop(_) => "ConnectHop",
        Command::RestartIce(_) => "RestartIce",
        Command::SetTransportBitrates(_) => "SetTransportBitrates",
        Command::CloseTransport(_) => "CloseTransport",
        Command::Produce(_) => "Produce",
        Command::PauseProducer(_) => "PauseProducer",
        Command::ResumeProducer(_) => "ResumeProducer",
        Command::CloseProducer(_) => "CloseProducer",
        Command::Consume(_) => "Consume",
        Command::PauseConsumer(_) => "PauseConsumer",
        Command::ResumeConsumer(_) => "ResumeConsumer",
        Command::SetPreferredLayers(_) => "SetPreferredLayers",
        Command::SetPriority(_) => "SetPriority",
        Command::RequestKeyFrame(_) => "RequestKeyFrame",
        Command::CloseConsumer(_) => "CloseConsumer",
        Command::CreateObserver(_) => "CreateObserver",
        Command::ObserveProducer(_) => "ObserveProducer",
        Command::UnobserveProducer(_) => "UnobserveProducer",
        Command::PauseObserver(_) => "PauseObserver",
        Command::ResumeObserver(_) => "ResumeObserver",
        Command::CloseObserver(_) => "CloseObserver",
        Command::TransportStats(_) => "TransportStats",
        Command::ProducerStats(_) => "ProducerStats",
        Command::ConsumerStats(_) => "ConsumerStats",
        Command::Dump(_) => "Dump",
        Command::Process => "Process",
        Command::SetSettings(_) => "SetSettings",
        Command::Hottest(_) => "Hottest",
        Command::TakeCapture(_) => "TakeCapture",
        Command::SetTrace(_) => "SetTrace",
        #[allow(unreachable_patterns)]
        _ => "Other",
    }
}

fn id_of(resource: &Resource) -> &str {
    match resource {
        Resource::Router { create, .. } => &create.id,
        Resource::WebRtcTransport { create, .. } => &create.id,
        Resource::PlainTransport { create, .. } => &create.id,
        Resource::Hop { create, .. } => &create.id,
        Resource::Producer { create, .. } => &create.id,
        Resource::Consumer { create, .. } => &create.id,
        Resource::Observer { create, .. } => &create.id,
    }
}

fn created(id: &str) -> TransportCreated {
    TransportCreated {
        ice_parameters: IceParameters {
            username_fragment: format!("u{id}"),
            password: "a-password-of-the-fake".into(),
        },
        ice_candidates: vec![IceCandidate {
            foundation: "udp".into(),
            priority: 2_113_937_151,
            address: "127.0.0.1".into(),
            protocol: "udp".into(),
            port: 40_000,
        }],
        dtls_fingerprints: vec![DtlsFingerprint {
            algorithm: "sha-256".into(),
            value: ["AB"; 32].join(":"),
        }],
    }
}

fn captured() -> Captured {
    let tuple = Tuple {
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: "198.51.100.7:50000".parse().unwrap(),
        protocol: Default::default(),
    };
    let packet = Packet { at_unix_ns: 1, is_sent: true, len: 1_000, bytes: vec![0x80; 12] };
    Captured { tuple: Some(tuple), packets: vec![packet], dropped: 1 }
}

pub fn transport_stats() -> TransportStats {
    TransportStats {
        timestamp_ms: 1,
        ice_state: IceState::Completed,
        tuple: None,
        rtcp_tuple: None,
        dtls_state: DtlsState::Connected,
        dtls_local_role: None,
        bytes_received: 10,
        recv_bitrate: 80,
        bytes_sent: 20,
        send_bitrate: 160,
        rtp_bytes_received: 0,
        rtp_recv_bitrate: 0,
        rtp_bytes_sent: 0,
        rtp_send_bitrate: 0,
        rtx_bytes_received: 0,
        rtx_recv_bitrate: 0,
        rtx_bytes_sent: 0,
        rtx_send_bitrate: 0,
        available_outgoing_bitrate: Some(600_000),
        available_incoming_bitrate: None,
        max_incoming_bitrate: 0,
        max_outgoing_bitrate: 0,
        min_outgoing_bitrate: 0,
        rtp_packet_loss_received: None,
        rtp_packet_loss_sent: None,
    }
}

fn stream_stats() -> StreamStats {
    StreamStats {
        timestamp_ms: 1,
        ssrc: 7,
        rtx_ssrc: None,
        rid: None,
        kind: MediaKind::Video,
        mime_type: "video/VP8".into(),
        packets_lost: -1,
        fraction_lost: 0,
        jitter: 900,
        packets_discarded: 0,
        packets_retransmitted: 0,
        packets_repaired: 0,
        nack_count: 0,
        nack_packet_count: 0,
        pli_count: 0,
        fir_count: 0,
        round_trip_time: None,
        score: 9,
        packet_count: 3,
        byte_count: 300,
        bitrate: 2_400,
    }
}
