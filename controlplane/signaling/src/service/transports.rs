//! Transports: one each way for a participant. A second of the same way replaces the first.

use std::sync::Arc;

use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::{Service, Thing};
use crate::events::Direction;
use crate::failure::Failure;
use crate::media::NewTransport;
use crate::payload::{ConnectTransport, CreateTransport, DirectionName, TransportOnly, parse};
use crate::rooms::fresh_id;

impl Service {
    pub(super) async fn create_transport(
        self: &Arc<Self>,
        socket: Sid,
        direction: Option<Direction>,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: CreateTransport = parse(payload)?;
        let named = wanted.direction.map(|name| match name {
            DirectionName::Send => Direction::Send,
            DirectionName::Recv => Direction::Receive,
        });
        let direction =
            direction.or(named).ok_or_else(|| Failure::invalid("missing field `direction`"))?;
        let (seat, router) = {
            let mut rooms = self.rooms();
            let seat = rooms.seat(socket)?;
            if let Some(capabilities) = &wanted.rtp_capabilities {
                rooms.participant_mut(&seat)?.capabilities = Some(capabilities.clone());
            }
            let router = rooms.router(&seat)?;
            (seat, router)
        };
        let note = self.transport_note(&seat, direction)?;
        let new = NewTransport {
            id: fresh_id(),
            router_id: router.id.clone(),
            session: seat.session.clone(),
            rtp_capabilities: wanted.rtp_capabilities,
            note,
        };
        let mut making = self.making(Thing::Transport, &new.id);
        let made = making.answered(self.ask(|| self.media.create_transport(new.clone())).await)?;
        let replaced = {
            let mut rooms = self.rooms();
            let dropped = match rooms.participant(&seat) {
                Ok(participant) if participant.transports.contains_key(&direction) => {
                    rooms.drop_carried(&seat, direction)
                }
                _ => Vec::new(),
            };
            self.tell_closed(&mut rooms, &seat, &dropped);
            rooms.add_transport(&seat, direction, &new.id)?
        };
        making.keep();
        if let Some(replaced) = replaced {
            self.free(Thing::Transport, replaced);
        }
        Ok(made)
    }

    pub(super) async fn connect_transport(
        &self,
        socket: Sid,
        direction: Option<Direction>,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: ConnectTransport = parse(payload)?;
        let id = {
            let rooms = self.rooms();
            let seat = rooms.seat(socket)?;
            rooms.transport(&seat, wanted.transport_id.as_ref(), direction)?
        };
        self.ask(|| self.media.connect_transport(id.clone(), wanted.dtls_parameters.clone()))
            .await?;
        Ok(json!({ "connected": true, "transportId": id }))
    }

    pub(super) async fn restart_ice(&self, socket: Sid, payload: Value) -> Result<Value, Failure> {
        let wanted: TransportOnly = parse(payload)?;
        let id = {
            let rooms = self.rooms();
            let seat = rooms.seat(socket)?;
            rooms.transport(&seat, Some(&wanted.transport_id), None)?
        };
        let ice_parameters = self.ask(|| self.media.restart_ice(id.clone())).await?;
        Ok(json!({ "iceParameters": ice_parameters, "transportId": id }))
    }
}
