//! Participants without a socket: each step of a call is a request over HTTP (`calls`). Whoever joins
//! so has a seat as everybody has, where a made-up id stands in a socket's place. His requests are
//! done one after the other, and no faster than a socket's messages. He stays for as long as he
//! asks for something now and then; a socket that shows his resume token takes over his seat, and
//! his requests go on beside it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ironcast_api::Id;
use salvo::http::HeaderMap;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::{From, Service};
use crate::access::{Role, User, forbidden, token_of};
use crate::events::Action;
use crate::failure::Failure;
use crate::limits::{Bucket, Turn};
use crate::rooms::Seat;

/// Longest that one request takes, its turn included.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// Participants who came over HTTP, and when they asked for something last.
#[derive(Default)]
pub(super) struct Callers {
    heard: Mutex<HashMap<Sid, Instant>>,
}

impl Callers {
    fn heard(&self) -> MutexGuard<'_, HashMap<Sid, Instant>> {
        self.heard.lock().expect("nobody panics with it")
    }

    fn begin(&self) -> Sid {
        let socket = Sid::new();
        self.heard().insert(socket, Instant::now());
        socket
    }

    fn hear(&self, socket: Sid) {
        if let Some(at) = self.heard().get_mut(&socket) {
            *at = Instant::now();
        }
    }

    fn silent_for(&self, socket: Sid) -> Option<Duration> {
        self.heard().get(&socket).map(Instant::elapsed)
    }

    pub(super) fn has(&self, socket: Sid) -> bool {
        self.heard().contains_key(&socket)
    }
}

fn late() -> Failure {
    Failure::new("timeout", "this took too long")
}

impl Service {
    /// Somebody joins, or comes back with his resume token.
    pub async fn join_by_http(
        self: &Arc<Self>,
        address: IpAddr,
        headers: &HeaderMap,
        payload: Value,
    ) -> Result<Value, Failure> {
        let socket = self.callers.begin();
        if let Err(failure) = self.admit(socket, None, headers) {
            self.end_caller(socket);
            return Err(failure);
        }
        self.note_region(socket, headers);
        let service = Arc::clone(self);
        // Who does not wait for the answer must not leave a seat behind that nobody looks after.
        let joining = tokio::spawn(async move {
            let answer = service.do_one(From { socket, address }, Action::JoinRoom, payload).await;
            match &answer {
                Ok(_) => drop(tokio::spawn(end_when_silent(Arc::clone(&service), socket))),
                Err(_) => service.end_caller(socket),
            }
            answer
        });
        joining.await.unwrap_or_else(|_| Err(late()))
    }

    /// A participant asks for something, and shows who he is by his resume token.
    pub async fn ask_by_http(
        self: &Arc<Self>,
        address: IpAddr,
        headers: &HeaderMap,
        (room_id, resume_token): (&Id, &str),
        action: Action,
        payload: Value,
    ) -> Result<Value, Failure> {
        let (seat, turn, user) = self.seat_by_token(headers, room_id, resume_token)?;
        let turn = tokio::time::timeout(REQUEST_TIME_MAX, turn.lock_owned()).await;
        let mut bucket = turn.map_err(|_| late())?;
        let now = Instant::now();
        let (per_s, burst) = (
            self.settings.requests_per_socket_per_s.into(),
            self.settings.requests_per_socket_burst.into(),
        );
        let bucket_now = bucket.get_or_insert_with(|| Bucket::new(per_s, burst, now));
        tokio::time::sleep(bucket_now.take_in_advance(now)).await;
        // His socket may be another one by now.
        let socket = seat.room.lock().participant(&seat)?.socket;
        let socket = socket.ok_or_else(away)?;
        self.callers.hear(socket);
        self.renew_user(socket, &seat, user);
        let service = Arc::clone(self);
        // What was begun is done, whether anybody waits for it or not.
        let asking = tokio::spawn(async move {
            let answer = service.do_one(From { socket, address }, action, payload).await;
            drop(bucket);
            answer
        });
        asking.await.unwrap_or_else(|_| Err(late()))
    }

    /// A room with its router, before anybody is in it; `payload` as of `createRoom`.
    pub async fn create_by_http(
        self: &Arc<Self>,
        address: IpAddr,
        headers: &HeaderMap,
        room_id: Id,
        payload: Value,
    ) -> Result<Value, Failure> {
        let socket = Sid::new();
        self.admit(socket, None, headers)?;
        self.note_region(socket, headers);
        let service = Arc::clone(self);
        // Who does not wait for the answer must not leave his name, or a router, behind.
        let creating = tokio::spawn(async move {
            let from = From { socket, address };
            let created = service.create_with_router(from, &room_id, payload).await;
            service.forget_user(socket);
            created
        });
        creating.await.unwrap_or_else(|_| Err(late()))
    }

    async fn create_with_router(
        self: &Arc<Self>,
        from: From,
        room_id: &Id,
        payload: Value,
    ) -> Result<Value, Failure> {
        let region = payload.get("region").and_then(Value::as_str).map(str::to_owned);
        let region = self.region_of(from.socket, region);
        self.do_one(from, Action::CreateRoom, payload).await?;
        let room = self.rooms.room(room_id).ok_or_else(Failure::not_in_room)?;
        self.open(&room).await?;
        self.make_router(&room, region.as_deref()).await?;
        let router = Arc::clone(&room.lock().router);
        let capabilities = self.router_of(&router, room_id).await?;
        // Nobody came in time, and what was deleted then may have been made after it.
        if room.lock().is_closed() {
            self.close_shared(&room, router);
            return Err(Failure::not_found("room", room_id));
        }
        Ok(json!({ "roomId": room_id, "routerId": router.id, "rtpCapabilities": capabilities }))
    }

    /// Whose resume token it is, where he is in the room.
    pub fn participant_of(&self, room_id: &Id, resume_token: &str) -> Option<Id> {
        let session = self.settings.tokens.session(room_id, resume_token)?;
        let seat = self.rooms.room(room_id)?.lock().seat_of_session(&session)?;
        Some(seat.participant_id)
    }

    async fn do_one(
        self: &Arc<Self>,
        from: From,
        action: Action,
        payload: Value,
    ) -> Result<Value, Failure> {
        let doing = self.handle_all(from, vec![(action, payload)]);
        let answers = tokio::time::timeout(REQUEST_TIME_MAX, doing).await;
        answers.unwrap_or_default().pop().unwrap_or_else(|| Err(late()))
    }

    /// A request shows a token of its own, which may be good for longer, or for something else, than the
    /// one of the join. A socket keeps the one that it came in with.
    fn renew_user(self: &Arc<Self>, socket: Sid, seat: &Seat, user: Option<User>) {
        let Some(user) = user else { return };
        // Held, so that he does not end meanwhile: who is forgotten does not come back.
        let heard = self.callers.heard();
        if !heard.contains_key(&socket) {
            return;
        }
        let (now, before) = (user.role, self.role(socket));
        self.users().insert(socket, user);
        drop(heard);
        if now == Role::Viewer && before != Role::Viewer {
            self.silence(seat);
        }
    }

    fn seat_by_token(
        &self,
        headers: &HeaderMap,
        room_id: &Id,
        resume_token: &str,
    ) -> Result<(Seat, Turn, Option<User>), Failure> {
        let user = match &self.settings.access {
            Some(access) => Some(access.user(token_of(None, headers).as_deref())?),
            None => None,
        };
        let session = self.settings.tokens.session(room_id, resume_token);
        let session = session.ok_or_else(Failure::not_in_room)?;
        let room = self.rooms.room(room_id).ok_or_else(Failure::not_in_room)?;
        let locked = room.lock();
        let seat = locked.seat_of_session(&session).ok_or_else(Failure::not_in_room)?;
        if let Some(user) = &user {
            user.check_room(Some(room_id))?;
            if user.id != seat.participant_id {
                return Err(forbidden("this resume token is somebody else's"));
            }
        }
        let participant = locked.participant(&seat)?;
        participant.socket.ok_or_else(away)?;
        let turn = Arc::clone(&participant.turn);
        drop(locked);
        Ok((seat, turn, user))
    }

    fn end_caller(self: &Arc<Self>, socket: Sid) {
        self.callers.heard().remove(&socket);
        self.lose_socket(socket);
        self.forget_user(socket);
    }
}

/// He is in the room, and nothing connects him to this node.
fn away() -> Failure {
    Failure::new("not_in_room", "you were away for too long: join again with your resumeToken")
}

/// Who asks for nothing any more is lost as a socket is: he may come back for the reconnect window.
async fn end_when_silent(service: Arc<Service>, socket: Sid) {
    let patience = service.settings.caller_silence_max;
    while let Some(silent) = service.callers.silent_for(socket) {
        let left = patience.saturating_sub(silent);
        // He left, or a socket has his seat.
        if left.is_zero() || service.rooms.seat(socket).is_err() {
            break;
        }
        tokio::time::sleep(left).await;
    }
    service.end_caller(socket);
}
