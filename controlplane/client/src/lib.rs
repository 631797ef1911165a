//! Rust client of the control API, over HTTP/3 on QUIC. Signaling and tools use it; it needs only
//! the public types (`ironcast-api`) and never anything of the server.
//!
//! - [`Client`]: one connection, made when it is needed and made again when it broke. Every call of
//!   the API has a method; all are safe to call again, so the client repeats a call once when its
//!   connection was lost under it.
//! - [`EventStream`]: the events, resumed by itself where the connection broke, until the server
//!   says that they are gone ([`EventsError::Lost`]): then take [`Client::snapshot`] and begin
//!   again from its `seq`.
//!
//! ```no_run
//! # async fn example() -> Result<(), ironcast_client::ClientError> {
//! use ironcast_client::{Client, Trust};
//! let client = Client::builder("https://127.0.0.1:7443")
//!     .trust(Trust::File(".run/control-cert.pem".into()))
//!     .build()?;
//! let router = client.create_router(&Default::default()).await?;
//! println!("{}", router.id);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod builder;
mod calls;
mod capture;
mod connection;
mod error;
mod events;

pub use builder::{ClientBuilder, Token, Trust};
pub use calls::ListPage;
pub use capture::Capture;
pub use connection::{Client, RawAnswer};
pub use error::{ClientError, EventsError};
pub use events::EventStream;
