//! The hub against a worker that is only a mailbox, and a control plane that is only a socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::{
        atomic::Ordering,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use ironcast_config::Config;
use ironcast_core::figures::ResourceState;
use ironcast_driver::mailbox::{self, Mail};
use ironcast_protocol::{
    command::{self, Consume, CreateRouter, CreateWebRtcTransport, Dump, Named, Produce},
    frame::FrameBuffer,
    hop::{CreateHop, HopEnd},
    media::{MediaKind, RtpEncoding, RtpParameters, RtpType},
    observer::{CreateObserver, Method},
    plain::{CreatePlainTransport, PlainTransportCreated},
    snapshot::{Resource, ResourceCounts, SnapshotPart},
};

use super::*;
use crate::connection::{Identity, Server, Turn};

const US: u64 = 1;

struct Stage {
    hub: Hub,
    inbox: Receiver<ToHub>,
    worker: mailbox::Receiver<ToWorker>,
    mail: Mail<ToWorker>,
    socket: UnixStream,
    frames: FrameBuffer,
    parts: Vec<Resource>,
    next_request: u64,
    server: Server,
}

impl Stage {
    /// A worker whose mailbox holds so many messages.
    fn new(capacity: usize) -> Self {
        let event_seq = Arc::<AtomicU64>::default();
        let counters = Arc::<Counters>::default();
        let (to_hub, inbox) = channel();
        let parts = Parts {
            cores: vec![0],
            event_seq: Arc::clone(&event_seq),
            counters: Arc::clone(&counters),
            lives: Lives::new(1).0,
            settings: Arc::new(Settings::new(&Config::default(), Arc::new(|_| {}))),
            drain: Duration::from_secs(60),
            test_hooks: true,
        };
        let mut hub = Hub::new(parts);
        let (mailbox, worker) = mailbox::mailbox(capacity).unwrap();
        hub.receive(ToHub::Running { worker: 0, mailbox });
        let (ours, socket) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let identity = Identity { boot_id: String::new(), event_seq };
        let server = Server { identity, queue_bytes_max: 64 << 20, counters, hub: to_hub };
        let connection = server.open(US, "us".into(), &ours, &Arc::new(())).unwrap();
        hub.receive(ToHub::Attached(connection));
        let (mail, frames, parts) = (Mail::with_room(capacity), FrameBuffer::default(), Vec::new());
        Self { hub, inbox, worker, mail, socket, frames, parts, next_request: 1, server }
    }

    /// Another control plane: its end, and the hub's.
    fn connection(&self, id: u64, name: &str) -> (UnixStream, Connection) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (theirs, self.server.open(id, name.into(), &ours, &Arc::new(())).unwrap())
    }

    /// True when the hub reads no more of us.
    fn is_ended(&mut self) -> bool {
        self.socket.write(b"anything").is_err()
    }

    fn ask(&mut self, command: &Command) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let body = frame::encode_body(command).unwrap();
        let frame = Frame { kind: FrameKind::Request, id, body };
        self.hub.take(ToHub::Frame { connection: US, frame, turn: Turn::default() });
        id
    }

    /// What lies in the worker's mailbox.
    fn mail(&mut self) -> Option<ToWorker> {
        assert!(self.worker.take(&mut self.mail));
        self.mail.commands.pop_front()
    }

    fn answer(&mut self, token: u64, answer: Result<Answer, CommandError>) {
        self.hub.take(ToHub::Answer { token, answer });
    }

    /// Takes a command out of the worker's mailbox and says that it is done.
    fn work(&mut self) -> Command {
        let Some(ToWorker::Command { token, command }) = self.mail() else { panic!("no command") };
        self.answer(token, Ok(Answer::Reply(Reply::Done)));
        *command
    }

    /// Answers the next question for states with what it asks for; gives how many those are.
    fn tell_states(&mut self) -> Option<usize> {
        let ToWorker::States { token, names } = self.mail()? else { panic!("not a question") };
        let count = names.len();
        let states = names.into_iter().map(|name| (name, ResourceState::Router)).collect();
        self.answer(token, Ok(Answer::States(states)));
        Some(count)
    }

    fn reply(&mut self, request: u64) -> Result<Reply, CommandError> {
        loop {
            while let Some(frame) = self.frames.take().unwrap() {
                match frame.kind {
                    FrameKind::Response if frame.id == request => {
                        return frame::decode_body(&frame.body).unwrap();
                    }
                    FrameKind::SnapshotPart => {
                        let part: SnapshotPart = frame::decode_body(&frame.body).unwrap();
                        self.parts.extend(part.resources);
                    }
                    _ => {}
                }
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let mut chunk = vec![0; 1 << 20];
        let len = self.socket.read(&mut chunk).expect("the hub says something");
        assert!(len > 0, "the hub ended the connection");
        self.frames.space().extend_from_slice(&chunk[..len]);
    }

    /// In the room `there`, made without telling the worker: a transport of each kind, and on these a
    /// track with two encodings, who gets it, and who listens.
    fn make_one_of_each(&mut self) {
        let note = Vec::new;
        let router = || "there".to_owned();
        let registry = &mut self.hub.registry;
        registry.add(&transport("webrtc", "there"), 1).unwrap();
        let created = TransportCreated {
            ice_parameters: command::IceParameters {
                username_fragment: "ours".into(),
                password: "secret".into(),
            },
            ice_candidates: Vec::new(),
            dtls_fingerprints: Vec::new(),
        };
        registry.set_created("webrtc", 1, &created);
        let create = CreatePlainTransport {
            id: "plain".into(),
            router: router(),
            listen: None,
            port: None,
            rtcp_mux: true,
            comedia: true,
            srtp_suite: None,
            pipe: false,
            note: note(),
        };
        registry.add(&Command::CreatePlainTransport(create), 1).unwrap();
        let local = ([127, 0, 0, 1], 5_004).into();
        let created = PlainTransportCreated { local, rtcp_local: None, srtp: None };
        registry.set_created("plain", 1, &created);
        let create = CreateHop { id: "hop".into(), router: router(), note: note() };
        registry.add(&Command::CreateHop(create), 1).unwrap();
        registry.set_created("hop", 1, &HopEnd { worker: 0, slot: 3, generation: 1 });
        let parameters = RtpParameters {
            encodings: vec![RtpEncoding::default(); 2],
            ..RtpParameters::default()
        };
        let produce = Produce {
            id: "track".into(),
            transport: "webrtc".into(),
            kind: MediaKind::Video,
            rtp_parameters: parameters.clone(),
            rtp_mapping: Default::default(),
            paused: true,
            key_frame_request_delay_ms: 0,
            note: note(),
        };
        registry.add(&Command::Produce(produce), 1).unwrap();
        let consume = Consume {
            id: "seen".into(),
            transport: "plain".into(),
            producer: "track".into(),
            rtp_parameters: parameters,
            rtp_type: RtpType::Simulcast,
            paused: true,
            preferred_layers: None,
            ignore_dtx: false,
            note: note(),
        };
        registry.add(&Command::Consume(consume), 1).unwrap();
        let create = CreateObserver {
            id: "listens".into(),
            router: router(),
            method: Method::ActiveSpeaker { interval_ms: 300 },
            note: note(),
        };
        registry.add(&Command::CreateObserver(create), 1).unwrap();
    }

    /// Rooms with notes of so many bytes, made without telling anybody.
    fn fill(&mut self, rooms: usize, note: usize) {
        for room in 0..rooms {
            let id = format!("room-{room:05}");
            let create =
                CreateRouter { id, worker: 0, selection: Default::default(), note: vec![7; note] };
            self.hub.registry.add(&Command::CreateRouter(create), 1).unwrap();
        }
    }
}

fn room(id: &str) -> Command {
    Command::CreateRouter(CreateRouter {
        id: id.into(),
        worker: 0,
        selection: Default::default(),
        note: Vec::new(),
    })
}

fn transport(id: &str, router: &str) -> Command {
    Command::CreateWebRtcTransport(CreateWebRtcTransport {
        id: id.into(),
        router: router.into(),
        consent_timeout_s: 30,
        initial_available_outgoing_bitrate_bps: 0,
        candidates: Default::default(),
        note: Vec::new(),
        disconnected_timeout_s: 0,
    })
}

fn close(id: &str) -> Command {
    Command::CloseRouter(Named { id: id.into() })
}

fn code(reply: Result<Reply, CommandError>) -> ErrorCode {
    reply.expect_err("it is refused").code
}

#[test]
fn a_close_that_no_worker_takes_changes_nothing() {
    let mut stage = Stage::new(2);
    for id in ["a", "b"] {
        stage.ask(&room(id));
        stage.work();
    }
    stage.ask(&transport("t", "a"));
    stage.work();
    // The mailbox is full.
    stage.ask(&close("b"));
    stage.ask(&room("c"));
    for _ in 0..2 {
        let refused = stage.ask(&close("a"));
        assert_eq!(code(stage.reply(refused)), ErrorCode::Busy);
        let refused = stage.ask(&room("d"));
        assert_eq!(code(stage.reply(refused)), ErrorCode::Busy);
    }
    assert_eq!((stage.work(), stage.work()), (close("b"), room("c")));
    // Everything is there, and what could not be made is not.
    let closed = stage.ask(&Command::CloseTransport(Named { id: "t".into() }));
    stage.work();
    assert_eq!(stage.reply(closed), Ok(Reply::Done));
    let closed = stage.ask(&close("a"));
    assert_eq!(stage.work(), close("a"));
    assert_eq!(stage.reply(closed), Ok(Reply::Done));
    let gone = stage.ask(&close("d"));
    assert_eq!(code(stage.reply(gone)), ErrorCode::NotFound);
}

#[test]
fn a_name_is_free_as_soon_as_its_close_is_taken() {
    let mut stage = Stage::new(16);
    let first = stage.ask(&room("x"));
    let closed = stage.ask(&close("x"));
    let second = stage.ask(&room("x"));
    // The first was refused by the worker: the second has nothing to do with it.
    let Some(ToWorker::Command { token, .. }) = stage.mail() else { panic!("no command") };
    stage.answer(token, Err(CommandError::new(ErrorCode::NoCapacity, "full")));
    assert_eq!(code(stage.reply(first)), ErrorCode::NoCapacity);
    let Some(ToWorker::Command { token, .. }) = stage.mail() else { panic!("no command") };
    stage.answer(token, Err(CommandError::new(ErrorCode::NotFound, "it was never there")));
    assert_eq!(code(stage.reply(closed)), ErrorCode::NotFound);
    assert_eq!(stage.work(), room("x"));
    assert_eq!(stage.reply(second), Ok(Reply::Done));
    let third = stage.ask(&room("x"));
    assert_eq!(code(stage.reply(third)), ErrorCode::AlreadyExists);
}

#[test]
fn a_snapshot_is_asked_for_in_portions_and_counts_what_it_sent() {
    let mut stage = Stage::new(2);
    stage.fill(2_000, 10);
    let asked = stage.ask(&Command::Snapshot);
    let again = stage.ask(&Command::Snapshot);
    assert_eq!(code(stage.reply(again)), ErrorCode::NoCapacity);
    let mut told = 0;
    while let Some(count) = stage.tell_states() {
        assert!(count <= 256, "{count} in one turn of the worker");
        assert!(stage.mail.is_empty(), "one question at a time");
        told += count;
    }
    assert_eq!(told, 2_000);
    let counts = Some(ResourceCounts { routers: 2_000, ..ResourceCounts::default() });
    assert_eq!(stage.reply(asked), Ok(Reply::Snapshot { event_seq: 1, counts }));
    assert_eq!(stage.parts.len(), 2_000);
}

/// The state of an observer names all whom it listens to.
#[test]
fn few_observers_are_asked_for_at_once() {
    let mut stage = Stage::new(2);
    stage.fill(1, 10);
    for number in 0..30 {
        let create = CreateObserver {
            id: number.to_string(),
            router: "room-00000".into(),
            method: Method::ActiveSpeaker { interval_ms: 300 },
            note: Vec::new(),
        };
        stage.hub.registry.add(&Command::CreateObserver(create), 1).unwrap();
    }
    stage.ask(&Command::Snapshot);
    let asked: Vec<_> = std::iter::from_fn(|| stage.tell_states()).collect();
    assert_eq!(asked, [1, 8, 8, 8, 6]);
}

#[test]
fn parts_are_cut_where_a_frame_is_full_and_wait_for_who_reads_them() {
    let mut stage = Stage::new(2);
    stage.fill(1_500, MAX_NOTE_BYTES);
    let asked = stage.ask(&Command::Snapshot);
    let mut told = 0;
    while let Some(count) = stage.tell_states() {
        told += count;
    }
    assert!(told < 1_500, "it waits: {told} were sent unread");
    while told < 1_500 {
        stage.read();
        while let Ok(message) = stage.inbox.try_recv() {
            stage.hub.take(message);
        }
        while let Some(count) = stage.tell_states() {
            told += count;
        }
    }
    let reply = loop {
        // The last portion may have left it behind once more.
        while let Ok(message) = stage.inbox.try_recv() {
            stage.hub.take(message);
        }
        if stage.hub.snapshot.is_none() {
            break stage.reply(asked);
        }
        stage.read();
    };
    let Ok(Reply::Snapshot { counts, .. }) = reply else { panic!("{reply:?}") };
    assert_eq!(counts.unwrap().routers, 1_500);
    assert_eq!(stage.parts.len(), 1_500);
}

#[test]
fn a_snapshot_that_cannot_be_completed_is_an_error() {
    let mut stage = Stage::new(1);
    stage.fill(1_000, 10);
    let asked = stage.ask(&Command::Snapshot);
    let question = stage.mail();
    // Somebody else's command fills the mailbox before the next portion.
    stage.ask(&close("room-00000"));
    let Some(ToWorker::States { token, .. }) = question else { panic!("no question") };
    stage.answer(token, Ok(Answer::States(Vec::new())));
    assert_eq!(code(stage.reply(asked)), ErrorCode::Busy);
    // It can be asked for again.
    stage.work();
    let asked = stage.ask(&Command::Snapshot);
    while stage.tell_states().is_some() {}
    let Ok(Reply::Snapshot { counts, .. }) = stage.reply(asked) else { panic!("refused") };
    assert_eq!(counts.unwrap().routers, 999);
}

#[test]
fn a_dump_asks_for_one_resource_of_the_kind_that_is_meant() {
    let mut stage = Stage::new(4);
    stage.fill(2, 0);
    let dump = |kind| Command::Dump(Dump { id: "room-00001".into(), kind });
    for kind in [None, Some(Kind::Router)] {
        let asked = stage.ask(&dump(kind));
        assert_eq!(stage.tell_states(), Some(1));
        assert!(matches!(stage.reply(asked), Ok(Reply::Resource(_))));
    }
    let asked = stage.ask(&dump(Some(Kind::Consumer)));
    assert_eq!(code(stage.reply(asked)), ErrorCode::NotFound);
}

#[test]
fn a_fault_of_the_hub_is_answered_and_nothing_else_happens() {
    let mut stage = Stage::new(4);
    let asked = stage.ask(&room("__panic_hub"));
    assert_eq!(code(stage.reply(asked)), ErrorCode::Internal);
    let asked = stage.ask(&Command::Process);
    let Ok(Reply::Process(stats)) = stage.reply(asked) else { panic!("no counts") };
    assert_eq!(stats.counters["hub_panics"], 1);
}

#[test]
fn settings_are_taken_or_refused_as_a_whole() {
    let mut stage = Stage::new(4);
    let announced = vec![command::Announced { ip: [203, 0, 113, 7].into(), port: None }];
    let settings = command::Settings { announced, log_filter: "warn".into() };
    let asked = stage.ask(&Command::SetSettings(settings.clone()));
    assert_eq!(stage.reply(asked), Ok(Reply::Done));
    let wrong = command::Settings { log_filter: "ironcast=loud".into(), ..settings };
    let asked = stage.ask(&Command::SetSettings(wrong));
    assert_eq!(code(stage.reply(asked)), ErrorCode::Invalid);
}

#[test]
fn a_worker_that_is_too_busy_to_answer_is_not_taken_for_dead() {
    let mut stage = Stage::new(1);
    let asked = stage.ask(&Command::Workers);
    let Some(ToWorker::Command { token, .. }) = stage.mail() else { panic!("no question") };
    let stats = WorkerStats { running: true, routers: 7, ..WorkerStats::default() };
    stage.answer(token, Ok(Answer::Reply(Reply::Workers(vec![stats.clone()]))));
    assert_eq!(stage.reply(asked), Ok(Reply::Workers(vec![stats.clone()])));
    stage.ask(&room("fills-the-mailbox"));
    let asked = stage.ask(&Command::Workers);
    assert_eq!(stage.reply(asked), Ok(Reply::Workers(vec![stats])));
    stage.hub.take(ToHub::Died { worker: 0, reason: "a test".into() });
    let asked = stage.ask(&Command::Workers);
    let Ok(Reply::Workers(stopped)) = stage.reply(asked) else { panic!("no figures") };
    assert!(!stopped[0].running);
}

#[test]
fn a_worker_that_cannot_start_says_each_reason_once_and_is_counted_each_time() {
    let mut stage = Stage::new(1);
    let events = |stage: &Stage| stage.hub.parts.event_seq.load(Ordering::SeqCst);
    let before = events(&stage);
    let reasons = ["a panic", "no files", "no files", "no files", "no memory", "no files"];
    let told = reasons.map(|reason| {
        stage.hub.take(ToHub::Died { worker: 0, reason: reason.into() });
        events(&stage) - before
    });
    assert_eq!(told, [1, 2, 2, 2, 3, 4]);
    assert_eq!(stage.hub.parts.counters.process_stats().counters["worker_failures"], 6);
    // One that ran and ends is told, whatever it says.
    let (mailbox, _worker) = mailbox::mailbox(1).unwrap();
    stage.hub.receive(ToHub::Running { worker: 0, mailbox });
    stage.hub.take(ToHub::Died { worker: 0, reason: "no files".into() });
    assert_eq!(events(&stage) - before, 6);
}

#[test]
fn nobody_waits_for_a_worker_that_is_stuck_and_the_state_is_taken_anew_when_it_moves() {
    let mut stage = Stage::new(64);
    stage.ask(&room("there"));
    stage.work();
    stage.make_one_of_each();
    let there =
        ResourceCounts { routers: 1, transports: 3, producers: 1, consumers: 1, observers: 1 };
    let asked = [&room("waits"), &Command::Workers, &Command::Snapshot].map(|one| stage.ask(one));
    stage.hub.take(ToHub::Stuck { worker: 0 });
    let [room_waits, workers, snapshot] = asked.map(|request| stage.reply(request));
    assert_eq!(code(room_waits), ErrorCode::WorkerUnavailable);
    let Ok(Reply::Workers(workers)) = workers else { panic!("no figures") };
    assert!(!workers[0].running, "it gets no rooms");
    // What has been made is told, and what waits is not known to be made.
    let Ok(Reply::Snapshot { counts, .. }) = snapshot else { panic!("{snapshot:?}") };
    assert_eq!(counts, Some(there));
    let kinds = |parts: &[Resource]| {
        let mut counts = ResourceCounts::default();
        parts.iter().for_each(|one| counts.count(one.kind()));
        counts
    };
    assert_eq!(kinds(&std::mem::take(&mut stage.parts)), there);
    // Whatever is asked now is answered now.
    for refused in [room("refused"), room("there"), room("waits"), close("there")] {
        let asked = stage.ask(&refused);
        assert_eq!(code(stage.reply(asked)), ErrorCode::WorkerUnavailable, "{refused:?}");
    }
    let asked = [&Command::Snapshot, &Command::Workers].map(|one| stage.ask(one));
    let [snapshot, workers] = asked.map(|request| stage.reply(request));
    assert!(matches!(snapshot, Ok(Reply::Snapshot { .. })) && workers.is_ok());
    assert_eq!(kinds(&stage.parts), there);
    let resource = |kind| stage.parts.iter().find(|one| one.kind() == kind).unwrap();
    let Resource::Producer { state, .. } = resource(Kind::Producer) else { panic!("another") };
    assert_eq!((state.rtp_type, state.paused), (RtpType::Simulcast, true));
    let Resource::Consumer { state, .. } = resource(Kind::Consumer) else { panic!("another") };
    assert!(state.paused);
    let counts = stage.hub.parts.counters.process_stats().counters;
    assert_eq!(counts["workers_stuck"], 1);
    // It goes on with what it has.
    stage.hub.take(ToHub::Moves { worker: 0 });
    assert_eq!(stage.work(), room("waits"));
    assert!(stage.is_ended(), "the control plane attaches again");
    assert!(stage.hub.registry.entry(Kind::Router, "waits").is_some());
    assert!(stage.hub.registry.entry(Kind::Router, "refused").is_none());
}

#[test]
fn who_gives_way_fences_nobody_and_who_asks_is_told_who_is_attached() {
    let mut stage = Stage::new(4);
    let attached = |stage: &mut Stage| {
        let (tell, told) = channel();
        stage.hub.take(ToHub::Watch(tell));
        told.recv().expect("an answer")
    };
    assert_eq!(attached(&mut stage).as_deref(), Some("us"));
    let (mut theirs, mut connection) = stage.connection(US + 1, "stands by");
    connection.gives_way = true;
    stage.hub.take(ToHub::Attached(connection));
    let asked = stage.ask(&Command::Process);
    assert!(stage.reply(asked).is_ok(), "we are still attached");
    stage.hub.take(ToHub::Detached { connection: US + 1 });
    let mut said = Vec::new();
    theirs.read_to_end(&mut said).expect("it is let go");
    assert!(String::from_utf8_lossy(&said).contains("fenced"), "{said:?}");
    stage.hub.take(ToHub::Detached { connection: US });
    assert_eq!(attached(&mut stage), None);
    let (_theirs, mut connection) = stage.connection(US + 2, "stands by");
    connection.gives_way = true;
    stage.hub.take(ToHub::Attached(connection));
    assert_eq!(attached(&mut stage).as_deref(), Some("stands by"));
}

#[test]
fn told_to_end_it_waits_for_its_rooms_and_says_until_when() {
    let mut stage = Stage::new(16);
    let request = stage.ask(&room("room"));
    stage.work();
    stage.reply(request).unwrap();
    let now = Instant::now();
    assert!(!stage.hub.is_drained(now), "nobody told it to end");
    stage.hub.take(ToHub::Drain);
    let request = stage.ask(&Command::Process);
    let Ok(Reply::Process(stats)) = stage.reply(request) else { panic!("no figures") };
    assert!(stats.drains_until_ms.is_some());
    assert!(!stage.hub.is_drained(now) && !stage.hub.is_drained(now), "there is a room");
    stage.ask(&close("room"));
    assert!(!stage.hub.is_drained(now) && !stage.hub.is_drained(now), "it is being closed");
    stage.work();
    assert!(!stage.hub.is_drained(now), "the answer is being written");
    assert!(stage.hub.is_drained(now));
}

#[test]
fn it_does_not_wait_for_ever_and_alone_not_for_empty_rooms() {
    let mut stage = Stage::new(16);
    stage.fill(1, 0);
    stage.hub.take(ToHub::Drain);
    let now = Instant::now();
    assert!(!stage.hub.is_drained(now + Duration::from_secs(61)), "the control plane closes it");
    assert!(stage.hub.is_drained(now + Duration::from_secs(63)));
    stage.hub.take(ToHub::Detached { connection: US });
    assert!(!stage.hub.is_drained(now));
    assert!(stage.hub.is_drained(now), "nobody is in it, and nobody can close it");
}
