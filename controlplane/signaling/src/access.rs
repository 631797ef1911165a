//! Who may do what, where the operator wants to know: each socket and each request shows a token
//! (a JSON Web Token, in the handshake's `auth`, the header `Authorization` or the cookie
//! `access_token`), and its claims say who he is, into which rooms he may go, and as what. Without
//! keys in the configuration everybody may do everything but what needs a moderator.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use ironcast_api::Id;
use ironcast_tokens::{Expected, Keys, LEEWAY_S};
use salvo::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::events::{Action, Direction};
use crate::failure::Failure;
use crate::payload::NAME_CHARACTERS_MAX;

/// The cookie with a token.
const COOKIE: &str = "access_token";

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Mute and remove others, end the call for all; and what everybody may.
    Moderator,
    /// Send and receive.
    #[default]
    #[serde(alias = "user")]
    Participant,
    /// Receive, and write.
    Viewer,
}

/// Whom a token is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// His id in every room.
    pub id: Id,
    /// What others read, if the token says it.
    pub name: Option<String>,
    /// The rooms that he may go into; none: all.
    pub rooms: Option<Vec<Id>>,
    /// As what.
    pub role: Role,
    /// When his token ends.
    pub until: SystemTime,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    name: Option<String>,
    room: Option<Id>,
    rooms: Option<Vec<Id>>,
    #[serde(default)]
    role: Role,
}

/// Verifies tokens.
#[derive(Debug, Clone)]
pub struct Access {
    keys: Keys,
    expected: Expected,
}

/// What who does not show who he is is told.
pub fn unauthorized(why: &str) -> Failure {
    Failure::new("unauthorized", why)
}

/// What somebody who may not is told.
pub fn forbidden(why: &str) -> Failure {
    Failure::new("forbidden", why)
}

impl Access {
    /// By the keys of a file: a JWK Set, or PEM.
    pub fn new(keys: &str, expected: Expected) -> Result<Self, String> {
        Ok(Self { keys: Keys::parse(keys)?, expected })
    }

    /// Whose token it is.
    pub fn user(&self, token: Option<&str>) -> Result<User, Failure> {
        let token = token.ok_or_else(|| {
            unauthorized(
                "show a token: in auth, the header Authorization or the cookie access_token",
            )
        })?;
        let claims: Claims = self.keys.verify(token, &self.expected).map_err(|why| match why {
            "this token has expired" => Failure::new("token_expired", why),
            other => unauthorized(other),
        })?;
        if claims.sub.is_empty() {
            return Err(unauthorized("the subject of this token is empty"));
        }
        let rooms = match (claims.room, claims.rooms) {
            (None, None) => None,
            (room, rooms) => Some(room.into_iter().chain(rooms.into_iter().flatten()).collect()),
        };
        // A cast of what is too large, or below 0, ends at the bound.
        let seconds = (claims.exp as u64).saturating_add(LEEWAY_S).min(u32::MAX.into());
        let until = UNIX_EPOCH + Duration::from_secs(seconds);
        Ok(User {
            id: id_of(&claims.sub),
            name: claims.name.and_then(|it| shown(&it)),
            rooms,
            role: claims.role,
            until,
        })
    }
}

/// A subject may have signs that an id has not.
fn id_of(subject: &str) -> Id {
    Id::new(subject).unwrap_or_else(|_| {
        let hash = digest(&SHA256, subject.as_bytes());
        let hex = hash
            .as_ref()
            .iter()
            .take(16)
            .fold("user-".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        Id::new(hex).expect("made of valid characters")
    })
}

fn shown(name: &str) -> Option<String> {
    let clean = name.trim().chars().filter(|sign| !sign.is_control());
    let clean: String = clean.take(NAME_CHARACTERS_MAX).collect();
    (!clean.is_empty()).then_some(clean)
}

/// The token of a handshake or a request.
pub fn token_of(auth: Option<&Value>, headers: &HeaderMap) -> Option<String> {
    let said = auth.and_then(|auth| {
        let said = ["token", "access_token"].into_iter().find_map(|key| auth.get(key));
        said.and_then(Value::as_str)
    });
    if let Some(said) = said {
        return Some(said.strip_prefix("Bearer ").unwrap_or(said).to_owned());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    bearer.or_else(|| {
        let mut cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        cookies.find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == COOKIE).then(|| value.trim_matches('"').to_owned())
        })
    })
}

impl User {
    /// Whether his token still holds.
    pub fn check_time(&self) -> Result<(), Failure> {
        if self.until > SystemTime::now() {
            return Ok(());
        }
        Err(Failure::new("token_expired", "this token has expired"))
    }

    /// Whether he may go into a room; `None` for one that has no name yet.
    pub fn check_room(&self, room_id: Option<&Id>) -> Result<(), Failure> {
        let may = match (&self.rooms, room_id) {
            (None, _) => true,
            (Some(rooms), Some(id)) => rooms.contains(id),
            (Some(_), None) => false,
        };
        if may { Ok(()) } else { Err(forbidden("your token is not for this room")) }
    }
}

/// Whether a role may do something at all.
pub fn check_action(role: Role, action: Action) -> Result<(), Failure> {
    match action {
        Action::MuteParticipant | Action::RemoveParticipant | Action::EndRoom
            if role != Role::Moderator =>
        {
            Err(forbidden("only a moderator may do this"))
        }
        Action::CreateTransport(Some(Direction::Send))
        | Action::Produce
        | Action::Relay(_)
        | Action::StartBroadcast
        | Action::StopBroadcast
            if role == Role::Viewer =>
        {
            Err(forbidden("a viewer sends nothing, and broadcasts nothing"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use salvo::http::{HeaderMap, HeaderValue, header};
    use serde_json::json;

    use super::{Role, check_action, id_of, token_of};
    use crate::events::{Action, Direction};

    #[test]
    fn a_token_is_found_wherever_it_is_shown() {
        let mut headers = HeaderMap::new();
        assert_eq!(token_of(None, &headers), None);
        let cookies = "theme=dark; access_token=by.the.cookie; access_tokens=x";
        headers.insert(header::COOKIE, HeaderValue::from_static(cookies));
        assert_eq!(token_of(None, &headers).as_deref(), Some("by.the.cookie"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer by.the.header"));
        assert_eq!(token_of(None, &headers).as_deref(), Some("by.the.header"));
        for auth in [json!({ "token": "Bearer by.auth" }), json!({ "access_token": "by.auth" })] {
            assert_eq!(token_of(Some(&auth), &headers).as_deref(), Some("by.auth"));
        }
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic dXNlcg=="));
        assert_eq!(token_of(Some(&json!(7)), &headers).as_deref(), Some("by.the.cookie"));
    }

    #[test]
    fn any_subject_is_an_id_and_two_are_two() {
        assert_eq!(id_of("ada.l"), *"ada.l");
        let (one, other) = (id_of("auth0|7"), id_of("auth0|8"));
        assert!(one.starts_with("user-") && one != other);
        assert_eq!(one, id_of("auth0|7"));
        id_of(&"x".repeat(1_000));
    }

    #[test]
    fn roles_may_what_they_are_for() {
        let send = Action::CreateTransport(Some(Direction::Send));
        for (role, action, may) in [
            (Role::Moderator, Action::EndRoom, true),
            (Role::Moderator, Action::Produce, true),
            (Role::Participant, Action::EndRoom, false),
            (Role::Participant, Action::MuteParticipant, false),
            (Role::Participant, Action::RemoveParticipant, false),
            (Role::Participant, Action::Produce, true),
            (Role::Viewer, Action::Produce, false),
            (Role::Viewer, send, false),
            (Role::Viewer, Action::Consume, true),
            (Role::Viewer, Action::ChatMessage, true),
        ] {
            assert_eq!(check_action(role, action).is_ok(), may, "{role:?} {action:?}");
        }
    }
}
