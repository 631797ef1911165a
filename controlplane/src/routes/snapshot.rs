//! `GET /snapshot`: everything that exists, written router by router while it is sent. Each
//! transport is copied under the lock by itself, so that nobody waits long, and the whole is never
//! in memory. What changes meanwhile may be in it or not; its events come after `seq` in any case.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use ironcast_api::{
    EventSeq, Id, LIST_LIMIT_MAX, Problem, ProducerInfo, TransportInfo, TransportSnapshot,
};
use serde::Serialize;

use crate::{
    auth::Principal,
    call::Call,
    engine::{Engine, State, unavailable},
    registry::{Observer, PackedInfo},
};

/// What is handed to the connection at once.
const PIECE_BYTES: usize = 64 << 10;

/// A snapshot as `doors` needs it.
pub struct Opened {
    /// The body, made as fast as it is taken.
    pub pieces: BoxStream<'static, Bytes>,
    /// The last event that it certainly includes.
    pub seq: EventSeq,
}

/// Where the writing is.
enum Stage {
    /// Between routers.
    Between,
    /// In a router: its transports that are still to come, and its observers behind them.
    In(VecDeque<Id>, VecDeque<Id>),
    /// Behind its transports: its observers that are still to come.
    Observers(VecDeque<Id>),
    Done,
}

struct Writer {
    engine: Arc<Engine>,
    caller: Principal,
    /// What is written already and not handed out.
    out: Vec<u8>,
    stage: Stage,
    /// Of the list that is being written: whether it has something in it.
    has_items: bool,
    /// The router that is being written, behind which the next one is looked for.
    after: Option<Id>,
    /// The only one that is wanted.
    router_id: Option<Id>,
    /// How many routers may still come.
    left: Option<u32>,
}

/// Begins a snapshot.
pub fn open(engine: &Arc<Engine>, call: &Call) -> Result<Opened, Problem> {
    let query = call.query(&["routerId", "after", "limit"])?;
    let (router_id, after, limit) = (query.id("routerId")?, query.after()?, query.number("limit")?);
    if limit.is_some_and(|limit| !(1..=LIST_LIMIT_MAX).contains(&limit)) {
        return Err(Problem::invalid("?limit", format!("limit is 1 to {LIST_LIMIT_MAX}")));
    }
    let (seq, workers) = {
        let state = engine.lock();
        if state.link.is_none() {
            return Err(unavailable("there is no dataplane at the moment"));
        }
        if let Some(id) = &router_id {
            state.registry.router(&call.caller, id)?;
        }
        (state.events.head(), state.workers.infos())
    };
    let mut writer = Writer {
        engine: Arc::clone(engine),
        caller: call.caller.clone(),
        out: Vec::new(),
        stage: Stage::Between,
        has_items: false,
        after,
        left: if router_id.is_some() { Some(1) } else { limit },
        router_id,
    };
    writer.text("{\"seq\":");
    writer.json(&seq);
    writer.text(",\"workers\":");
    writer.json(&workers);
    writer.text(",\"routers\":[");
    let pieces = futures::stream::unfold(writer, |mut writer| async move {
        // A piece takes a millisecond, and a fast reader never waits: others have their turn between.
        tokio::task::yield_now().await;
        writer.piece().map(|piece| (piece, writer))
    });
    Ok(Opened { pieces: pieces.boxed(), seq })
}

/// A transport and what is on it, copied under the lock.
struct Copied {
    transport: TransportInfo,
    producers: Vec<ProducerInfo>,
    consumers: Vec<PackedInfo>,
}

impl Copied {
    fn of(state: &State, who: &Principal, id: &Id, router_id: Option<&Id>) -> Option<Self> {
        let registry = &state.registry;
        let transport = registry.transport(who, id).ok()?;
        if Some(&transport.info.router_id) != router_id {
            return None;
        }
        let producers = transport.producers.iter().filter_map(|id| registry.producers.get(id));
        let consumers = transport.consumers.iter().filter_map(|id| registry.consumers.get(id));
        Some(Self {
            transport: transport.whole_info(),
            producers: producers.map(|producer| producer.info.clone()).collect(),
            consumers: consumers.map(|consumer| consumer.packed_info()).collect(),
        })
    }

    fn unpack(self) -> TransportSnapshot {
        TransportSnapshot {
            transport: self.transport,
            producers: self.producers,
            consumers: self.consumers.into_iter().map(PackedInfo::unpack).collect(),
        }
    }
}

impl Writer {
    fn piece(&mut self) -> Option<Bytes> {
        while self.out.len() < PIECE_BYTES && !matches!(self.stage, Stage::Done) {
            self.step();
        }
        let piece = std::mem::take(&mut self.out);
        (!piece.is_empty()).then(|| piece.into())
    }

    fn step(&mut self) {
        match &mut self.stage {
            Stage::Between => self.next_router(),
            Stage::In(transports, observers) => match transports.pop_front() {
                Some(id) => self.transport(&id),
                None => {
                    let observers = std::mem::take(observers);
                    self.text("],\"observers\":[");
                    self.has_items = false;
                    self.stage = Stage::Observers(observers);
                }
            },
            Stage::Observers(observers) => match observers.pop_front() {
                Some(id) => self.observer(&id),
                None => {
                    self.text("]}");
                    self.has_items = true;
                    self.stage = Stage::Between;
                }
            },
            Stage::Done => {}
        }
    }

    fn next_router(&mut self) {
        let found = {
            let state = self.engine.lock();
            let registry = &state.registry;
            let router = match &self.router_id {
                Some(id) => registry.router(&self.caller, id).ok(),
                None => registry.next_router(&self.caller, self.after.as_ref()),
            };
            router.map(|router| {
                (router.packed_info(), router.transports.clone(), router.observers.clone())
            })
        };
        let Some((packed, transports, observers)) = found else { return self.end(None) };
        if self.left == Some(0) {
            let next_after = if self.router_id.is_some() { None } else { self.after.take() };
            return self.end(next_after);
        }
        self.left = self.left.map(|left| left - 1);
        self.comma();
        let info = packed.unpack();
        self.json(&info);
        // The object goes on with what hangs below.
        self.out.pop();
        self.text(",\"transports\":[");
        self.after = Some(info.id);
        self.has_items = false;
        self.stage = Stage::In(transports.into_iter().collect(), observers.into_iter().collect());
    }

    fn transport(&mut self, id: &Id) {
        // Closed in between: its event comes behind the snapshot. Another may have its id since
        // then, in a router that may be somebody else's.
        let copied = Copied::of(&self.engine.lock(), &self.caller, id, self.after.as_ref());
        let Some(copied) = copied else { return };
        self.comma();
        self.json(&copied.unpack());
        self.has_items = true;
    }

    fn observer(&mut self, id: &Id) {
        let info = {
            let state = self.engine.lock();
            let found = state.registry.observer(&self.caller, id).ok();
            let found = found.filter(|one| Some(&one.info.router_id) == self.after.as_ref());
            found.map(Observer::whole_info)
        };
        let Some(info) = info else { return };
        self.comma();
        self.json(&info);
        self.has_items = true;
    }

    fn end(&mut self, next_after: Option<Id>) {
        self.text("]");
        if let Some(id) = next_after {
            self.text(",\"nextAfter\":");
            self.json(&id);
        }
        self.text("}");
        self.stage = Stage::Done;
    }

    fn comma(&mut self) {
        if self.has_items {
            self.text(",");
        }
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn json(&mut self, value: &impl Serialize) {
        // Writing to memory cannot fail, and nothing here has a key that is no text.
        if let Err(error) = serde_json::to_writer(&mut self.out, value) {
            tracing::error!(%error, "a part of the snapshot cannot be written");
        }
    }
}
