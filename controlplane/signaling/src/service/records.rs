//! Writes down calls and who is in them (`store::calls`), in the order in which it became true, by a
//! task of its own: nobody waits for it. What does not fit, or cannot be written, is counted and
//! lost. And shows what is written.

use std::sync::Arc;

use ironcast_api::{Id, MediaKind};
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::Service;
use crate::events::Direction;
use crate::failure::Failure;
use crate::rooms::mode::Mode;
use crate::rooms::{Participant, Room, Seat};
use crate::store::calls::{CallParticipant, CallRecord, CallSession, Status};
use crate::store::{Lasting, now_ms};

/// Records that wait to be written.
const WAITING_MAX: usize = 65_536;

/// Records that are written together.
const TOGETHER_MAX: usize = 256;

/// Calls that are read at once. Messages are in the same database, and do not wait behind who asks for
/// calls.
const READ_AT_ONCE_MAX: usize = 4;

/// The way to the writer.
pub(super) struct Records {
    waiting: mpsc::Sender<CallRecord>,
    lost: Counter,
    /// Whoever reads a call holds one.
    reading: Semaphore,
}

impl Records {
    /// Begins to write.
    pub(super) fn new(lasting: Arc<dyn Lasting>, lost: Counter) -> Self {
        let (waiting, records) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(lasting, records, lost.clone()));
        Self { waiting, lost, reading: Semaphore::new(READ_AT_ONCE_MAX) }
    }

    fn say(&self, record: CallRecord) {
        if self.waiting.try_send(record).is_err() {
            self.lost.inc();
        }
    }
}

async fn write(lasting: Arc<dyn Lasting>, mut waiting: mpsc::Receiver<CallRecord>, lost: Counter) {
    let mut is_away = false;
    let mut records = Vec::new();
    while waiting.recv_many(&mut records, TOGETHER_MAX).await > 0 {
        let count = records.len() as u64;
        let written = lasting.note_calls(std::mem::take(&mut records)).await;
        match &written {
            Err(error) => {
                lost.inc_by(count);
                // Said once each time that it goes away, not for each record.
                if !is_away {
                    tracing::warn!(%error, "calls are not written down");
                }
            }
            Ok(()) if is_away => tracing::info!("calls are written down again"),
            Ok(()) => {}
        }
        is_away = written.is_err();
    }
}

/// What somebody has of a kind: what he calls by the first name that fits, or whatever there is.
fn track(participant: &Participant, kind: MediaKind, source: &str) -> Option<Id> {
    let of_kind = || participant.producers.iter().filter(|(_, producer)| producer.kind == kind);
    let named = of_kind().find(|(_, producer)| {
        producer.app_data.as_map().get("source").and_then(Value::as_str) == Some(source)
    });
    named.or_else(|| of_kind().next()).map(|(id, _)| id.clone())
}

impl Service {
    /// A call began, or its media goes another way.
    pub(super) fn record_call(&self, room: &Room, call_id: &Id, mode: Mode) {
        let is_sfu = mode == Mode::Sfu;
        let router = room.main_router();
        let capabilities = router.capabilities.get().filter(|_| is_sfu);
        self.records.say(CallRecord::Session(CallSession {
            call_id: call_id.clone(),
            mode: mode.name().to_owned(),
            router_id: is_sfu.then(|| router.id.clone()),
            rtp_capabilities: capabilities.cloned(),
            started_ms: now_ms(),
            ended_ms: None,
        }));
    }

    /// Nobody is in it any more.
    pub(super) fn record_end(&self, call_id: &Id) {
        self.records.say(CallRecord::Ended { call_id: call_id.clone(), ended_ms: now_ms() });
    }

    /// Somebody of this node came, or something of him is new.
    pub(super) fn record_participant(&self, room: &Room, seat: &Seat) {
        let Ok(participant) = room.participant(seat) else { return };
        if !participant.is_here() {
            return;
        }
        let transport = |direction| participant.transports.get(&direction).cloned();
        let status = match participant.socket {
            Some(_) => Status::Connected,
            None => Status::Reconnecting,
        };
        self.records.say(CallRecord::Participant(CallParticipant {
            call_id: seat.room.id.clone(),
            session: seat.session.clone(),
            participant_id: seat.participant_id.clone(),
            name: participant.name.clone(),
            status,
            joined_ms: now_ms(),
            left_ms: None,
            send_transport_id: transport(Direction::Send),
            recv_transport_id: transport(Direction::Receive),
            audio_producer_id: track(participant, MediaKind::Audio, "microphone"),
            video_producer_id: track(participant, MediaKind::Video, "camera"),
            media_host: self.host(room.router_of(participant).host).about.url.clone(),
        }));
    }

    /// A session of this node ended.
    pub(super) fn record_left(&self, call_id: &Id, session: &Id) {
        let (call_id, session) = (call_id.clone(), session.clone());
        self.records.say(CallRecord::Left { call_id, session, left_ms: now_ms() });
    }

    /// What is written of a call.
    pub async fn call_record(&self, call_id: &Id) -> Result<Value, Failure> {
        let busy = |_| Failure::new("rate_limited", "too many calls are asked for; try again");
        let _one = self.records.reading.try_acquire().map_err(busy)?;
        let call = self.stores.lasting.call(call_id.clone()).await?;
        let (session, participants) = call.ok_or_else(|| Failure::not_found("call", call_id))?;
        let mut shown = json!(session);
        shown["participants"] = json!(participants);
        Ok(shown)
    }
}
