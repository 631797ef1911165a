//! Closing, in portions: a room of hundreds is tens of thousands of sent tracks, and nobody else on
//! this core waits for all of them. `begin_close_*` names what is to go, [`Worker::close_some`]
//! takes a portion of it away, once a turn. `apply_close_*` does both to the end.
//!
//! ```text
//! room -> producers of all its transports -> their consumers     (one after the other, last first)
//!      -> transports -> their consumers
//! ```
//! Called by the binary for commands, and by [2] `worker.rs` for peers that are gone.

use ironcast_protocol::{CommandError, ErrorCode, Event, Reply, event::TransportCloseReason};

use crate::{
    key::{ConsumerKey, ProducerKey, TransportKey},
    link::{Kind, Protection, webrtc::dtls::say_goodbye},
    producer::Subscriber,
    worker::{Action, Worker},
};

/// Resources that are closed in one turn: some 200 us.
pub const PORTION: usize = 128;
/// A peer counts as so many: its sockets are the kernel's work.
const PEER: usize = 16;

/// What is being closed.
#[derive(Debug)]
pub(crate) enum Closing {
    /// A room: producers first, those of the transports from this one on.
    Room { transports: Vec<TransportKey>, next: usize },
    /// A peer, and why, if that is to be told.
    Transport(TransportKey, Option<TransportCloseReason>),
    /// A received track.
    Producer(ProducerKey),
}

type Outcome<T> = Result<T, CommandError>;

fn not_found(what: &str, id: &str) -> CommandError {
    CommandError::new(ErrorCode::NotFound, format!("there is no {what} {id:?}"))
}

impl Worker {
    /// A room and all in it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn begin_close_router(&mut self, id: &str) -> Outcome<()> {
        let key = self.router_ids.remove(id).ok_or_else(|| not_found("router", id))?;
        if let Some(router) = self.routers.remove(key) {
            for observer in router.observers {
                self.remove_observer(observer);
            }
            for transport in &router.transports {
                self.goes(*transport);
            }
            self.closing.push(Closing::Room { transports: router.transports, next: 0 });
        }
        Ok(())
    }

    /// A peer and all on it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn begin_close_transport(&mut self, id: &str) -> Outcome<()> {
        let key = self.transport_key(id)?;
        self.goes(key);
        self.closing.push(Closing::Transport(key, None));
        Ok(())
    }

    /// A received track and what is made from it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn begin_close_producer(&mut self, id: &str) -> Outcome<()> {
        let key = *self.producer_ids.get(id).ok_or_else(|| not_found("producer", id))?;
        self.closing.push(Closing::Producer(key));
        Ok(())
    }

    /// Closes a consumer.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_close_consumer(&mut self, id: &str) -> Outcome<Reply> {
        for key in self.parts(id).ok_or_else(|| not_found("consumer", id))? {
            self.remove_consumer(key);
        }
        Ok(Reply::Done)
    }

    /// Closes a room and all in it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_close_router(&mut self, id: &str) -> Outcome<Reply> {
        self.begin_close_router(id)?;
        Ok(self.close_all())
    }

    /// Closes a peer and all on it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_close_transport(&mut self, id: &str) -> Outcome<Reply> {
        self.begin_close_transport(id)?;
        Ok(self.close_all())
    }

    /// Closes a producer and what is made from it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_close_producer(&mut self, id: &str) -> Outcome<Reply> {
        self.begin_close_producer(id)?;
        Ok(self.close_all())
    }

    fn close_all(&mut self) -> Reply {
        while self.close_some(&mut { PORTION }) {}
        Reply::Done
    }

    /// True while something is left to be closed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Closes at most `portion` resources, and takes them off it. True when more are left.
    pub fn close_some(&mut self, portion: &mut usize) -> bool {
        while *portion > 0 && self.is_closing() {
            *portion = portion.saturating_sub(self.close_one());
        }
        self.is_closing()
    }

    /// One step: a resource, or a look at one. Returns what it counts.
    fn close_one(&mut self) -> usize {
        match self.closing.last_mut() {
            None => {}
            Some(Closing::Room { transports, next }) => {
                if let Some(transport) = transports.get(*next) {
                    let transport = self.transports.get(*transport);
                    match transport.and_then(|transport| transport.producers.last()) {
                        Some(&producer) => self.closing.push(Closing::Producer(producer)),
                        None => *next += 1,
                    }
                } else if let Some(transport) = transports.pop() {
                    *next = transports.len();
                    self.closing.push(Closing::Transport(transport, None));
                } else {
                    self.closing.pop();
                }
            }
            Some(&mut Closing::Producer(key)) => {
                let producer = self.producers.get_mut(key);
                let subscribers = producer.map(|producer| &mut producer.subscribers);
                match subscribers.as_ref().and_then(|all| all.last()) {
                    Some(&Subscriber::Consumer { key, .. }) => self.remove_consumer(key),
                    // What it has taken stays.
                    Some(Subscriber::Tap(_)) => {
                        if let Some(subscribers) = subscribers {
                            subscribers.pop();
                        }
                    }
                    None => {
                        self.closing.pop();
                        self.remove_producer(key);
                    }
                }
            }
            Some(&mut Closing::Transport(key, reason)) => {
                let transport = self.transports.get(key);
                let first = transport.map(|one| (one.producers.last(), one.consumers.last()));
                match first {
                    Some((Some(&producer), _)) => self.closing.push(Closing::Producer(producer)),
                    Some((None, Some(&consumer))) => self.remove_consumer(consumer),
                    Some((None, None)) => {
                        self.closing.pop();
                        self.remove_transport(key, reason);
                        return PEER;
                    }
                    None => {
                        self.closing.pop();
                    }
                }
            }
        }
        1
    }

    /// The peer is gone: a large transport goes in portions, and is told of at the end.
    pub(crate) fn close_by_itself(&mut self, key: TransportKey, reason: TransportCloseReason) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        if std::mem::replace(&mut transport.is_closing, true) {
            return;
        }
        self.closing.push(Closing::Transport(key, Some(reason)));
        // Many may go at once: all of them have one portion a turn.
        let mut left = std::mem::take(&mut self.closing_left);
        self.close_some(&mut left);
        self.closing_left = left;
    }

    /// A transport is being closed: of what is taken off it, no account is kept any more.
    fn goes(&mut self, key: TransportKey) {
        if let Some(transport) = self.transports.get_mut(key) {
            transport.is_closing = true;
        }
    }

    /// A transport with nothing on it.
    fn remove_transport(&mut self, key: TransportKey, reason: Option<TransportCloseReason>) {
        let Some(transport) = self.transports.remove(key) else {
            return;
        };
        say_goodbye(&transport.link, &mut self.control);
        for path in transport.link.paths() {
            self.leave_path(key, path);
        }
        if let Some(webrtc) = transport.link.as_webrtc() {
            let former = webrtc.ice.former().into_iter();
            for credentials in former.chain([webrtc.ice.credentials()]) {
                self.username_fragments.remove(&credentials.username_fragment);
            }
        }
        if let Kind::Plain(plain) = &transport.link.kind {
            for local in plain.locals() {
                self.plain_sockets.remove(&local);
            }
        }
        self.transport_ids.remove(&transport.id);
        self.seal_keys.set(key.index(), None);
        self.ways.set(key.index(), None);
        self.leave(key, &transport);
        let id = transport.id;
        if let Some(reason) = reason {
            self.events.push(Event::TransportClosed { transport: id.clone(), reason });
        }
        self.actions.push(Action::TransportGone { transport: key.into(), id });
    }

    /// A producer that nobody consumes any more.
    fn remove_producer(&mut self, key: ProducerKey) {
        let Some(mut producer) = self.producers.remove(key) else {
            return;
        };
        self.producer_ids.remove(&producer.id);
        for stream in &mut producer.streams {
            stream.history.clear(&mut self.pool);
        }
        if let Some(transport) = self.transports.get_mut(producer.transport) {
            for stream in &mut producer.streams {
                let media = (stream.ssrc, std::mem::take(&mut stream.index));
                let rtx = (stream.rtx_ssrc, std::mem::take(&mut stream.rtx_index));
                for (ssrc, index) in [media, rtx] {
                    if let Some(ssrc) = ssrc {
                        transport.sources.retire(ssrc, index);
                        transport.rtcp.remove(ssrc);
                    }
                }
            }
            transport.demux.remove(key);
            transport.clocks.remove(key);
        }
        self.unpublish(key, &producer);
        self.leave_selection(key, &producer);
        self.leave_observers(key, producer.observed);
    }

    fn remove_consumer(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.remove(key) else {
            return;
        };
        self.unname_consumer(key, &consumer.id);
        self.unsubscribe(key, &consumer);
        let Some(transport) = self.transports.get_mut(consumer.transport) else {
            return;
        };
        // It never sends under these SSRCs again. In a large room's end this is the half of all work.
        if transport.is_closing {
            return;
        }
        let rtx = consumer.rtx.map(|(ssrc, _)| (ssrc, consumer.rtx_seq));
        let is_sealed = !matches!(transport.link.protection, Protection::None);
        for (ssrc, next) in [(consumer.ssrc, consumer.timeline.next_seq())].into_iter().chain(rtx) {
            transport.consumer_ssrcs.remove(&ssrc);
            transport.retired.put(ssrc, next, is_sealed);
        }
    }
}
