//! The media server is being taken out of service: everybody in a call is told, and who joins
//! later too. Nothing is moved: a call goes on where it is until it ends or is closed there.

use std::sync::PoisonError;

use serde_json::json;
use socketioxide::socket::Sid;

use super::Service;
use crate::media::Draining;

impl Service {
    /// What the media server said. Told on if it is new.
    pub(crate) fn set_draining(&self, draining: Draining) {
        let mut known = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *known, draining) == draining {
            return;
        }
        drop(known);
        tracing::info!(?draining, "the media server's draining");
        for socket in self.rooms.sockets() {
            self.tell_draining(socket, draining);
        }
    }

    /// Somebody has joined.
    pub(crate) fn tell_if_draining(&self, socket: Sid) {
        let draining = *self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        if draining != Draining::No {
            self.tell_draining(socket, draining);
        }
    }

    fn tell_draining(&self, socket: Sid, draining: Draining) {
        match draining {
            Draining::No => self.emit(socket, "server-undrained", &json!({})),
            Draining::Until(deadline) => {
                let payload = json!({ "what": "media", "deadline": deadline });
                self.emit(socket, "server-draining", &payload);
            }
        }
    }
}
