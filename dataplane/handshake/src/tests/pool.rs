//! The threads: that many get through, that limits hold and are given back, and that a fault costs
//! what was at hand and no more.

use std::{sync::Mutex, time::Instant};

use super::*;

const WAIT: Duration = Duration::from_secs(20);

/// Pools talk to each other by their callbacks.
struct Peers {
    pools: [Pool; 2],
    members: [Handshakes; 2],
    events: [mpsc::Receiver<(TransportToken, Output)>; 2],
    certificates: [Certificate; 2],
}

impl Peers {
    fn new(config: &PoolConfig) -> Self {
        let certificates = [(); 2].map(|()| Certificate::generate().unwrap());
        let pools = [0, 1].map(|side: usize| {
            Pool::start(config.clone(), certificates[side].clone(), || {}).unwrap()
        });
        let [(a, from_a), (b, from_b)] = [0, 1].map(|side: usize| join(&pools[side]));
        Self { pools, members: [a, b], events: [from_a, from_b], certificates }
    }

    fn begin(&self, side: usize, token: TransportToken, role: Role) -> Result<(), PoolFull> {
        self.members[side].begin(token, role, self.certificates[1 - side].fingerprints())
    }

    /// Carries datagrams until `count` other outputs of both sides have come.
    fn exchange(&self, count: usize) -> Vec<(usize, TransportToken, Output)> {
        let mut seen = vec![];
        let give_up = Instant::now() + Duration::from_secs(60);
        while seen.len() < count {
            assert!(Instant::now() < give_up, "{seen:?}");
            for side in 0..2 {
                match self.events[side].recv_timeout(Duration::from_millis(1)) {
                    Ok((token, Output::Datagram(bytes))) => {
                        self.members[1 - side].datagram(token, &bytes);
                    }
                    Ok((token, output)) => seen.push((side, token, output)),
                    Err(_) => {}
                }
            }
        }
        seen
    }

    fn connect(&self, token: TransportToken) {
        self.begin(0, token, Role::Client).unwrap();
        self.begin(1, token, Role::Server).unwrap();
        let outputs = self.exchange(2);
        assert!(outputs.iter().all(|(_, _, output)| matches!(output, Output::Connected(_))));
    }

    fn counts(&self, side: usize) -> PoolCounts {
        self.pools[side].counts()()
    }
}

fn join(pool: &Pool) -> (Handshakes, mpsc::Receiver<(TransportToken, Output)>) {
    let (sender, receiver) = mpsc::channel();
    let member = pool.join(move |token, output| {
        let _ = sender.send((token, output));
    });
    (member, receiver)
}

/// Tries again until it is taken: threads count on their own.
fn eventually(mut taken: impl FnMut() -> bool) {
    let give_up = Instant::now() + WAIT;
    while !taken() {
        assert!(Instant::now() < give_up);
        std::thread::yield_now();
    }
}

#[test]
fn a_pool_connects_many_and_hears_their_goodbyes() {
    let peers = Peers::new(&PoolConfig { threads: 2, ..PoolConfig::default() });
    for token in 0..30 {
        peers.begin(0, token, Role::Client).unwrap();
        peers.begin(1, token, Role::Server).unwrap();
    }
    for (side, token, output) in peers.exchange(60) {
        let Output::Connected(keys) = output else { panic!("{output:?}") };
        if side == 0 {
            peers.members[1].datagram(token, &keys.goodbye);
        }
    }
    let outputs = peers.exchange(30);
    assert!(outputs.iter().all(|(side, _, output)| *side == 1 && *output == Output::Closed));
    assert_eq!(peers.counts(1), PoolCounts { connected: 30, ..PoolCounts::default() });
}

#[test]
fn datagrams_that_are_faster_than_signalling_are_kept_within_bounds() {
    let config = PoolConfig { early_transports_max: 1, ..PoolConfig::default() };
    let peers = Peers::new(&config);
    peers.begin(0, 1, Role::Client).unwrap();
    let (token, output) = peers.events[0].recv_timeout(WAIT).unwrap();
    let Output::Datagram(hello) = output else { panic!("{output:?}") };
    for _ in 0..6 {
        peers.members[1].datagram(token, &hello);
        peers.members[1].datagram(2, &hello);
    }
    peers.begin(1, 1, Role::Server).unwrap();
    assert_eq!(peers.exchange(2).len(), 2);
    assert_eq!(peers.counts(1).early_dropped, 2 + 6);
}

#[test]
fn handshakes_that_are_done_make_room_for_others() {
    let config = PoolConfig { handshakes_max: 2, ..PoolConfig::default() };
    let peers = Peers::new(&config);
    (0..6).for_each(|token| peers.connect(token));
    eventually(|| peers.begin(1, 6, Role::Server).is_ok());
    eventually(|| peers.begin(1, 7, Role::Server).is_ok());
    assert_eq!(peers.begin(1, 8, Role::Server), Err(PoolFull::Handshakes));
    peers.members[1].remove(7).unwrap();
    eventually(|| peers.begin(1, 8, Role::Server).is_ok());
    assert_eq!(peers.begin(1, 9, Role::Server), Err(PoolFull::Handshakes));
    // Once more the same takes no room.
    peers.members[1].remove(8).unwrap();
    for _ in 0..9 {
        eventually(|| peers.begin(1, 6, Role::Server).is_ok());
    }
    eventually(|| peers.begin(1, 10, Role::Server).is_ok());
}

#[test]
fn workers_share_the_threads_and_not_their_transports() {
    let config = PoolConfig { handshakes_max: 1, ..PoolConfig::default() };
    let peers = Peers::new(&config);
    peers.connect(1);
    // Another worker, or the next run of the same one, has a transport of the same number.
    let (other, events) = join(&peers.pools[1]);
    let fingerprints = peers.certificates[0].fingerprints();
    eventually(|| other.begin(1, Role::Client, fingerprints.clone()).is_ok());
    assert!(matches!(events.recv_timeout(WAIT), Ok((1, Output::Datagram(_)))));
    assert_eq!(peers.begin(1, 2, Role::Server), Err(PoolFull::Handshakes));
    // It ends in the middle of its handshake, which makes room.
    drop(other);
    eventually(|| peers.begin(1, 2, Role::Server).is_ok());
    while events.recv_timeout(WAIT).is_ok() {}
    assert_eq!(events.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn what_is_too_long_is_dropped() {
    let peers = Peers::new(&PoolConfig { datagrams_max: 1, ..PoolConfig::default() });
    for _ in 0..3 {
        peers.members[1].datagram(3, &[0; 5_000]);
    }
    assert_eq!(peers.counts(1).datagrams_dropped, 3);
    peers.connect(4);
}

#[test]
fn each_thread_is_prepared_before_it_works() {
    let (sender, names) = mpsc::channel();
    let sender = Mutex::new(sender);
    let prepare = move || {
        let name = std::thread::current().name().map(str::to_owned);
        sender.lock().unwrap().send(name).unwrap();
    };
    let config = PoolConfig { threads: 2, ..PoolConfig::default() };
    drop(Pool::start(config, Certificate::generate().unwrap(), prepare).unwrap());
    let mut names: Vec<_> = names.iter().flatten().collect();
    names.sort();
    assert_eq!(names, ["handshake-0", "handshake-1"]);
}

/// Panics at its first datagram, and blocks its thread as long as it is told to.
struct Broken(Arc<Mutex<()>>);

impl Association for Broken {
    fn handle_datagram(&mut self, datagram: &[u8], _: Nanos) {
        // The lock is free of poison: nobody panics with it.
        drop(self.0.lock());
        assert!(datagram.is_empty(), "broken on purpose");
    }
    fn handle_timeout(&mut self, _: Nanos) {}
    fn poll(&mut self) -> Option<Output> {
        None
    }
    fn deadline(&self) -> Option<Nanos> {
        None
    }
}

#[test]
fn a_panic_ends_one_association_and_a_full_queue_drops_datagrams() {
    let gate = Arc::new(Mutex::new(()));
    let config = PoolConfig { datagrams_max: 2, ..PoolConfig::default() };
    let broken = gate.clone();
    let factory =
        move |_, _: &[Fingerprint], _| Box::new(Broken(broken.clone())) as Box<dyn Association>;
    let pool = Pool::start_with(config, factory, || {}).unwrap();
    let (member, events) = join(&pool);
    member.begin(1, Role::Server, vec![]).unwrap();
    member.begin(2, Role::Server, vec![]).unwrap();
    member.datagram(1, b"x");
    // The peer is told (80: internal error), and again when it repeats itself.
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 2, 2, 80];
    let told = Ok((1, Output::Datagram(alert.to_vec())));
    assert_eq!(events.recv_timeout(WAIT), Ok((1, Output::Failed(Failure::Internal))));
    assert_eq!(events.recv_timeout(WAIT), told);
    member.datagram(1, &[22; 60]);
    assert_eq!(events.recv_timeout(WAIT), told);
    let counts = pool.counts();
    {
        let _closed = gate.lock().unwrap();
        // At most one is being handled and two wait.
        (0..10).for_each(|_| member.datagram(2, b""));
        assert!((7..=8).contains(&counts().datagrams_dropped));
    }
    // The thread is alive; it may still have to empty its queue.
    eventually(|| {
        member.datagram(2, b"x");
        events.try_recv() == Ok((2, Output::Failed(Failure::Internal)))
    });
    assert_eq!((counts().panics, counts().thread_failures), (2, 0));
}

#[test]
fn a_thread_that_fails_says_so_and_goes_on() {
    let config = PoolConfig { handshakes_max: 3, ..PoolConfig::default() };
    let peers = Peers::new(&config);
    peers.connect(1);
    for token in [2, 3] {
        eventually(|| peers.begin(1, token, Role::Server).is_ok());
    }
    // A callback that panics is nothing that belongs to one association.
    let breaking = peers.pools[1].join(|_, _| panic!("broken on purpose"));
    let fingerprints = peers.certificates[0].fingerprints();
    breaking.begin(9, Role::Client, fingerprints).unwrap();
    // Its handshakes have failed; what is connected stays so.
    let failed = |token| (1, token, Output::Failed(Failure::Internal));
    assert_eq!(peers.exchange(2), [failed(2), failed(3)]);
    drop(breaking);
    let counts = peers.counts(1);
    assert_eq!((counts.thread_failures, counts.failed_internal), (1, 3));
    // Others get through, as many at once as before.
    for token in 4..7 {
        eventually(|| peers.begin(1, token, Role::Server).is_ok());
    }
    peers.begin(0, 4, Role::Client).unwrap();
    let outputs = peers.exchange(2);
    assert!(outputs.iter().all(|(_, _, output)| matches!(output, Output::Connected(_))));
}
