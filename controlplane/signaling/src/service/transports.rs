//! Transports: one each way for a participant. (`together` makes them.)

use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::events::Direction;
use crate::failure::Failure;
use crate::payload::{ConnectTransport, TransportOnly, parse};

impl Service {
    pub(super) async fn connect_transport(
        &self,
        socket: Sid,
        direction: Option<Direction>,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: ConnectTransport = parse(payload)?;
        let (host, id) = {
            let seat = self.rooms.seat(socket)?;
            let room = seat.room.lock();
            let id = room.transport(&seat, wanted.transport_id.as_ref(), direction)?;
            (room.router_at(&seat).host, id)
        };
        let dtls = wanted.dtls_parameters;
        self.ask(host, |media| media.connect_transport(id.clone(), dtls.clone())).await?;
        Ok(json!({ "connected": true, "transportId": id }))
    }

    pub(super) async fn restart_ice(&self, socket: Sid, payload: Value) -> Result<Value, Failure> {
        let wanted: TransportOnly = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        let id = seat.room.lock().transport(&seat, Some(&wanted.transport_id), None)?;
        let host = seat.host();
        let ice_parameters = self.ask(host, |media| media.restart_ice(id.clone())).await?;
        // A call may be longer than its first credentials hold.
        let ice_servers = self.settings.ice_servers.of(&seat.session);
        Ok(json!({
            "iceParameters": ice_parameters,
            "transportId": id,
            "iceServers": ice_servers,
        }))
    }
}
