//! The media server is being taken out of service: everybody in a call is told, and who joins
//! later too. Nothing is moved: a call goes on where it is until it ends or is closed there.

use serde_json::json;
use socketioxide::socket::Sid;

use super::Service;
use crate::hosts::HostId;
use crate::media::Draining;
use crate::rooms::Seat;

impl Service {
    /// What the media server said. Told on if it is new.
    pub(crate) fn set_draining(&self, host: HostId, draining: Draining) {
        if !self.host(host).set_draining(draining) {
            return;
        }
        tracing::info!(host = %self.host(host), ?draining, "the media server's draining");
        for cell in self.rooms.all() {
            let room = cell.lock();
            let theirs = room.participants.values().filter(|it| room.router_of(it).host == host);
            for socket in theirs.filter_map(|participant| participant.socket) {
                self.tell_draining(socket, draining);
            }
        }
    }

    /// Somebody has joined.
    pub(crate) fn tell_if_draining(&self, socket: Sid, seat: &Seat) {
        let draining = self.host(seat.host()).draining();
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
