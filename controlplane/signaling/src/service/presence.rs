//! Who is where, written down for all who share the store: one word after the other, in the order
//! in which it became true, by a task of its own. Nobody waits for it. What is lost because the
//! store is away, or slow, is said again with the next heartbeat, or expires. (The nodes of a fleet
//! write more than that, and read it: `fleet`.)

use std::sync::Arc;
use std::time::Duration;

use ironcast_api::Id;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::Service;
use crate::rooms::mode::Mode;
use crate::rooms::{Departed, Locked, Place, Room, Seat};
use crate::store::{Present, RoomRecord, Shared, StoreError};

/// Words that wait to be written.
const WAITING_MAX: usize = 8_192;

/// How often a record that somebody else changes meanwhile is tried.
const TRIES_MAX: u32 = 5;

/// Something that became true.
pub(super) enum Word {
    Here(Present),
    Lost(Present, Duration),
    Gone(Present),
    Mode(Id, Mode, Option<String>),
    Empty(Id),
}

/// The way to the writer.
pub(super) struct Writer {
    words: mpsc::Sender<Word>,
    lost: Counter,
}

impl Writer {
    /// Begins to write.
    pub(super) fn new(shared: Arc<dyn Shared>, lost: Counter) -> Self {
        let (words, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(shared, waiting, lost.clone()));
        Self { words, lost }
    }

    pub(super) fn say(&self, word: Word) {
        if self.words.try_send(word).is_err() {
            self.lost.inc();
        }
    }
}

async fn write(shared: Arc<dyn Shared>, mut words: mpsc::Receiver<Word>, lost: Counter) {
    let mut is_away = false;
    while let Some(word) = words.recv().await {
        let written = match word {
            Word::Here(who) => shared.enter(who).await,
            Word::Lost(who, window) => shared.disconnecting(who, window).await,
            Word::Gone(who) => shared.leave(who).await,
            Word::Mode(room_id, mode, host) => set_mode(&*shared, room_id, mode, host).await,
            Word::Empty(room_id) => shared.forget_room(room_id).await,
        };
        if written.is_err() {
            lost.inc();
        }
        // Said once each time that it goes away, not for each word.
        match &written {
            Err(error) if !is_away => tracing::warn!(%error, "who is where is not written"),
            Ok(()) if is_away => tracing::info!("who is where is written again"),
            _ => {}
        }
        is_away = written.is_err();
    }
}

/// Another node may change it at the same moment: the later one holds.
async fn set_mode(
    shared: &dyn Shared,
    room_id: Id,
    mode: Mode,
    host: Option<String>,
) -> Result<(), StoreError> {
    for _ in 0..TRIES_MAX {
        let there = shared.room(room_id.clone()).await?;
        let mode = mode.name().to_owned();
        let known = there.as_ref().and_then(|there| there.value.media_host.clone());
        let media_host = host.clone().or(known);
        let expected = there.map(|there| there.version);
        let record = RoomRecord { mode, media_host };
        if shared.set_room(room_id.clone(), expected, record).await? {
            break;
        }
    }
    Ok(())
}

impl Service {
    fn present(&self, room: &Room, seat: &Seat) -> Option<Present> {
        let participant = room.participant(seat).ok()?;
        Some(Present {
            room_id: seat.room.id.clone(),
            participant_id: seat.participant_id.clone(),
            session: seat.session.clone(),
            name: participant.name.clone(),
            node: self.settings.instance.clone(),
        })
    }

    /// Somebody came.
    pub(super) fn note_joined(&self, room: &mut Room, seat: &Seat) {
        self.record_participant(room, seat);
        match &self.fleet {
            Some(fleet) => fleet.note_joined(room, seat),
            None => self.note_here(room, seat),
        }
    }

    /// Something about him is new, or he came back.
    pub(super) fn note_changed(&self, room: &mut Room, seat: &Seat) {
        self.record_participant(room, seat);
        if let Some(fleet) = &self.fleet {
            fleet.note_changed(room, seat);
        }
    }

    /// He says that he is still here.
    pub(super) fn note_here(&self, room: &Room, seat: &Seat) {
        if let Some(fleet) = &self.fleet {
            fleet.note_here(room, seat);
        } else if let Some(who) = self.present(room, seat) {
            self.presence.say(Word::Here(who));
        }
    }

    /// His socket is lost; he may come back.
    pub(super) fn note_lost(&self, room: &mut Room, seat: &Seat, window: Duration) {
        self.record_participant(room, seat);
        if let Some(fleet) = &self.fleet {
            fleet.note_lost(room, seat, window);
        } else if let Some(who) = self.present(room, seat) {
            self.presence.say(Word::Lost(who, window));
        }
    }

    /// He left.
    pub(super) fn note_gone(&self, departed: &Departed, reason: &str) {
        if departed.place != Place::Here {
            return;
        }
        let seat = &departed.seat;
        self.record_left(&seat.room.id, &seat.session);
        if let Some(fleet) = &self.fleet {
            return fleet.note_gone(seat, departed.version, reason);
        }
        self.note_left(seat);
    }

    /// The room is lost with everybody in it.
    pub(super) fn note_all_gone(&self, room: &Locked<'_>) {
        for (id, participant) in room.people_here() {
            let seat = room.seat_of(id, &participant.session);
            self.record_left(&room.cell().id, &participant.session);
            match &self.fleet {
                Some(fleet) => fleet.note_gone(&seat, participant.version + 1, "replaced"),
                None => self.note_left(&seat),
            }
        }
        if self.fleet.is_none() {
            self.presence.say(Word::Empty(room.cell().id.clone()));
        }
    }

    fn note_left(&self, seat: &Seat) {
        self.presence.say(Word::Gone(Present {
            room_id: seat.room.id.clone(),
            participant_id: seat.participant_id.clone(),
            session: seat.session.clone(),
            name: String::new(),
            node: self.settings.instance.clone(),
        }));
    }

    /// Which way a room's media goes.
    pub(super) fn note_mode(&self, room: &Locked<'_>, mode: Mode) {
        let room_id = &room.cell().id;
        self.record_call(room, room_id, mode);
        let media_host = self.host(room.main_router().host).about.url.clone();
        match &self.fleet {
            Some(fleet) => fleet.note_mode(room_id, mode, media_host),
            None => self.presence.say(Word::Mode(room_id.clone(), mode, media_host)),
        }
    }

    /// Nobody is in it any more.
    pub(super) fn note_empty(&self, room_id: &Id) {
        self.record_end(room_id);
        self.presence.say(Word::Empty(room_id.clone()));
    }
}
