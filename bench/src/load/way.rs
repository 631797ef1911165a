//! The way from a load to its server: the control API, or our signaling service in front of it, as
//! browsers come. Loads ask in the control API's words; a room behind signaling is asked for by the
//! routes of a call over HTTP (`controlplane/signaling/README.md`).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ironcast_load::{
    Control,
    call::{ControlError, text},
    http::PlainHttp,
    ortc::OrtcError,
};
use serde_json::{Value, json};

/// Between two signs of life; after 30 s without one somebody is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// How the people of rooms are called.
pub(super) const PERSON: &str = "person-";

/// One of the two.
pub(super) enum Way {
    /// The server's control API.
    Control(PlainHttp),
    /// Through signaling.
    Signaling(Signaling),
}

/// Signaling, and who shows which token there.
pub(super) struct Signaling {
    http: PlainHttp,
    /// By participant, as rooms call him, and by what he has made there.
    tokens: Mutex<HashMap<String, Seat>>,
}

/// Somebody's place in a room.
#[derive(Debug, Clone)]
struct Seat {
    room: String,
    resume_token: String,
}

impl Signaling {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { http: PlainHttp::new(address), tokens: Mutex::default() }
    }

    /// Whose a name or an id is.
    fn seat(&self, of: &str) -> Option<Seat> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(of).cloned()
    }

    fn keep(&self, of: &str, seat: Seat) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(of.to_owned(), seat);
    }

    async fn owner(&self, of: &str) -> Result<Seat, ControlError> {
        self.seat(of).ok_or_else(|| OrtcError::Field("resumeToken").into())
    }

    /// The seat of a participant, who joins if he has none.
    async fn seat_of(&self, room: &str, name: &str) -> Result<Seat, ControlError> {
        if let Some(seat) = self.seat(name) {
            return Ok(seat);
        }
        let path = format!("/api/calls/{room}/participants");
        let joined = self.http.call("POST", &path, Some(json!({ "name": name }))).await?;
        let resume_token = text(&joined, "resumeToken")?;
        let seat = Seat { room: room.to_owned(), resume_token };
        self.keep(name, seat.clone());
        tokio::spawn(show_life(self.http.clone(), seat.clone()));
        Ok(seat)
    }

    /// A request of somebody who is in a room.
    async fn ask(&self, seat: &Seat, what: &str, mut body: Value) -> Result<Value, ControlError> {
        body["resumeToken"] = json!(seat.resume_token);
        self.http.call("POST", &format!("/api/rooms/{}/{what}", seat.room), Some(body)).await
    }

    async fn leave(&self, name: &str) -> Result<Value, ControlError> {
        let seat = self.owner(name).await?;
        let path = format!("/api/calls/{}/leave", seat.room);
        let body = json!({ "resumeToken": seat.resume_token });
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.http.call("POST", &path, Some(body)).await
    }

    /// Everybody of a room leaves, which ends it.
    async fn end(&self, room: &str) -> Result<Value, ControlError> {
        let people: Vec<String> = {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let is_of_room =
                |name: &str, seat: &Seat| seat.room == room && name.starts_with(PERSON);
            let of_room = tokens.iter().filter(|(name, seat)| is_of_room(name, seat));
            of_room.map(|(name, _)| name.clone()).collect()
        };
        for name in people {
            self.leave(&name).await?;
        }
        Ok(Value::Null)
    }

    async fn translated(
        &self,
        method: &str,
        path: &str,
        mut body: Value,
    ) -> Result<Value, ControlError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match (method, &*parts) {
            ("POST", ["routers"]) => {
                let path = format!("/api/rooms/{}/create", text(&body, "id")?);
                self.http.call("POST", &path, Some(json!({}))).await
            }
            ("DELETE", ["routers", room]) => self.end(room).await,
            ("POST", ["transports"]) => {
                let (room, name) = (text(&body, "routerId")?, text(&body, "participantId")?);
                let seat = self.seat_of(&room, &name).await?;
                let is_sent = body["appData"]["direction"] == "send";
                let direction = if is_sent { "send" } else { "recv" };
                let made = self.ask(&seat, "transports", json!({ "direction": direction })).await?;
                self.keep(&text(&made, "id")?, seat);
                Ok(made)
            }
            ("POST", ["transports", id, what @ ("connect" | "restart-ice")]) => {
                let seat = self.owner(id).await?;
                self.ask(&seat, &format!("transports/{id}/{what}"), body).await
            }
            ("POST", ["producers"]) => {
                let transport = text(&body, "transportId")?;
                let seat = self.owner(&transport).await?;
                self.ask(&seat, &format!("transports/{transport}/produce"), body).await
            }
            ("POST", ["consumers"]) => {
                let seat = self.owner(&text(&body, "transportId")?).await?;
                let layers = body["preferredLayers"].take();
                let wanted = json!({
                    "transportId": body["transportId"],
                    "producerId": body["producerId"],
                    "rtpCapabilities": body["rtpCapabilities"],
                });
                let made = self.ask(&seat, "consume", wanted).await?;
                let id = text(&made, "id")?;
                if layers.is_object() {
                    let what = format!("consumers/{id}/preferred-layers");
                    self.ask(&seat, &what, layers).await?;
                }
                self.ask(&seat, &format!("consumers/{id}/resume"), json!({})).await?;
                Ok(made)
            }
            ("POST", ["participants", name, "leave"]) if query.starts_with("routerId=") => {
                self.leave(name).await
            }
            _ => Err(ControlError::Unreachable {
                method: method.to_owned(),
                path: path.to_owned(),
                reason: "signaling has no such route".to_owned(),
            }),
        }
    }
}

/// Who asks for nothing has to say now and then that he is there. Ends with his place in the room.
async fn show_life(http: PlainHttp, seat: Seat) {
    let path = format!("/api/calls/{}/heartbeat", seat.room);
    let body = json!({ "resumeToken": seat.resume_token });
    loop {
        tokio::time::sleep(SIGN_OF_LIFE).await;
        if http.call("POST", &path, Some(body.clone())).await.is_err() {
            return;
        }
    }
}

impl Control for Way {
    async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), ControlError> {
        match self {
            Self::Control(http) => http.request(method, path, body).await,
            Self::Signaling(signaling) => {
                let body = body.unwrap_or_else(|| json!({}));
                match signaling.translated(method, path, body).await {
                    Ok(answer) => Ok((200, answer)),
                    Err(ControlError::Refused { status, problem, .. }) => Ok((status, problem)),
                    Err(other) => Err(other),
                }
            }
        }
    }
}
