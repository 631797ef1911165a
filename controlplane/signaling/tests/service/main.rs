//! The service with real sockets in front and a media server in memory behind.

mod access;
mod broadcasts;
mod calls;
mod chat;
mod client;
mod coming_and_going;
mod dialects;
mod draining;
mod fake_media;
mod fleet;
mod fleet_failures;
mod hosts;
mod joins;
mod kept;
mod media_away;
mod modes;
mod nodes;
mod pages;
mod postgres;
mod presence;
mod protocol;
mod redis;
mod rights;
mod spread;
mod stage;
mod turn;
