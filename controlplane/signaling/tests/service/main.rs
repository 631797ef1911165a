//! The service with real sockets in front and a media server in memory behind.

mod client;
mod coming_and_going;
mod dialects;
mod draining;
mod fake_media;
mod joins;
mod media_away;
mod pages;
mod rights;
mod stage;
