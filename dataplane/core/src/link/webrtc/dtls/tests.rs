//! When a handshake begins, and what the peer of a transport that closes is told.

use ironcast_protocol::command::{CreateRouter, CreateWebRtcTransport, DtlsRole};

use super::*;
use crate::{
    Arrival, MS, SECOND,
    batch::{Batch, PathId, SLAB_BYTES, Slab},
    link::webrtc::ice::Credentials,
    srtp::{SoftwareSealer, Suite},
    wire::stun,
    worker::{Ingress, Limits},
};

const NOW: Nanos = 1_000 * MS;
const GOODBYE: &[u8] = b"sealed by the handshake";
const PATH: PathId = PathId { slot: 3, generation: 1 };

fn credentials() -> Credentials {
    Credentials { username_fragment: "00peer".into(), password: "p".repeat(24) }
}

fn worker() -> (Worker, u64) {
    let limits = Limits { takes_dtls_in_stun: true, ..Limits::default() };
    let mut worker = Worker::new(0, limits);
    let create = CreateRouter {
        id: "room".into(),
        worker: 0,
        selection: Default::default(),
        note: Vec::new(),
    };
    worker.apply_create_router(&create).unwrap();
    let create = CreateWebRtcTransport {
        id: "peer".into(),
        router: "room".into(),
        consent_timeout_s: 30,
        disconnected_timeout_s: 10,
        initial_available_outgoing_bitrate_bps: 0,
        candidates: Default::default(),
        note: Vec::new(),
    };
    let token = worker.apply_create_transport(&create, credentials(), NOW).unwrap();
    (worker, token)
}

/// An authenticated check, and its path.
fn check(worker: &mut Worker, token: u64) {
    check_with(worker, token, None, &credentials().password);
}

/// A check that carries DTLS.
fn check_with(worker: &mut Worker, token: u64, dtls: Option<&[u8]>, password: &str) {
    let request = stun::Request {
        transaction_id: [7; 12],
        username: "00peer:x",
        priority: 1,
        role: stun::Role::Controlling(1),
        use_candidate: true,
        nomination: None,
        dtls,
    };
    let mut check = [0; 1_400];
    let len = stun::write_request(&mut check, &request, password.as_bytes()).unwrap();
    let (local, remote) = (([10, 0, 0, 1], 40_000).into(), ([10, 0, 0, 2], 10_000).into());
    worker.receive(Ingress::Listener { local, remote }, &check[..len], Arrival::at(NOW));
    worker.path_opened(token, local, remote, Some(PATH), NOW);
}

fn starts(worker: &mut Worker) -> usize {
    let actions = std::mem::take(worker.actions());
    actions.iter().filter(|action| matches!(action, Action::StartDtls { .. })).count()
}

fn closes(worker: &mut Worker) -> bool {
    std::mem::take(worker.actions()).contains(&Action::ClosePath(PATH))
}

/// The datagrams of a turn.
fn drain(worker: &mut Worker) -> Vec<(PathId, Vec<u8>)> {
    let slab = || Slab { bytes: vec![0; SLAB_BYTES].into_boxed_slice() };
    let mut batch = Batch::new(vec![slab(), slab()]);
    assert!(!worker.drain(&mut batch, &mut SoftwareSealer, NOW));
    let bytes = |send: &crate::batch::SendRun| {
        let from = send.offset as usize;
        batch.filled[send.slab as usize].bytes[from..from + send.len as usize].to_vec()
    };
    batch.sends.iter().map(|send| (send.path, bytes(send))).collect()
}

#[test]
fn a_handshake_begins_once_when_there_is_a_pair() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let (mut worker, token) = worker();
        worker.apply_connect_transport("peer", role, NOW).unwrap();
        assert_eq!(starts(&mut worker), 0);
        check(&mut worker, token);
        assert_eq!(starts(&mut worker), 1);
        check(&mut worker, token);
        assert_eq!(starts(&mut worker), 0);
    }
}

#[test]
fn with_a_pair_it_begins_when_the_transport_is_connected() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let (mut worker, token) = worker();
        check(&mut worker, token);
        assert_eq!(starts(&mut worker), 0);
        worker.apply_connect_transport("peer", role, NOW).unwrap();
        assert_eq!(starts(&mut worker), 1);
    }
}

fn connected() -> (Worker, u64) {
    let (mut worker, token) = worker();
    worker.apply_connect_transport("peer", DtlsRole::Server, NOW).unwrap();
    check(&mut worker, token);
    let master = MasterKey::new(Suite::AeadAes128Gcm, &[1; 16], &[1; 12]).unwrap();
    worker.dtls_connected(token, &master, &master, NOW);
    worker.dtls_goodbye(token, GOODBYE.to_vec());
    worker.actions().clear();
    drain(&mut worker);
    (worker, token)
}

#[test]
fn the_peer_is_told_before_its_path_closes() {
    let close: [fn(&mut Worker); 2] = [
        |worker| drop(worker.apply_close_transport("peer").unwrap()),
        |worker| drop(worker.apply_close_router("room").unwrap()),
    ];
    for close in close {
        let (mut worker, _) = connected();
        close(&mut worker);
        assert!(!closes(&mut worker));
        assert_eq!(drain(&mut worker), [(PATH, GOODBYE.to_vec())]);
        assert_eq!(worker.deadline(), Some(0));
        assert!(closes(&mut worker));
        assert!(drain(&mut worker).is_empty());
    }
}

#[test]
fn at_the_end_of_the_process_every_peer_is_told() {
    let (mut worker, _) = connected();
    worker.say_goodbye_to_all();
    assert_eq!(drain(&mut worker), [(PATH, GOODBYE.to_vec())]);
}

#[test]
fn who_has_said_goodbye_is_answered_and_not_told_again() {
    let (mut worker, token) = connected();
    worker.dtls_output(token, b"the answer", NOW);
    worker.dtls_closed(token);
    assert!(!closes(&mut worker));
    assert_eq!(drain(&mut worker), [(PATH, b"the answer".to_vec())]);
    assert!(closes(&mut worker));
}

#[test]
fn who_does_not_check_any_more_is_sent_nothing() {
    let (mut worker, _) = connected();
    for second in 0..60 {
        worker.expire(NOW + second * SECOND);
    }
    assert!(worker.transports.is_empty());
    assert!(closes(&mut worker));
    assert!(drain(&mut worker).is_empty());
}

#[test]
fn without_keys_there_is_nothing_to_say() {
    let (mut worker, token) = worker();
    check(&mut worker, token);
    drain(&mut worker);
    worker.dtls_goodbye(token, GOODBYE.to_vec());
    worker.apply_close_transport("peer").unwrap();
    assert!(closes(&mut worker));
    assert!(drain(&mut worker).is_empty());
}

#[test]
fn a_failure_says_why_and_once() {
    let (mut worker, token) = worker();
    worker.events().clear();
    assert_eq!(worker.dtls_failed(token, DtlsFailure::Certificate), Some("peer"));
    worker.dtls_failed(token, DtlsFailure::Timeout);
    let (transport, state) = ("peer".into(), DtlsState::Failed);
    let reason = Some(DtlsFailure::Certificate);
    let event = Event::DtlsStateChange { transport, state, srtp_profile: None, reason };
    assert_eq!(*worker.events(), [event]);
}

const CLIENT_HELLO: &[u8] = &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What a turn's answers to checks say of DTLS: none, or what has come.
fn acks(worker: &mut Worker) -> Vec<Option<Vec<u8>>> {
    let answers = drain(worker);
    let ack = |(_, bytes): &(PathId, Vec<u8>)| {
        let message = stun::Message::parse(bytes).unwrap();
        assert!(message.verify_integrity(credentials().password.as_bytes()));
        assert_eq!((message.class, message.dtls), (stun::Class::Success, None));
        message.dtls_ack.map(<[u8]>::to_vec)
    };
    answers.iter().map(ack).collect()
}

fn handed_over(worker: &mut Worker) -> Vec<Vec<u8>> {
    let actions = std::mem::take(worker.actions());
    let datagrams = actions.into_iter().filter_map(|action| match action {
        Action::Dtls { datagram, .. } => Some(datagram),
        _ => None,
    });
    datagrams.collect()
}

#[test]
fn a_handshake_may_begin_in_a_check() {
    let (mut worker, token) = worker();
    worker.apply_connect_transport("peer", DtlsRole::Server, NOW).unwrap();
    let password = credentials().password;
    let hash = stun::dtls_hash(CLIENT_HELLO).to_be_bytes().to_vec();
    // The first one waits for its path, the second is of a known one.
    for _ in 0..2 {
        check_with(&mut worker, token, Some(CLIENT_HELLO), &password);
        assert_eq!(acks(&mut worker), [Some(hash.clone())]);
        assert_eq!(handed_over(&mut worker), [CLIENT_HELLO]);
    }
    // Who has nothing to say now is told that we take it.
    check_with(&mut worker, token, Some(&[]), &password);
    assert_eq!((acks(&mut worker), handed_over(&mut worker)), (vec![Some(Vec::new())], vec![]));
    check(&mut worker, token);
    assert_eq!((acks(&mut worker), handed_over(&mut worker)), (vec![None], vec![]));
}

#[test]
fn of_a_strangers_check_nothing_is_taken_and_what_is_no_dtls_is_dropped() {
    let (mut worker, token) = worker();
    worker.apply_connect_transport("peer", DtlsRole::Server, NOW).unwrap();
    check_with(&mut worker, token, Some(CLIENT_HELLO), "of somebody else");
    assert_eq!(handed_over(&mut worker), [[0; 0]; 0]);
    for junk in [&[0x80, 96, 0, 1][..], &[0; 1_200], &[1]] {
        check_with(&mut worker, token, Some(junk), &credentials().password);
        assert_eq!(handed_over(&mut worker), [[0; 0]; 0]);
    }
    assert_eq!(worker.discards.of(Discard::DtlsUnexpected), 3);
    worker.limits.takes_dtls_in_stun = false;
    drain(&mut worker);
    check_with(&mut worker, token, Some(CLIENT_HELLO), &credentials().password);
    assert_eq!((acks(&mut worker), handed_over(&mut worker)), (vec![None], vec![]));
}

/// The handshake threads are everybody's: one peer's datagrams do not keep others' waiting.
#[test]
fn one_peer_has_not_more_datagrams_looked_at_than_a_handshake_takes() {
    let (mut worker, token) = worker();
    check(&mut worker, token);
    worker.actions().clear();
    let handed = |worker: &mut Worker, at: Nanos, count: usize| {
        for _ in 0..count {
            worker.receive(Ingress::Path(PATH), &[22, 254, 253, 0], Arrival::at(at));
        }
        let actions = std::mem::take(worker.actions());
        actions.iter().filter(|action| matches!(action, Action::Dtls { .. })).count()
    };
    assert_eq!(handed(&mut worker, NOW, 1_000), 64);
    assert_eq!(worker.discards.of(Discard::DtlsTooMany), 936);
    // A flight that is repeated after a while is looked at.
    assert_eq!(handed(&mut worker, NOW + SECOND, 100), 40);
}
