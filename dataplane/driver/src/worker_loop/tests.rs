//! Turns of a loop whose engine only counts: what ends one, and what a full one leaves for the next.

use std::net::{TcpStream, UdpSocket};

use super::*;
use crate::mailbox::mailbox;

/// Counts datagrams.
#[derive(Default)]
struct Counter {
    datagrams: usize,
    /// No turn is due; otherwise one always is, so that none sleeps.
    rests: bool,
    /// Portions of output that are left, and how long one takes.
    portions: usize,
    portion_ns: Nanos,
    /// What is sent to the worker when the next portion is asked for.
    sends: Option<(UdpSocket, SocketAddr)>,
    /// When each portion was asked for.
    filled_at: Vec<Nanos>,
    /// Turns after which none was left, or some had waited for long.
    sent: usize,
    /// How many were left when the last datagram came.
    portions_then: usize,
    /// Messages that came, and how long one takes.
    messages: usize,
    message_ns: Nanos,
    /// How many of them were commands; after one of these, so many turns take no others.
    commands: usize,
    command_turns: usize,
    busy_turns: usize,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Command,
    Other,
}

fn spend(time: Nanos) {
    let end = Clock::monotonic() + time;
    while Clock::monotonic() < end {}
}

impl Engine for Counter {
    type Message = Message;
    fn receive(&mut self, _: Inbound, _: &mut [u8], _: Arrival, _: Nanos) {
        self.datagrams += 1;
        self.portions_then = self.portions;
    }
    fn message(&mut self, message: Message, _: &mut Io, _: Nanos) {
        self.messages += 1;
        if message == Message::Command {
            assert!(self.takes_commands());
            self.commands += 1;
            self.busy_turns = self.command_turns;
        }
        spend(self.message_ns);
    }
    fn takes_commands(&self) -> bool {
        self.busy_turns == 0
    }
    fn turn(&mut self, _: &mut Io, _: Nanos) {
        self.busy_turns = self.busy_turns.saturating_sub(1);
    }
    fn incomplete_since(&self) -> Option<Arrival> {
        None
    }
    fn fill(&mut self, _: &mut Batch, now: Nanos) -> bool {
        self.filled_at.push(now);
        if let Some((peer, to)) = self.sends.take() {
            peer.send_to(b"hello", to).unwrap();
        }
        self.portions = self.portions.saturating_sub(1);
        spend(self.portion_ns);
        self.portions > 0
    }
    fn sent(&mut self, _: Nanos) {
        self.sent += 1;
    }
    fn deadline(&self) -> Option<Nanos> {
        (!self.rests).then_some(0)
    }
    fn end(&mut self) {}
    fn path_failed(&mut self, _: PathId, _: io::ErrorKind) {}
}

/// A loop before its first turn.
fn rested<'a>(
    io: &'a mut Io,
    engine: &'a mut Counter,
    mailbox: &'a Receiver<Message>,
) -> Loop<'a, Counter> {
    Loop {
        io,
        engine,
        mailbox,
        mail: Mail::with_room(1),
        mail_is_locked: false,
        waker_armed: false,
        hold_us: 0,
        busy_poll: false,
        received: 0,
        due: None,
        output_since: None,
    }
}

#[test]
fn the_first_turn_waits_for_nothing() {
    let (_sender, mailbox) = mailbox(1).unwrap();
    let mut io = Io::new(&DriverConfig::default(), mailbox.bell()).unwrap();
    let mut engine = Counter { rests: true, ..Counter::default() };
    let mut worker = rested(&mut io, &mut engine, &mailbox);
    worker.turn(&mut SendMessages::new()).unwrap();
    assert_eq!((worker.io.statistics.turns, worker.io.statistics.waits), (1, 0));
    worker.turn(&mut SendMessages::new()).unwrap();
    assert_eq!((worker.io.statistics.turns, worker.io.statistics.waits), (2, 1));
}

/// Turns until so many datagrams have come; fails where they never do.
fn turns(worker: &mut Loop<'_, Counter>, messages: &mut SendMessages, datagrams: usize) {
    let end = Clock::monotonic() + 20 * 1_000 * MS;
    while worker.engine.datagrams < datagrams {
        assert!(Clock::monotonic() < end, "{} datagrams came", worker.engine.datagrams);
        worker.turn(messages).unwrap();
    }
}

/// Each is three calls of the kernel, and others' datagrams wait meanwhile.
#[test]
fn strangers_whose_time_is_over_are_closed_some_in_a_turn() {
    let mut config = DriverConfig::default();
    config.streams.stranger_ms = 1;
    let (_sender, mailbox) = mailbox(1).unwrap();
    let mut io = Io::new(&config, mailbox.bell()).unwrap();
    let mut engine = Counter::default();
    let listener = io.open_stream_listener(([127, 0, 0, 1], 0).into()).unwrap();
    let address = io.local_addr(listener).unwrap();
    let mut messages = SendMessages::new();
    let mut worker = rested(&mut io, &mut engine, &mailbox);
    worker.turn(&mut messages).unwrap();
    let strangers: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let end = Clock::monotonic() + 20 * 1_000 * MS;
    let mut closed = 0;
    while closed < strangers.len() as u64 {
        assert!(Clock::monotonic() < end, "{closed} were closed");
        std::thread::sleep(std::time::Duration::from_millis(2));
        worker.turn(&mut messages).unwrap();
        let now = worker.io.statistics.tcp_timed_out;
        assert!(now - closed <= 16, "{} in one turn", now - closed);
        closed = now;
    }
}

/// Another worker hands over what came to it: connections too, which the kernel takes its time for.
#[test]
fn messages_of_either_kind_are_some_in_a_turn() {
    let (sender, mailbox) = mailbox(200).unwrap();
    let mut io = Io::new(&DriverConfig::default(), mailbox.bell()).unwrap();
    let mut engine = Counter { message_ns: MESSAGES_NS / 4, ..Counter::default() };
    let mut messages = SendMessages::new();
    let mut worker = rested(&mut io, &mut engine, &mailbox);
    let datagram = || sender.offer(Message::Other);
    let result = || sender.deliver(Message::Other).unwrap();
    let command = || sender.send(Message::Command).unwrap();
    let kinds: [&[&dyn Fn()]; 4] =
        [&[&datagram], &[&result], &[&command], &[&datagram, &result, &command]];
    for send in kinds {
        (0..100).for_each(|_| send.iter().for_each(|send| send()));
        (worker.engine.messages, worker.engine.commands) = (0, 0);
        worker.turn(&mut messages).unwrap();
        // Of all kinds together as many as of one, and of each at least one.
        let (first, kinds) = (worker.engine.messages, send.len());
        assert!((kinds..kinds + 4).contains(&first), "{first} in one turn of {kinds} kinds");
        let end = Clock::monotonic() + 20 * 1_000 * MS;
        while worker.engine.messages < 100 * kinds {
            assert!(Clock::monotonic() < end, "{} came", worker.engine.messages);
            let commands = worker.engine.commands;
            worker.turn(&mut messages).unwrap();
            assert!(kinds == 1 || worker.engine.commands > commands, "commands starve");
        }
    }
}

#[test]
fn commands_wait_for_one_that_takes_several_turns_and_their_senders_feel_it() {
    let (sender, mailbox) = mailbox(10).unwrap();
    let mut io = Io::new(&DriverConfig::default(), mailbox.bell()).unwrap();
    let mut engine = Counter { command_turns: 100, ..Counter::default() };
    let mut messages = SendMessages::new();
    let mut worker = rested(&mut io, &mut engine, &mailbox);
    let mut sent = 0;
    for turn in 1..=50 {
        while sender.send(Message::Command).is_ok() {
            sent += 1;
        }
        sender.deliver(Message::Other).unwrap();
        sender.offer(Message::Other);
        worker.turn(&mut messages).unwrap();
        assert_eq!((worker.engine.commands, worker.engine.messages), (1, 1 + 2 * turn));
    }
    // As many with the worker as in the mailbox.
    assert_eq!(sent, 20);
    (worker.engine.command_turns, worker.engine.busy_turns) = (0, 0);
    let end = Clock::monotonic() + 20 * 1_000 * MS;
    while worker.engine.commands < sent {
        assert!(Clock::monotonic() < end, "{} came", worker.engine.commands);
        worker.turn(&mut messages).unwrap();
    }
}

#[test]
fn output_of_many_portions_lets_what_comes_in_between() {
    let (_sender, mailbox) = mailbox(1).unwrap();
    let mut io = Io::new(&DriverConfig::default(), mailbox.bell()).unwrap();
    let mut engine = Counter { portions: 12, portion_ns: OUTPUT_NS / 2, ..Counter::default() };
    let listener = io.open_listener(([127, 0, 0, 1], 0).into()).unwrap();
    let address = io.local_addr(listener).unwrap();
    let mut messages = SendMessages::new();
    let mut worker = rested(&mut io, &mut engine, &mailbox);
    worker.turn(&mut messages).unwrap();
    assert!((1..12).contains(&worker.engine.portions), "{} are left", worker.engine.portions);
    assert_eq!(worker.engine.sent, 0);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"hello", address).unwrap();
    turns(&mut worker, &mut messages, 1);
    assert!(worker.engine.portions_then > 0);
    // Each portion has the time of its own.
    assert!(worker.engine.filled_at.is_sorted_by(|one, next| one < next));
    assert!(worker.io.statistics.outputs_deferred > 0);
    while worker.engine.portions > 0 {
        // Where the machine takes so long, some has waited for long.
        let is_late = |since| worker.io.clock.now() >= since + OUTPUT_LATE;
        assert!(worker.engine.sent == 0 || worker.output_since.is_some_and(is_late));
        worker.turn(&mut messages).unwrap();
    }
    assert!(worker.engine.sent >= 1);
    // More comes than leaves: then a turn sends for longer, but not for ever. A machine that others
    // use takes time from some turns, not from all of them.
    let sent_most = (0..100).map(|_| {
        worker.engine.portions = 30;
        let long_ago = worker.io.clock.now() - 2 * OUTPUT_LATE;
        worker.output_since = Some(long_ago);
        let sent = worker.engine.sent;
        worker.turn(&mut messages).unwrap();
        assert!(worker.engine.portions > 0);
        assert_eq!(worker.engine.sent, sent + 1, "figures say what waits");
        assert_eq!(worker.output_since, Some(long_ago));
        30 - worker.engine.portions
    });
    assert!(sent_most.max().unwrap() > 2 * OUTPUT_NS.div_ceil(OUTPUT_NS / 2) as usize);
}

/// What comes while output leaves is fanned out before the rest: a turn ends early for it. Where
/// nothing comes it does not.
#[test]
fn what_comes_meanwhile_ends_the_output_of_a_turn_early() {
    let (_sender, mailbox) = mailbox(1).unwrap();
    let mut io = Io::new(&DriverConfig::default(), mailbox.bell()).unwrap();
    let mut engine = Counter { portion_ns: OUTPUT_NS_MIN / 4, ..Counter::default() };
    let listener = io.open_listener(([127, 0, 0, 1], 0).into()).unwrap();
    let address = io.local_addr(listener).unwrap();
    let mut messages = SendMessages::new();
    let mut worker = rested(&mut io, &mut engine, &mailbox);
    worker.turn(&mut messages).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    // A machine that others use takes time from some turns, not from all of them.
    let mut most = |comes: bool| {
        let portions = (0..50).map(|_| {
            worker.engine.portions = 1_000;
            worker.output_since = None;
            worker.engine.sends = comes.then(|| (peer.try_clone().unwrap(), address));
            worker.turn(&mut messages).unwrap();
            1_000 - worker.engine.portions
        });
        portions.max().unwrap()
    };
    let (alone, disturbed) = (most(false), most(true));
    assert!(disturbed < alone / 2, "{disturbed} and {alone} portions");
}

#[test]
fn a_worker_hears_again_after_the_kernel_lost_completions() {
    let config = DriverConfig { receive_buffers: 16, ..DriverConfig::default() };
    let (_sender, mailbox) = mailbox(1).unwrap();
    let mut io = Io::new(&config, mailbox.bell()).unwrap();
    let mut engine = Counter::default();
    let listener = io.open_listener(([127, 0, 0, 1], 0).into()).unwrap();
    let address = io.local_addr(listener).unwrap();
    let mut messages = SendMessages::new();
    let mut worker = rested(&mut io, &mut engine, &mailbox);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |count: usize| {
        (0..count).for_each(|_| assert_eq!(peer.send_to(b"hello", address).unwrap(), 5));
    };
    worker.turn(&mut messages).unwrap();
    send(8);
    turns(&mut worker, &mut messages, 8);
    for round in 1..=(2 * crate::ring::EPOCHS as usize) {
        // Lost: what filled every buffer, and that the receive has ended.
        send(17);
        let ring = &mut worker.io.ring;
        assert!(ring.cancel_all());
        while ring.is_ready() {
            ring.run_deferred().unwrap();
            ring.collect();
            ring.completed.clear();
        }
        ring.has_lost = true;
        let before = worker.engine.datagrams;
        worker.turn(&mut messages).unwrap();
        assert_eq!(worker.io.statistics.completions_lost, round as u64);
        send(40);
        turns(&mut worker, &mut messages, before + 40);
        assert_eq!(worker.io.statistics.receive_errors, 0);
    }
}
