//! The reference signaling service: browsers on one side (Socket.IO and a page), the control API
//! on the other. It owns rooms and participants, and nothing of the media: whatever it wants of
//! the media server it asks for through the public control API, as any other service would.
//!
//! Read it in this order: [`events`] (which names there are), [`gateway`] (a socket's messages, in
//! order, to the handlers), [`service`] (what each event does), [`rooms`] (the state), [`store`] (what outlives a room's lock), [`media`]
//! (what is asked of the control API), [`hosts`] (which of them is asked), [`control`] (the same over QUIC), [`notices`] (what the
//! control API tells us, told on to browsers), [`web`] (page, health, goodbye), [`server`] (the
//! port and its limits). [`echo`] is for the test suites of the protocols alone.
#![forbid(unsafe_code)]

pub mod access;
pub mod broadcast;
pub mod calls;
pub mod certificate;
pub mod control;
pub mod echo;
pub mod events;
pub mod failure;
pub mod gateway;
pub mod hosts;
pub mod ice;
pub mod identity;
pub mod limits;
pub mod media;
pub mod metrics;
pub mod notices;
mod opened;
pub mod payload;
pub mod rooms;
pub mod server;
pub mod service;
pub mod settings;
pub mod store;
pub mod web;
